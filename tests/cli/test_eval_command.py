"""`harness eval`: what it prints, what it stores, what it does not do twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.attacks.attack import ATTACKS
from harness.statistics import wilson
from harness.store.store import Store

QUICK = ("--attack", "pgd(steps=3)", "--workers", 1, "-q")
ROW = {
    "name": str,
    "status": str,
    "dataset": str,
    "protocol": str,
    "norm": str,
    "epsilon": str,
    "seed": int,
    "examples": int,
    "clean_accuracy": float,
    "robust_accuracy": float,
    "interval": list,
    "standard_accuracy": float,
    "attacks": list,
}
ATTACK = {
    "attack": str,
    "surface": str,
    "loss": str,
    "robust_accuracy": float,
    "seconds": float,
    "forwards": int,
    "backwards": int,
    "queries": int,
}
ACCURACIES = ("clean_accuracy", "robust_accuracy", "standard_accuracy")


def _types(value: dict, expected: dict) -> dict:
    return {key: type(value[key]) for key in expected}


def _outcomes(name: str = "plain") -> list:
    with Store.open(read_only=True) as store:
        return store.outcomes(store.checkpoint(name).digest)


def _texts(outcomes: Iterable) -> list[str]:
    """To compare by: outcomes hold NaN, which equals nothing."""
    return [str(outcome) for outcome in outcomes]


# What is printed


def test_json_is_one_document_with_one_object_per_checkpoint(stored, harness):
    found = harness("eval", "--all", "--adaptive", "--examples", 10, "--json")

    assert found.code == 0
    assert [row["name"] for row in found.json()] == ["gated", "plain"]
    for row in found.json():
        assert _types(row, ROW) == ROW
        assert all(_types(attack, ATTACK) == ATTACK for attack in row["attacks"])
        head = [row[key] for key in ("status", "dataset", "protocol", "norm", "epsilon")]
        assert head == ["ok", "digits", "adaptive", "linf", "1/5"]
        assert (row["seed"], row["examples"]) == (0, 10)


def test_fractions_and_totals_agree_with_each_other(stored, harness):
    for row in harness("eval", "--all", "--adaptive", "--examples", 10, "--json").json():
        clean, robust, standard = (row[key] for key in ACCURACIES)
        alone = [attack["robust_accuracy"] for attack in row["attacks"]]

        assert 0 <= robust <= standard <= clean <= 1
        assert robust <= min(alone)
        assert max(alone) <= clean
        assert row["interval"] == pytest.approx(wilson(round(10 * robust), 10))
        for attack in row["attacks"]:
            assert attack["seconds"] >= 0
            entry, is_asked = ATTACKS[attack["attack"]], attack["attacked"] > 0
            assert (attack["forwards"] > 0) is is_asked
            assert (attack["queries"] > 0) is (is_asked and entry.knowledge != "white_box")
            assert attack["backwards"] == 0 or entry.knowledge == "white_box"


def test_the_adaptive_protocol_attacks_what_a_gated_model_exposes(stored, harness):
    gated, plain = harness("eval", "--all", "--adaptive", "--examples", 10, "--json").json()
    surfaces = [{attack["surface"] for attack in row["attacks"]} for row in (gated, plain)]

    pool = {name for name in surfaces[0] if name.startswith("surrogate(")}
    exposed = {"auxiliary(0)", "auxiliary(1)", "sum(2)", "label_gate", "stripped", "features(0)"}
    assert exposed | {"logits", "training_loss"} <= surfaces[0]
    assert surfaces[1] == {"logits", "features", "training_loss"}
    with Store.open() as store:
        assert pool == {f"surrogate({store.checkpoint('plain').digest[:12]})"}  # trades


def test_a_robust_accuracy_is_the_union_of_what_was_asked_for_and_of_nothing_else(stored, harness):
    everything, one = (
        harness("eval", "plain", *which, "--examples", 10, "--json", "--workers", 1).json()[0]
        for which in (("--adaptive",), ("--attacks", "fgsm"))
    )

    assert [attack["attack"] for attack in one["attacks"]] == ["fgsm"]
    assert one["robust_accuracy"] == one["attacks"][0]["robust_accuracy"]
    assert everything["robust_accuracy"] <= one["robust_accuracy"]
    assert one["protocol"] == "custom"


def test_there_is_no_standard_accuracy_without_an_attack_on_the_deployed_logits(stored, harness):
    attack = "apgd_ce(surface=auxiliary(0),steps=2)"
    options = ("--examples", 10, "--json", "--workers", 1)
    (row,) = harness("eval", "gated", "--attack", attack, *options).json()

    assert row["standard_accuracy"] is None
    assert row["robust_accuracy"] is not None


def test_without_json_a_person_reads_a_table_and_its_threat_model(stored, harness):
    found = harness("eval", "plain", "--adaptive", "--examples", 10)

    assert "digits, linf 1/5" in found.out
    assert "plain" in found.out
    assert "nothing to do" in found.err


def test_quiet_says_nothing_but_the_results(stored, harness):
    assert harness("eval", "plain", "--adaptive", "--examples", 10, "-q").err == ""


def test_what_a_model_prints_stays_out_of_the_results(add, harness):
    add("loud", "chatty")
    found = harness("eval", "loud", *QUICK, "--examples", 5, "--json")
    assert found.json()[0]["status"] == "ok"
    assert "prints on every pass" not in found.err  # nor in a terminal that it could confuse


def test_a_model_that_raises_where_only_an_estimate_is_asked_for_is_a_sentence(add, harness):
    add("broken", "failing")
    found = harness("eval", "broken", *QUICK, "--examples", 5, "--dry-run")
    assert found.code == 2
    said = found.err.strip().splitlines()[-1]
    assert said.startswith("harness: nothing can be estimated: the model raised RuntimeError")


# Who is meant


def test_the_name_of_a_defense_means_all_its_checkpoints(stored, harness):
    with Store.open() as store:
        import dataclasses

        plain = store.checkpoint("plain")
        store.add_checkpoint(dataclasses.replace(plain, name="again", digest="0" * 64))
    found = harness("eval", "trades", "--dry-run", "--attacks", "fgsm", "--json").json()

    assert found[0]["pieces"] == 2 * 2 * 5  # two checkpoints, clean and fgsm, 500 images


def test_a_checkpoint_named_twice_is_one(stored, harness):
    rows = harness("eval", "plain", "plain", "trades", *QUICK, "--examples", 5, "--json").json()

    assert [row["name"] for row in rows] == ["plain"]


@pytest.mark.parametrize("who", [(), ("plain", "--all")])
def test_nobody_or_everybody_and_somebody_is_an_error(stored, harness, who):
    found = harness("eval", *who)

    assert found.code == 2
    assert "--all" in found.err


def test_all_on_a_dataset_leaves_out_the_others(stored, harness):
    found = harness("eval", "--all", "--dataset", "cifar10", "--no-download")

    assert found.code == 2
    assert "no checkpoint on cifar10 is stored" in found.err


def test_all_in_an_empty_database_says_what_to_do_next(harness):
    Store.open().close()
    found = harness("eval", "--all")

    assert found.code == 2
    assert "harness train" in found.err


# Defaults


def test_the_default_is_the_standard_protocol_on_all_of_a_small_test_set(stored, harness):
    (row,) = harness("eval", "plain", "--dry-run", "--json").json()

    assert row["images"] == 6 * 490  # clean and five attacks; 10 are stored
    (done,) = harness("eval", "plain", "--examples", 10, "--json").json()
    assert done["protocol"] == "standard"
    assert [attack["attack"] for attack in done["attacks"]] == [
        *("apgd_ce", "apgd_t", "fab_t", "square", "pgd")
    ]


def test_more_examples_than_there_are_means_all_there_are(stored, harness):
    options = ("--examples", 10**30, "--attacks", "fgsm", "--workers", 1, "--json")
    (row,) = harness("eval", "plain", *options).json()

    assert row["examples"] == 500


# Bits


def test_bits_are_boolean_arrays_in_the_order_of_the_images(stored, harness):
    options = ("--adaptive", "--examples", 10, "--json", "--bits", "out/bits.npz")
    (row,) = harness("eval", "gated", *options).json()
    bits = np.load("out/bits.npz")
    attacks = {name: bits[name] for name in bits.files if name not in {"clean", "robust"}}

    assert all(value.dtype == bool and value.shape == (10,) for value in bits.values())
    assert len(attacks) == len(row["attacks"])
    assert any(name.endswith("@auxiliary(0):ce") for name in attacks)
    assert bits["clean"].mean() == pytest.approx(row["clean_accuracy"])
    assert bits["robust"].mean() == pytest.approx(row["robust_accuracy"])
    assert (bits["robust"] <= bits["clean"]).all()
    np.testing.assert_array_equal(
        bits["robust"], bits["clean"] & np.logical_and.reduce([*attacks.values()])
    )


@pytest.mark.parametrize(
    ("who", "file", "reason"),
    [
        (["--all"], "bits.npz", "exactly one checkpoint but 2"),
        (["plain"], "bits.txt", "ends in .npz"),
        (["plain"], "", "ends in .npz"),
    ],
)
def test_bits_of_several_or_into_something_else_are_refused_before_any_work(
    stored, harness, monkeypatch, who, file, reason
):
    monkeypatch.setattr("harness.campaign.campaign.do", None)
    found = harness("eval", *who, "--attacks", "fgsm", "--bits", file)

    assert found.code == 2
    assert reason in found.err


# What is stored is not run again


def test_growing_examples_redo_nothing_and_end_where_a_fresh_run_ends(stored, harness):
    command = ("eval", "plain", "--attacks", "fgsm", *QUICK, "--bits", "bits.npz", "--seed", 1)
    seen: dict = {}
    for examples in (50, 130, 200):
        assert harness(*command, "--examples", examples).code == 0
        mine = [o for o in _outcomes() if o.job.seed == 1]
        found = {(o.job.attack, o.job.first, o.job.last): str(o) for o in mine}
        assert {key: found[key] for key in seen} == seen
        seen = found
    grown = dict(np.load("bits.npz"))
    slices = sorted({(first, last) for _, first, last in seen})
    harness(*command, "--examples", 200, "--db", _copy_without_results(stored))
    fresh = dict(np.load("bits.npz"))

    assert slices == [(0, 50), (50, 100), (100, 130), (130, 200)]
    assert grown.keys() == fresh.keys()
    for name, bits in fresh.items():
        np.testing.assert_array_equal(grown[name], bits, err_msg=name)


def _copy_without_results(folder: Path) -> Path:
    with Store.open(folder / "results.db") as old, Store.open(folder / "fresh.db") as new:
        for record in old.checkpoints():
            new.add_checkpoint(record)
    return folder / "fresh.db"


def test_a_second_run_does_nothing_and_says_so(stored, harness, monkeypatch):
    monkeypatch.setattr("harness.campaign.campaign.do", None)
    before = _texts(_outcomes())
    found = harness("eval", "--all", "--adaptive", "--examples", 10)

    assert found.code == 0
    assert "nothing to do" in found.err
    assert _texts(_outcomes()) == before


def test_fewer_examples_are_read_from_what_is_stored(stored, harness, monkeypatch):
    monkeypatch.setattr("harness.campaign.campaign.do", None)
    (row,) = harness("eval", "plain", "--examples", 4, "--json").json()

    assert row["examples"] == 4


def test_batch_size_changes_no_bit(stored, harness):
    bits = []
    for size in (3, 250):
        database = _copy_without_results(stored)
        options = ("--examples", 20, "--batch-size", size, "--bits", "bits.npz", "--db", database)
        harness("eval", "gated", *QUICK, *options)
        bits.append(dict(np.load("bits.npz")))
        database.unlink()

    assert bits[0].keys() == bits[1].keys()
    assert all((bits[0][name] == bits[1][name]).all() for name in bits[0])


def test_a_seed_draws_other_random_numbers_and_is_stored_apart(stored, harness):
    for seed in (0, 1):
        harness("eval", "plain", *QUICK, "--examples", 20, "--seed", seed)
    found = [o for o in _outcomes() if o.job.attack.label == "pgd(steps=3)@logits:ce"]
    best = [np.array(o.columns["loss_best"]) for o in found]

    assert [o.job.seed for o in found] == [0, 1]
    assert not np.allclose(*best, equal_nan=True)


def test_another_epsilon_is_another_board(stored, harness):
    before = _texts(_outcomes())
    (weak,) = harness("eval", "plain", "--epsilon", "0", *QUICK, "--examples", 10, "--json").json()
    (still,) = harness("eval", "plain", "--adaptive", "--examples", 10, "--json").json()

    assert weak["epsilon"] == "0"
    assert weak["robust_accuracy"] == weak["clean_accuracy"]
    assert still["epsilon"] == "1/5"
    assert _texts(o for o in _outcomes() if o.job.threat.epsilon) == before


def test_the_other_norm_takes_its_own_epsilon(stored, harness):
    options = ("--attacks", "pgd", "--examples", 10, "--json", "--workers", 1, "--norm", "l2")
    (row,) = harness("eval", "plain", *options, "--epsilon", "0.5").json()

    assert (row["norm"], row["epsilon"]) == ("l2", "1/2")
    assert "needs its own --epsilon" in harness("eval", "plain", *options).err


def test_attacks_by_hand_keep_their_order_and_their_parameters(stored, harness):
    options = ("--attacks", "fgsm,pgd(steps=3,loss=margin)", "--attack", "fgsm", *QUICK)
    (row,) = harness("eval", "plain", *options, "--examples", 5, "--json").json()

    assert [attack["label"] for attack in row["attacks"]] == [
        "fgsm@logits:ce",
        "pgd(steps=3)@logits:margin",
        "pgd(steps=3)@logits:ce",
    ]


def test_two_names_of_one_function_are_attacked_once(add, harness, monkeypatch):
    from harness.campaign import campaign

    add("one")
    add("two")
    done: list = []
    work = campaign.do
    monkeypatch.setattr(campaign, "do", lambda piece: done.append(piece) or work(piece))
    rows = harness("eval", "--all", *QUICK, "--examples", 5, "--json").json()

    assert [row["name"] for row in rows] == ["one", "two"]
    assert len(done) == 2  # clean and pgd


# Models that misbehave


@pytest.mark.parametrize(
    ("function", "status", "said"),
    [
        ("failing", "raised", "out of order"),
        ("nan", "non_finite", "NaN"),
        ("narrow", "wrong_shape", "one logit per class"),
    ],
)
def test_a_model_that_fails_has_a_row_without_numbers_and_the_others_are_done(
    stored, add, harness, function, status, said
):
    add("broken", function)
    command = ("eval", "broken", "plain", *QUICK, "--examples", 10)
    found = harness(*command, "--json")
    broken, plain = found.json()

    assert found.code == 1
    assert (broken["name"], broken["status"], broken["attacks"]) == ("broken", status, [])
    assert all(broken[key] is None for key in (*ACCURACIES, "interval"))
    assert said in broken["message"]
    assert (plain["name"], plain["status"]) == ("plain", "ok")
    assert plain["clean_accuracy"] is not None
    read = harness(*command)
    assert read.code == 1
    assert f"broken failed ({status})" in read.err


def test_a_failed_row_is_tried_again_and_heals(stored, add, harness, model_file):
    add("broken", "failing")
    harness("eval", "broken", *QUICK, "--examples", 5)
    harness("remove", "broken")
    add("broken", "build")

    assert harness("eval", "broken", *QUICK, "--examples", 5).code == 0


def test_bits_of_a_failed_model_are_not_written(add, harness, home):
    add("broken", "failing")

    assert harness("eval", "broken", *QUICK, "--bits", "bits.npz").code == 1
    assert not (home / "bits.npz").exists()


def test_weights_that_stayed_elsewhere_give_a_failed_row(stored, harness):
    for file in (stored / "checkpoints").iterdir():
        file.unlink()
    found = harness("eval", "plain", *QUICK, "--seed", 7, "--examples", 5, "--json")

    assert found.code == 1
    assert found.json()[0]["status"] == "not_loaded"
    assert "HARNESS_CHECKPOINTS" in found.json()[0]["message"]


def test_damaged_weights_are_noticed(stored, harness):
    for file in (stored / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    found = harness("eval", "plain", *QUICK, "--seed", 7, "--examples", 5, "--json")

    assert found.code == 1
    assert "changed or damaged" in found.json()[0]["message"]


# --dry-run


def test_a_dry_run_runs_and_stores_nothing(stored, harness, monkeypatch):
    monkeypatch.setattr("harness.campaign.campaign.do", None)
    before = (stored / "results.db").read_bytes()
    found = harness("eval", "plain", "--examples", 130, "--attacks", "fgsm", "--dry-run")
    counted = harness(
        "eval", "plain", "--examples", 130, "--attacks", "fgsm", "--dry-run", "--json"
    ).json()

    assert found.code == 0
    # clean and fgsm in two slices each; the clean images of 10 are stored
    assert "4 pieces of work on 250 images" in found.out
    assert (counted[0]["pieces"], counted[0]["images"]) == (4, 250)
    assert (stored / "results.db").read_bytes() == before


def test_a_dry_run_of_a_model_that_fails_says_so(add, harness):
    add("broken", "failing")
    found = harness("eval", "broken", "--dry-run")

    assert found.code == 2
    assert "out of order" in found.err


def test_evaluation_leaves_the_global_random_numbers_alone(stored, harness):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    harness("eval", "plain", *QUICK, "--examples", 5, "--seed", 3)

    assert torch.rand(1) == expected
