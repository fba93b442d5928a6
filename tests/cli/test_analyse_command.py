"""`harness analyse`: what it measures once, under which attack, what it prints and refuses."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from harness.analysis.exhibit import PGD_20
from harness.attacks.attack import parse_attack
from harness.campaign import Subjects
from harness.campaign.analysis import _can_be_run, missing, worst_attack
from harness.data import dataset, load
from harness.errors import ModelError
from harness.evaluation.exhibition import Exhibited
from harness.evaluation.subject import load_subject
from harness.identity import CLEAN, Measurement
from harness.store.store import Store

QUICK = ("--analysis", "angular_margins,training_time", "--examples", 10, "--workers", 1)


@pytest.fixture
def subjects(stored):
    digits = dataset("digits")
    with Store.open(read_only=True) as store:
        records = [store.checkpoint(name) for name in ("plain", "gated")]
        yield store, Subjects(records, digits, load("digits", "test"), None, stored / "checkpoints")


@pytest.fixture
def no_umap(monkeypatch):
    """Its import compiles for seconds."""
    monkeypatch.setitem(sys.modules, "umap", None)


def test_every_analysis_runs_on_a_trained_checkpoint_and_is_stored(stored, harness, no_umap):
    found = harness("analyse", "gated", "--examples", 10, "--workers", 1, "--json")
    (row,) = found.json()
    by_name = {}
    for one in row["measurements"]:
        by_name.setdefault(one["analysis"], {})[one["on"]] = one
    attacks = {on for one in by_name.values() for on in one} - {"clean", "training", PGD_20.label}

    assert found.code == 0
    assert (row["name"], row["status"]) == ("gated", "ok")
    assert len(by_name) == 9
    (worst,) = attacks  # the same for all
    assert {*by_name["relationship_score"]} == {"clean", PGD_20.label, worst}
    assert {*by_name["exclusion_alignment"]} == {*by_name["angular_margins"]} == {"clean", worst}
    assert "broke " in by_name["angular_margins"][worst]["note"]
    assert by_name["relationship_score"]["clean"]["values"]["support"] == [2 * 1297]
    assert by_name["relationship_score"]["clean"]["values"]["cosine"][0] > 0.5
    assert {*by_name["feature_map"]} == {*by_name["gate_flips"]} == {"clean", worst}
    assert by_name["gate_flips"][worst]["values"]["selects_gate"] == [1, 1]
    assert by_name["image_pairs"][worst]["values"]["pictures"] == [10]
    (gap,) = by_name["overfitting_gap"].values()
    assert gap["values"]["last_epoch"] == [4]
    assert "held out" in gap["note"]
    with Store.open(read_only=True) as store:
        kept = store.measurements(store.checkpoint("gated").digest)
    assert len(kept) == len(row["measurements"])
    assert {(one.examples, one.seed) for one in kept} == {(10, 0)}


def test_what_is_stored_is_not_measured_again(stored, harness, monkeypatch):
    first = harness("analyse", "--all", *QUICK)
    monkeypatch.setattr("harness.campaign.analysis.exhibit", None)
    second = harness("analyse", "--all", *QUICK)

    assert (first.code, second.code) == (0, 0)
    assert second.out == first.out
    for word in ("plain", "gated", "angular_margins", "share negative", "training_time", "median"):
        assert word in first.out
    assert "digits: nothing to do, all of it is stored." in second.err


@pytest.mark.parametrize("more", [("--examples", 12), ("--seed", 1), ("--epsilon", "1/10")])
def test_more_images_another_seed_and_another_epsilon_are_measured(stored, harness, more):
    harness("analyse", "plain", *QUICK)
    found = harness("analyse", "plain", *QUICK, *more)

    assert found.code == 0
    assert "nothing to do" not in found.err


def test_the_worst_attack_is_the_one_that_broke_most(subjects):
    store, group = subjects
    for record in group.records:
        worst = worst_attack(store, group, record, group.dataset.threat, 10)
        counts = {}
        for outcome in store.outcomes(record.digest):
            if outcome.job.attack != CLEAN:
                places = {outcome.job.first + i for i, one in enumerate(outcome.broken) if one}
                counts.setdefault(outcome.job.attack.label, set()).update(places)

        assert len(worst.broken) == max(map(len, counts.values()))
        assert set(worst.broken) == counts[worst.spec.label]
        ties = [label for label, places in counts.items() if len(places) == len(worst.broken)]
        assert worst.spec.label == min(ties)


def test_only_images_that_are_examined_count(subjects):
    store, group = subjects
    worst = worst_attack(store, group, group.records[0], group.dataset.threat, 3)

    assert max(worst.broken, default=0) < 3


def test_a_board_without_attacks_gets_pgd_20(stored, harness):
    (row,) = harness("analyse", "plain", *QUICK, "--epsilon", "1/9", "--json").json()
    (found,) = [one for one in row["measurements"] if "pgd" in one["on"]]

    assert (found["on"], found["epsilon"]) == (PGD_20.label, "1/9")
    assert found["note"].startswith("No attack is stored")


def test_a_worse_attack_makes_only_what_follows_it_missing():
    clean = Measurement("c", "d", "i", None, 0, 10, "angular_margins", "clean", {"mean": (1.0,)})
    one = replace(clean, on="old")
    timed = replace(one, analysis="training_time", on="training")
    failed = replace(one, analysis="overfitting_gap", on="clean", values={})
    names = ("angular_margins", "training_time", "overfitting_gap")

    def lacking(attack, **asked):
        asked = {"seed": 0, "examples": 10} | asked
        return missing([clean, one, timed, failed], names, attack=attack, **asked)

    assert lacking("old") == ("overfitting_gap",)  # what was not run is tried again
    assert lacking("new") == ("angular_margins", "overfitting_gap")
    assert lacking("old", examples=9) == names
    assert lacking("old", seed=1) == names


def test_clean_images_of_another_number_that_took_the_place_are_looked_at_again(stored, harness):
    with Store.open() as store:
        measured = store.checkpoint("plain")
    harness("analyse", "plain", *QUICK)
    with Store.open() as store:  # as with fewer images, under which another attack is the worst
        (clean,) = [one for one in store.measurements(measured.digest) if one.on == "clean"]
        store.record_measurement(replace(clean, examples=5))
    (row,) = harness("analyse", "plain", *QUICK, "--json").json()

    forms = [one["on"] for one in row["measurements"] if one["analysis"] == "angular_margins"]
    assert forms[0] == "clean"
    assert len(forms) == 2


def test_what_could_not_be_measured_is_forgotten_once_it_was(stored, harness):
    with Store.open() as store:
        record = store.checkpoint("plain")
    harness("analyse", "plain", *QUICK)
    with Store.open() as store:
        (timed,) = [o for o in store.measurements(record.digest) if o.analysis == "training_time"]
        store.record_measurement(replace(timed, on="clean", values={}, note="not run: too early"))
    found = harness("analyse", "plain", *QUICK)

    assert "nothing to do" in found.err
    assert "too early" not in found.out


def test_a_retry_that_measured_nothing_takes_no_number_s_place(stored, harness, monkeypatch):
    harness("analyse", "plain", *QUICK)
    with Store.open() as store:
        before = store.measurements(store.checkpoint("plain").digest)

    def nothing(work):
        emptied = [replace(one, values={}, note="not run: no reason") for one in before]
        return Exhibited(work.record.digest, tuple(emptied))

    monkeypatch.setattr("harness.campaign.analysis.exhibit", nothing)
    harness("analyse", "plain", *QUICK, "--seed", 1)  # another seed: all of it is wanted again
    with Store.open() as store:
        assert store.measurements(store.checkpoint("plain").digest) == before


def test_the_worst_attack_is_made_again_only_where_its_images_are_looked_at(
    stored, harness, monkeypatch
):
    made = []

    def watched(worst, *_):
        made.append(worst.spec)
        raise ModelError("raised", "the attack was made again")

    monkeypatch.setattr("harness.evaluation.exhibition.again", watched)
    common = ("--examples", 10, "--workers", 1)
    timed = harness("analyse", "plain", "--analysis", "training_time", *common)
    assert (timed.code, made) == (0, [])
    followed = harness("analyse", "plain", "--analysis", "angular_margins", *common)
    assert (followed.code, len(made)) == (1, 1)


def test_the_same_attack_with_another_seed_is_another_worst_one(subjects):
    store, group = subjects
    record, threat = group.records[0], group.dataset.threat
    first = worst_attack(store, group, record, threat, 10)
    again = replace(first, seed=1)

    assert (first.label, again.label) == (first.spec.label, f"{first.spec.label}, seed 1")


PAIRS = ("--analysis", "image_pairs", "--examples", 30, "--workers", 1)


def test_pairs_of_the_first_24_images_under_the_worst_attack_are_kept(stored, harness, subjects):
    store, group = subjects
    record, threat = group.records[1], group.dataset.threat
    worst = worst_attack(store, group, record, threat, 30)
    assert harness("analyse", "gated", *PAIRS).code == 0
    kept = store.gallery("digits", group.data.identity)
    (pairs,) = store.adversarial(record.digest, images=group.data.identity, threat=threat)
    pixels = torch.frombuffer(bytearray(pairs.pixels), dtype=torch.uint8).reshape(24, 1, 8, 8)
    subject = load_subject(record, group.folder, group.dataset)
    decided = subject.model(pixels.float() / 255).logits.argmax(1)
    unattacked = subject.model(group.data.batch(0, 24)).logits.argmax(1)
    labels = group.data.labels[:24]
    broken = (unattacked == labels) & (decided != labels)

    assert kept.pixels == group.data.images[:24].numpy().tobytes()
    assert kept.labels == tuple(labels.tolist())
    assert (kept.indices, kept.shape) == (tuple(range(24)), (1, 8, 8))
    assert (pairs.attack, pairs.seed) == (worst.spec.label, worst.seed)
    assert (pairs.indices, pairs.predicted) == (tuple(range(24)), tuple(decided.tolist()))
    assert pairs.broken == tuple(broken.tolist())
    evaluated = broken[:10].nonzero()[:, 0].tolist()
    assert evaluated
    assert {*evaluated} <= {*worst.broken}  # rounding may mend one
    assert [one for one in store.problems() if "pictures" in one] == []


def test_pairs_are_made_once_and_again_where_they_are_of_another_attack(stored, harness):
    first = harness("analyse", "plain", *PAIRS)
    second = harness("analyse", "plain", *PAIRS)
    with Store.open() as store:
        (kept,) = store.adversarial()
        store.record_adversarial(replace(kept, attack="fgsm(of_before)@logits:ce"))
    renewed = harness("analyse", "plain", *PAIRS)
    with Store.open(read_only=True) as store:
        (again,) = store.adversarial()

    assert "nothing to do" not in first.err + renewed.err
    assert "nothing to do, all of it is stored." in second.err
    assert first.out == second.out == renewed.out
    assert replace(again, created="") == replace(kept, created="")


def test_a_worse_attack_renews_the_pairs(stored, harness, subjects):
    store, group = subjects
    harness("analyse", "plain", *PAIRS)
    (before,) = store.adversarial()
    (outcome, *_) = [
        one
        for one in store.outcomes(group.records[0].digest)
        if one.job.attack != CLEAN and one.job.first == 0 and any(one.attacked)
    ]
    job = replace(outcome.job, attack=parse_attack("pgd(steps=7)"), seed=3)
    everything = tuple(outcome.attacked)
    with Store.open() as opened:
        opened.record(replace(outcome, job=job, broken=everything, columns={}))
    harness("analyse", "plain", *PAIRS)
    (after,) = store.adversarial()

    assert (after.attack, after.seed) == (job.attack.label, 3)
    assert after.attack != before.attack
    assert after.pixels != before.pixels


def test_where_nothing_is_attacked_there_are_no_pairs_and_it_says_so(stored, harness):
    found = harness("analyse", "plain", *PAIRS, "--epsilon", "1/9")

    assert found.code == 0
    assert "not run: no attack is stored for these images" in " ".join(found.out.split())
    with Store.open(read_only=True) as store:
        assert store.adversarial() == []
        assert len(store.datasets()) == 1
        assert store.gallery("digits", store.datasets()[0].sha256).indices == tuple(range(24))


def test_other_analyses_keep_no_pictures(stored, harness):
    harness("analyse", "plain", *QUICK)

    with Store.open(read_only=True) as store:
        assert store.adversarial() == []
        assert store.gallery("digits", store.datasets()[0].sha256) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": "of_another_harness"},
        {"parameters": (("strides", 3),)},
        {"parameters": (("steps", 10**12),)},
        {"parameters": (("loss", "ce"),)},
        {"surface": "backside"},
        {"loss": "gain"},
    ],
)
def test_an_attack_that_nobody_could_ask_for_here_is_not_the_worst(subjects, changes):
    store, group = subjects
    record, threat = group.records[0], group.dataset.threat
    worst = worst_attack(store, group, record, threat, 10)
    (outcome, *_) = [
        one for one in store.outcomes(record.digest) if one.job.attack.hash == worst.spec.hash
    ]
    assert _can_be_run(worst.spec)
    with Store.open() as opened:
        spec = replace(parse_attack("pgd"), **changes)
        everything = tuple(outcome.attacked)
        opened.record(
            replace(outcome, job=replace(outcome.job, attack=spec), broken=everything, columns={})
        )

        assert worst_attack(opened, group, record, threat, 10) == worst


def test_a_model_from_elsewhere_says_what_cannot_be_measured(harness, add, no_umap):
    add("foreign")
    found = harness("analyse", "foreign", "--examples", 5, "--workers", 1, "--json")
    (row,) = found.json()
    notes = {one["analysis"]: one["note"] for one in row["measurements"]}

    assert found.code == 0
    assert all(one["values"] == {} for one in row["measurements"])
    assert len(notes) == 9
    assert all(note.startswith("not run: ") for note in notes.values())
    assert "returns no features" in notes["relationship_score"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), "no checkpoint named 'nobody'"),
        (("plain", "--analysis", "angular_margin"), "Did you mean 'angular_margins'?"),
        (("plain", "--analysis", ","), "--analysis names no analysis"),
        ((), "name the checkpoints"),
        (("plain", "--norm", "l2"), "needs its own --epsilon"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(stored, harness, arguments, words):
    found = harness("analyse", *arguments)

    assert found.code == 2
    assert words in found.err


def test_weights_that_are_not_here_fail_that_checkpoint_alone(stored, harness):
    with Store.open(read_only=True) as store:
        (stored / "checkpoints" / store.checkpoint("plain").weights).unlink()
    found = harness("analyse", "--all", *QUICK)

    assert found.code == 1
    assert "plain failed (not_loaded): the weights of 'plain' are not here" in found.err
    assert "angular_margins" in found.out
    with Store.open(read_only=True) as store:
        assert store.failures() == []  # its row on the board is not affected


def test_pictures_are_written_per_checkpoint(stored, harness, monkeypatch):
    from harness.analysis import pictures

    monkeypatch.setattr(pictures, "umap_module", lambda: None)
    monkeypatch.setattr(pictures, "EMBEDDINGS", {"flat": lambda x, _: x[:, :2]})
    found = harness("analyse", "plain", *QUICK, "--pictures", "drawn/here")

    assert found.code == 0
    assert [one.name for one in (stored / "drawn" / "here").iterdir()] == ["plain-flat.svg"]
    assert "plain: drawn drawn/here/plain-flat.svg" in found.err


def test_pictures_without_umap_name_the_extra(stored, harness, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    found = harness("analyse", "plain", *QUICK, "--pictures", "drawn")

    assert found.code == 2
    assert "robust-harness[analysis]" in found.err
    assert not (stored / "drawn").exists()


def test_a_model_without_features_has_no_picture(harness, add, monkeypatch, home):
    monkeypatch.setattr("harness.analysis.pictures.umap_module", lambda: None)
    add("foreign")
    found = harness("analyse", "foreign", *QUICK, "--pictures", "drawn")

    assert found.code == 0
    assert "foreign: no picture: 'foreign' returns no features" in found.err
    assert list((home / "drawn").iterdir()) == []
