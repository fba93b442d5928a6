from __future__ import annotations

import math

import pytest
import torch
from tiny_exhibits import SHAPE, THREAT, Pixels, exhibit_of, images_and_labels

from harness.analysis import exhibit as module
from harness.analysis.analysis import ANALYSES
from harness.analysis.exhibit import PGD_20, look, pgd_20
from harness.outputs import Outputs


def test_every_analysis_is_registered():
    assert set(ANALYSES) == {
        "relationship_score",
        "exclusion_alignment",
        "angular_margins",
        "gradient_norm_ratios",
        "overfitting_gap",
        "training_time",
        "feature_map",
        "gate_flips",
        "image_pairs",
    }


def test_pgd_20_takes_twenty_steps_on_images_that_are_wrong_already_too():
    exhibit = exhibit_of(Pixels())
    seen = []

    def watched(images):
        seen.append(len(images))
        return exhibit.model(images)

    wrong = (exhibit.model(exhibit.images).logits.argmax(1) + 1) % 3
    found = pgd_20(watched, exhibit.images, wrong, range(24), THREAT, 0)

    assert found.broken.all()
    assert seen == [24] * 22  # clean, twenty steps, one last look
    assert ((found.images - exhibit.images).abs().amax((1, 2, 3)) > 0.03).all()
    assert dict(PGD_20.parameters)["relative_step"] * 0.031 < 0.00301


def test_on_a_linear_model_pgd_20_ends_in_the_corner_that_is_worst():
    exhibit = exhibit_of(Pixels(classes=2), classes=2)
    images = 0.25 + exhibit.images / 2  # the box is nowhere near
    found = pgd_20(exhibit.model, images, exhibit.labels, range(24), THREAT, 0)
    weight = exhibit.model.module.weight
    towards = (weight[1 - exhibit.labels] - weight[exhibit.labels]).sign().view(-1, *SHAPE)

    # twenty steps of 0.0968 epsilon are 0.064 epsilon short of crossing the whole ball
    assert torch.allclose(found.images, images + 0.05 * towards, atol=0.065 * 0.05)


def test_blocks_change_no_image(monkeypatch):
    whole = exhibit_of(Pixels()).under_pgd_20
    monkeypatch.setattr(module, "BLOCK", 7)
    pieces = exhibit_of(Pixels()).under_pgd_20

    assert torch.equal(whole.images, pieces.images)
    assert torch.equal(whole.broken, pieces.broken)


def test_training_images_have_random_starts_of_their_own():
    exhibit = exhibit_of(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)))
    images, labels = images_and_labels()
    given = (exhibit.model, images, labels, range(24), THREAT, 0)

    assert not torch.equal(pgd_20(*given).images, pgd_20(*given, split="train").images)


def test_without_a_stored_attack_pgd_20_is_looked_at_and_the_note_says_so():
    exhibit = exhibit_of(Pixels())

    assert exhibit.attacked.on == PGD_20.label
    assert exhibit.attacked.note == "No attack is stored for these images: PGD-20 was run."
    assert torch.equal(exhibit.attacked.images, exhibit.pgd_20.images)


def test_a_look_in_blocks_is_one_look(monkeypatch):
    exhibit = exhibit_of(Pixels())
    whole = look(exhibit.model, exhibit.images)
    monkeypatch.setattr(module, "BLOCK", 5)

    assert torch.equal(look(exhibit.model, exhibit.images).features, whole.features)


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["relationship_score", "exclusion_alignment"])
def test_features_that_are_no_numbers_give_no_score(name, number):
    class Spoilt(Pixels):
        def forward(self, images):
            found = super().forward(images)
            return Outputs(found.logits, features=found.features * number)

    (reading,) = ANALYSES[name].read(exhibit_of(Spoilt()))

    assert reading.values == {}
    assert "infinite or not a number" in reading.note
