"""Diagnostics as a piece of work: which images, what is still missing, what is handed back."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from evaluated_subjects import subject_of
from torch import nn

from harness.attacks.search import Guides
from harness.data.splits import Split
from harness.diagnostics.diagnostic import DIAGNOSTICS, Diagnostic, Reading
from harness.diagnostics.examination import RowFacts
from harness.errors import HarnessError, ModelError
from harness.evaluation import examine as module
from harness.evaluation.examine import CORRECT_IMAGES, Diagnosis, diagnose, examine, missing, subset
from harness.identity import Capabilities, CheckpointRecord, Failure, Finding
from harness.threat import ThreatModel

COUNT = 700
THREAT = ThreatModel("linf", Fraction(1, 10))
WRONG = [index for index in range(COUNT) if index % 7 == 3]


class Pixels(nn.Module):
    """The logits are the pixels; the first is the larger one on every image."""

    def forward(self, images):
        return images.flatten(1)


def pictures():
    """[COUNT, 1, 1, 2]; those of `WRONG` are labelled wrongly."""
    images = torch.tensor([200, 100], dtype=torch.uint8).expand(COUNT, 2).reshape(COUNT, 1, 1, 2)
    labels = torch.zeros(COUNT, dtype=torch.long)
    labels[WRONG] = 1
    return Split("digits", "test", images.contiguous(), labels, "s" * 64, "l" * 64, None)


GUIDES = Guides(torch.zeros(1, 1, 1, 2), torch.zeros(1, dtype=torch.long))


def record_of(digest="d" * 64):
    return CheckpointRecord(
        name="toy",
        digest=digest,
        kind="trained",
        dataset="digits",
        threat=THREAT,
        weights="w",
        weights_sha256="e" * 64,
        capabilities=Capabilities(2),
    )


def diagnosis(*identities, **changes):
    work = Diagnosis(
        record=record_of(),
        diagnostics=identities,
        dataset="digits",
        label="digits (other pixels)",
        images="i" * 64,
        threat=THREAT,
        seed=4,
        examples=COUNT,
        folder=Path(),
        data_dir=None,
    )
    return replace(work, **changes)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(module, "load_subject", lambda *_, **__: subject_of(Pixels(), 2))
    monkeypatch.setattr(module, "test_split", lambda *_: pictures())
    monkeypatch.setattr(module, "guides", lambda *_: GUIDES)


def reads(monkeypatch, check, needs=""):
    """One diagnostic `X1` in place of all of them."""
    entry = Diagnostic("X1", "x", "X", "much", "more", needs, "here", "what", check)
    monkeypatch.setattr(module, "DIAGNOSTICS", {"X1": entry})


# Which images


def test_the_subset_is_the_first_right_images_and_every_wrong_one_in_order():
    right = torch.tensor([True, False, True, True, False, True, False])
    assert subset(right, most=2).tolist() == [0, 1, 2, 4, 6]
    assert subset(right, most=9).tolist() == list(range(7))
    assert subset(~right, most=0).tolist() == [0, 2, 3, 5]


def test_five_hundred_right_images_and_all_wrong_ones_are_examined():
    found = examine(diagnosis())
    right = [index for index in range(COUNT) if index not in WRONG]
    assert found.indices == sorted(right[:500] + WRONG)
    assert CORRECT_IMAGES == int(found.right.sum()) == 500
    assert found.indices[-1] == WRONG[-1] > right[500]
    assert torch.equal(found.labels, pictures().labels[found.indices])


def test_fewer_examples_are_the_first_ones():
    assert examine(diagnosis(examples=9)).indices == list(range(9))
    assert len(examine(diagnosis(examples=10**6)).indices) == 500 + len(WRONG)


def test_an_image_with_a_logit_that_is_no_number_is_wrong(monkeypatch):
    class Nan(nn.Module):
        def forward(self, images):
            logits = images.flatten(1).clone()
            logits[:, 0] = torch.nan  # argmax takes it for the largest
            return logits

    monkeypatch.setattr(module, "load_subject", lambda *_, **__: subject_of(Nan(), 2))
    assert len(examine(diagnosis()).indices) == COUNT  # all are wrong, so all are examined


# What is missing


def finding(identity="D10", **changes):
    known = Finding("d", "digits", "i", THREAT, 0, 1000, identity, "green", 0.0, "")
    return replace(known, **changes)


@pytest.mark.parametrize(
    ("changes", "asked", "is_missing"),
    [
        ({}, {}, False),
        ({}, {"examples": 500}, False),
        ({}, {"examples": 1001}, True),
        ({}, {"seed": 1}, True),
        ({}, {"is_adaptive": True}, True),
        ({"is_adaptive": True}, {"is_adaptive": True}, False),
        ({"is_adaptive": True}, {}, False),
        ({"state": "not_run"}, {}, False),
        ({"state": "not_run"}, {"has_surrogates": True}, False),
    ],
)
def test_what_is_known_for_as_many_images_and_attacks_is_not_run_again(changes, asked, is_missing):
    facts = {"seed": 0, "examples": 1000, "is_adaptive": False, **asked}
    found = missing([finding(**changes)], ("D10", "D11"), **facts)
    assert found == (("D10",) if is_missing else ()) + ("D11",)


@pytest.mark.parametrize(("state", "again"), [("not_run", ("D05",)), ("green", ())])
def test_what_waited_for_a_surrogate_runs_once_there_is_one(state, again):
    facts = {"seed": 0, "examples": 1000, "is_adaptive": False}
    stored = [finding("D05", state=state)]
    assert missing(stored, ("D05",), **facts) == ()
    assert missing(stored, ("D05",), **facts, has_surrogates=True) == again
    assert DIAGNOSTICS["D05"].needs == "surrogates"


# What is handed back


def test_a_finding_carries_its_key_and_the_indices_of_the_test_split(monkeypatch):
    def check(examination):
        proof = ~examination.right
        return Reading("amber", 2.5, "so it is", proof, {"rates": [torch.tensor(0.5), 1]})

    reads(monkeypatch, check)
    (found,) = diagnose(diagnosis("X1", row=RowFacts(is_adaptive=True)))
    assert found.proof == tuple(WRONG)
    assert found == Finding(
        checkpoint="d" * 64,
        dataset="digits (other pixels)",
        images="i" * 64,
        threat=THREAT,
        seed=4,
        examples=COUNT,
        diagnostic="X1",
        state="amber",
        value=2.5,
        threshold="amber: much; red: more",
        proof=tuple(WRONG),
        note="so it is",
        is_adaptive=True,
        details={"rates": (0.5, 1.0)},
    )


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_none(monkeypatch, value):
    reads(monkeypatch, lambda _: Reading("not_run", value))
    (found,) = diagnose(diagnosis("X1"))
    assert (found.value, found.proof) == (None, ())


def test_findings_come_in_the_order_that_was_asked_for():
    found = diagnose(diagnosis("D11", "D10"))
    assert [one.diagnostic for one in found] == ["D11", "D10"]
    assert {one.state for one in found} == {"green"}


def test_a_diagnostic_that_the_model_upsets_is_not_run_and_the_others_are(monkeypatch):
    def check(_):
        raise ModelError("raised", "out of order")

    reads(monkeypatch, check)
    (found,) = diagnose(diagnosis("X1"))
    assert (found.state, found.note) == ("not_run", "out of order")


class Fails(nn.Module):
    def forward(self, images):
        raise ValueError("out of order")


@pytest.mark.parametrize(
    ("load", "status", "said"),
    [
        (lambda: subject_of(Fails(), 2), "raised", "out of order"),
        (lambda: subject_of(Pixels(), 5), "wrong_shape", "one logit per class"),
        (lambda: _raise(HarnessError("the weights are not here")), "not_loaded", "not here"),
        (lambda: _raise(torch.OutOfMemoryError("full")), "out_of_memory", "fewer --examples"),
    ],
)
def test_a_model_that_cannot_be_loaded_or_judged_is_a_failure(monkeypatch, load, status, said):
    monkeypatch.setattr(module, "load_subject", lambda *_, **__: load())
    failure = diagnose(diagnosis("D11"))
    assert isinstance(failure, Failure)
    assert (failure.checkpoint, failure.dataset) == ("d" * 64, "digits (other pixels)")
    assert (failure.attack, failure.status) == ("diagnostics", status)
    assert said in failure.message


def _raise(error):
    raise error


def test_surrogates_are_known_by_the_start_of_their_digest(monkeypatch):
    loaded = []

    def load(record, *_, **__):
        loaded.append(record.digest)
        return subject_of(Pixels(), 2)

    monkeypatch.setattr(module, "load_subject", load)
    other = record_of("0123456789ab" + "f" * 52)
    found = examine(diagnosis(surrogates=(other,)))
    assert list(found.surrogates) == ["0123456789ab"]
    assert loaded == ["d" * 64, other.digest]


def test_without_training_images_only_what_draws_from_them_is_not_run(monkeypatch):
    assert examine(diagnosis()).guides is GUIDES
    monkeypatch.setattr(module, "is_here", lambda *_, **__: False)
    found = examine(diagnosis())
    assert found.guides is None
