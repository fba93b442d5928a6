"""What a number is keyed by: every field is classified here, so that none is added unclassified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.identity import (
    CLEAN,
    CORRECT,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Job,
    Outcome,
    Runtime,
    digest,
)
from harness.store.store import Store
from harness.threat import ThreatModel
from leaderboard import wording

THREAT = ThreatModel("linf", Fraction(8, 255))
PGD = AttackSpec("pgd", "logits", "ce", (("relative_step", 0.1), ("steps", 40)), ())
JOB = Job("a" * 64, "digits", "c" * 64, THREAT, PGD, CORRECT, 0, "float32", 0, 4)

IDENTITY: dict[str, Any] = {
    "checkpoint": "b" * 64,
    "dataset": "cifar10",
    "images": "d" * 64,
    "threat": ThreatModel("linf", Fraction(4, 255)),
    "attack": replace(PGD, parameters=(("relative_step", 0.1), ("steps", 41))),
    "population": "survivors:standard-1",
    "seed": 1,
    "precision": "float16",
    "first": 1,
    "last": 3,
}
"""Every field of a job, with another value than `JOB` has."""

RUNTIME: dict[str, Any] = {"device": "cuda", "batch_size": 7, "workers": 3, "time_limit": 60.0}
"""Every field of a runtime, with another value than the default."""

SPEC: dict[str, Any] = {
    "attack": "fgsm",
    "surface": "auxiliary(0)",
    "loss": "margin",
    "parameters": (("relative_step", 0.2), ("steps", 40)),
}
"""The fields of an attack that are its identity; `changed` is for people."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "results.db") as opened:
        for number, letter in enumerate("ab"):
            opened.add_checkpoint(
                CheckpointRecord(
                    name=f"c{number}",
                    digest=letter * 64,
                    kind="trained",
                    dataset="digits",
                    threat=THREAT,
                    weights=f"{letter}.safetensors",
                    weights_sha256="e" * 64,
                    capabilities=Capabilities(10),
                )
            )
        yield opened


def outcome(job: Job, **more: Any) -> Outcome:
    count = job.last - job.first
    return Outcome(job, (True,) * count, (False,) * count, **more)


def test_every_field_of_a_job_and_of_a_runtime_is_classified():
    assert {field.name for field in fields(Job)} == IDENTITY.keys()
    assert {field.name for field in fields(Runtime)} == RUNTIME.keys()
    assert {field.name for field in fields(AttackSpec)} == SPEC.keys() | {"changed"}


@pytest.mark.parametrize("name", IDENTITY)
def test_what_can_change_a_bit_is_stored_apart(store, name):
    other = replace(JOB, **{name: IDENTITY[name]})

    assert store.record(outcome(JOB))
    assert other != JOB
    assert store.record(outcome(other))
    assert not store.record(outcome(other))


def test_the_norm_alone_is_stored_apart(store):
    assert store.record(outcome(JOB))
    assert store.record(outcome(replace(JOB, threat=ThreatModel("l2", THREAT.epsilon))))


@pytest.mark.parametrize("name", RUNTIME)
def test_what_cannot_change_a_bit_is_recorded_once(store, name):
    assert store.record(outcome(JOB))
    assert not store.record(outcome(JOB, runtime=replace(Runtime(), **{name: RUNTIME[name]})))


@pytest.mark.parametrize("name", SPEC)
def test_whatever_changes_a_search_changes_its_hash(name):
    assert replace(PGD, **{name: SPEC[name]}).hash != PGD.hash


def test_what_people_read_of_an_attack_does_not_change_its_hash():
    assert replace(PGD, changed=("steps",)).hash == PGD.hash


def test_the_hash_of_an_attack_stays_what_it_is_in_every_database():
    assert PGD.hash == "05a70701b69823206238abb41149d97f4e6d0205e64a44baa5b9689327477512"


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (CLEAN, "none@logits:none"),
        (PGD, "pgd@logits:ce"),
        (replace(PGD, changed=("steps",)), "pgd(steps=40)@logits:ce"),
        (
            replace(PGD, surface="sum(2)", loss="margin", changed=("relative_step", "steps")),
            "pgd(relative_step=0.1,steps=40)@sum(2):margin",
        ),
    ],
)
def test_a_label_reads_attack_surface_and_loss(spec, label):
    assert spec.label == label


def test_a_whole_number_and_the_same_decimal_are_two_parameters():
    one, other = (AttackSpec("pgd", "logits", "ce", (("steps", v),)) for v in (1, 1.0))

    assert one.hash != other.hash


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_a_digest_does_not_depend_on_the_order_of_keys(value):
    backwards = dict(reversed(value.items()))

    assert digest(backwards) == digest(value)
    assert len(digest(value)) == 64


@given(
    st.builds(
        Capabilities,
        classes=st.integers(2, 1000),
        auxiliary=st.integers(0, 4),
        select=st.booleans(),
        features=st.booleans(),
        scale=st.floats(1e-3, 1e3),
        training_loss=st.booleans(),
        strip=st.booleans(),
        hard=st.lists(st.sampled_from(["argmax", "round", "sign"]), unique=True).map(tuple),
        is_random=st.booleans(),
        signs=st.lists(st.sampled_from(["bounded_logits", "no_gradient"]), unique=True).map(tuple),
    )
)
def test_capabilities_survive_the_store(capabilities):
    read = Capabilities.from_json(json.loads(json.dumps(capabilities.to_json())))
    assert read == capabilities
    assert isinstance(read.hard, tuple)
    assert isinstance(read.signs, tuple)
    assert hash(read) == hash(capabilities)


def test_a_row_that_an_older_harness_wrote_exposes_what_it_says_and_nothing_else():
    old = {"classes": 10, "auxiliary": 2, "select": True, "features": True, "scale": 15.0}
    read = Capabilities.from_json({**old, "training_loss": True})
    assert read == Capabilities(10, 2, True, True, 15.0, True)
    assert (read.strip, read.hard, read.is_random, read.signs) == (False, (), False, ())


PLAIN = Capabilities(10, features=True, training_loss=True)
COMPULSORY: dict[str, Any] = {
    "auxiliary": 1,
    "select": True,
    "scale": 15.0,
    "strip": True,
    "hard": ("round",),
    "is_random": True,
    "signs": ("bounded_logits",),
}
"""What makes adaptive attacks compulsory (`protocol.md` section 4)."""


def test_every_capability_makes_adaptive_attacks_compulsory_or_does_not():
    harmless = {"classes", "features", "training_loss"}
    assert {field.name for field in fields(Capabilities)} == COMPULSORY.keys() | harmless
    assert not PLAIN.needs_adaptive


@pytest.mark.parametrize("name", COMPULSORY)
def test_whatever_may_mask_a_gradient_makes_adaptive_attacks_compulsory(name):
    assert replace(PLAIN, **{name: COMPULSORY[name]}).needs_adaptive


@pytest.mark.parametrize(
    ("training", "mark"),
    [
        ({}, "smoke"),
        ({"collapsed_at": 0, "exact_images": "true"}, "smoke"),
        ({"collapsed_at": 7}, "smoke, collapsed at epoch 7"),
        ({"exact_images": "false"}, "smoke, other training pixels"),
        (
            {"exact_images": "false", "collapsed_at": 2},
            "smoke, other training pixels, collapsed at epoch 2",
        ),
    ],
)
def test_what_went_wrong_in_training_stands_beside_the_scale(
    training: dict[str, Any], mark: str
) -> None:
    record = CheckpointRecord(
        "x",
        "d" * 64,
        "trained",
        "digits",
        ThreatModel.parse("linf", "1/5"),
        "w",
        "e" * 64,
        Capabilities(10),
        scale="smoke",
        training=training,
    )
    assert record.scale_mark == mark
    assert wording.scale(record) == mark
