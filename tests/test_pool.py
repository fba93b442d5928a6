"""The pool of surrogates: one checkpoint each of three defenses, never the attacked one."""

from dataclasses import replace
from fractions import Fraction

import pytest

from harness.campaign.pool import SURROGATES, others_of, pool_of
from harness.catalogue import DEFENSES
from harness.identity import Capabilities, CheckpointRecord
from harness.threat import ThreatModel


@pytest.fixture
def record_of(tmp_path):
    def make(name, letter, defense, **changes):
        record = CheckpointRecord(
            name=name,
            digest=letter * 64,
            kind="trained",
            dataset="digits",
            threat=ThreatModel("linf", Fraction(1, 5)),
            weights=f"{letter}.safetensors",
            weights_sha256="e" * 64,
            capabilities=Capabilities(10),
            defense=defense,
            architecture="small_preactresnet",
        )
        (tmp_path / record.weights).touch()
        return replace(record, **changes)

    return make


def test_the_pool_is_made_of_registered_defenses_without_a_module_of_their_own():
    assert all(name in DEFENSES for name in SURROGATES)


def test_one_of_each_defense_is_taken_the_first_that_fits(record_of, tmp_path):
    mine = record_of("mine", "a", "trades_ancra")
    stored = [
        record_of("first", "b", "pgd_at"),
        record_of("second", "c", "pgd_at"),
        record_of("gated", "d", "trades_ancra"),
        record_of("natural", "e", "standard"),
    ]
    found = pool_of(mine, [mine, *stored], tmp_path)
    assert found == {"e" * 12: stored[3], "b" * 12: stored[0]}
    assert pool_of(mine, [mine, *reversed(stored)], tmp_path).keys() == {"e" * 12, "c" * 12}


def test_a_checkpoint_is_never_its_own_surrogate_nor_under_another_name(record_of, tmp_path):
    mine = record_of("mine", "a", "pgd_at")
    twin = record_of("twin", "a", "pgd_at")
    seed = record_of("seed", "b", "pgd_at")
    assert pool_of(mine, [mine, twin], tmp_path) == {}
    assert pool_of(mine, [mine, twin, seed], tmp_path) == {"b" * 12: seed}


@pytest.mark.parametrize(
    "changes", [{"dataset": "cifar10"}, {"architecture": "resnet18"}, {"weights": "elsewhere"}]
)
def test_another_dataset_or_architecture_or_absent_weights_do_not_fit(record_of, tmp_path, changes):
    mine = record_of("mine", "a", "trades_ancra")
    assert pool_of(mine, [record_of("other", "b", "trades", **changes)], tmp_path) == {}


def test_a_model_of_unknown_architecture_takes_any(record_of, tmp_path):
    mine = record_of("mine", "a", "", kind="added", architecture="")
    other = record_of("other", "b", "trades", architecture="resnet18")
    assert pool_of(mine, [other], tmp_path) == {"b" * 12: other}


def test_attacks_chosen_by_hand_transfer_from_any_other_checkpoint_of_the_dataset(
    record_of, tmp_path
):
    mine = record_of("mine", "a", "pgd_at")
    gated = record_of("gated", "b", "trades_ancra", architecture="resnet18")
    strangers = [record_of("far", "c", "trades", dataset="cifar10"), record_of("t", "a", "trades")]
    assert others_of(mine, [mine, gated, *strangers], tmp_path) == {"b" * 12: gated}
    (tmp_path / gated.weights).unlink()
    assert others_of(mine, [gated], tmp_path) == {}
