from __future__ import annotations

import pytest
import torch
from tiny_exhibits import Constant, Pixels, exhibit_of, record_of

from harness.analysis.analysis import ANALYSES
from harness.analysis.exhibit import PGD_20
from harness.analysis.overfitting_gap import overfitting_gap
from harness.analysis.training_time import training_time
from harness.errors import HarnessError
from harness.evaluation.handle import Handle
from harness.identity import Capabilities

RUN = {"best_epoch": 2, "probed": 26, "probe_held_out": True}


def _gap(last, best, labels, **training):
    record = record_of(training={**RUN, **training}, curves={"probe_pgd": (0.2, 0.4, 0.3)})
    exhibit = exhibit_of(last, record=record, best=lambda: Handle(best, 3))
    exhibit.labels = labels
    return overfitting_gap(exhibit)


def test_the_gap_is_best_minus_last():
    labels = torch.tensor([0] * 18 + [1] * 6)
    (reading,) = _gap(Constant(1), Constant(0), labels)
    values = {name: one for name, (one,) in reading.values.items()}

    assert reading.on == PGD_20.label
    assert values == {
        "gap": 0.5,
        "best": 0.75,
        "last": 0.25,
        "clean_best": 0.75,
        "clean_last": 0.25,
        "best_epoch": 2.0,
        "last_epoch": 3.0,
        "is_held_out": 1.0,
    }


def test_an_attacked_image_does_not_count():
    exhibit = exhibit_of(Pixels())
    labels = exhibit.model(exhibit.images).logits.argmax(1)
    (reading,) = _gap(Pixels(), Constant(0), labels)

    assert reading.values["clean_last"] == (1.0,)
    assert reading.values["last"][0] < 0.7


@pytest.mark.parametrize(
    ("held_out", "words"),
    [(True, "26 training images that were held out"), (False, "26 training images that were le")],
)
def test_the_note_says_on_what_the_epoch_was_chosen(held_out, words):
    (reading,) = _gap(Constant(0), Constant(0), torch.zeros(24).long(), probe_held_out=held_out)

    assert words in reading.note
    assert reading.values["is_held_out"] == (float(held_out),)


def test_without_best_weights_or_with_damaged_ones_the_gap_is_not_run():
    def damaged():
        raise HarnessError("the weights were changed.")

    entry = ANALYSES["overfitting_gap"]
    (without,) = entry.read(exhibit_of(Pixels()))
    (broken,) = entry.read(exhibit_of(Pixels(), best=damaged))
    is_random = record_of(capabilities=Capabilities(3, is_random=True))
    (random,) = entry.read(exhibit_of(Pixels(), best=damaged, record=is_random))

    assert "were not kept" in without.note
    assert broken.note == "not run: the weights were changed."
    assert "is random" in random.note


def test_time_is_the_median_and_the_sum_of_the_epochs():
    record = record_of(curves={"seconds": (9.0, 1.0, 2.0, 3.0)}, training={"device": "cuda"})
    (reading,) = training_time(exhibit_of(Pixels(), record=record))

    assert reading.values == {"median": (2.5,), "total": (15.0,), "epochs": (4.0,)}
    assert (reading.on, reading.note) == ("training", "On cuda.")


def test_nobody_timed_a_model_from_elsewhere():
    (reading,) = ANALYSES["training_time"].read(exhibit_of(Pixels()))

    assert reading.values == {}
    assert "nobody timed" in reading.note
