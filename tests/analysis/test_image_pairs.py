from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_exhibits import THREAT, Pixels, exhibit_of, record_of

from harness.analysis.analysis import ANALYSES
from harness.analysis.exhibit import View
from harness.analysis.image_pairs import image_pairs
from harness.identity import PICTURES, Capabilities

LEVELS = int(THREAT.epsilon * 255)


def levels(images):
    return (images * 255).round().to(torch.uint8)


@pytest.fixture
def exhibit():
    """Thirty images in grey levels; some wrong as they are, some moved until they are wrong."""
    module = Pixels()
    whole = exhibit_of(module)
    images = levels(torch.cat([whole.images, whole.images[:6]])).float() / 255
    decided = module(images).logits.argmax(1)
    labels = decided.clone()
    labels[::5] = (labels[::5] + 1) % 3
    weight = module.weight
    moved = torch.empty_like(images)
    for place, image in enumerate(images):
        towards = weight[(decided[place] + 1) % 3] - weight[decided[place]]
        step = LEVELS / 255 * towards.sign().reshape(image.shape)
        is_attacked = labels[place] == decided[place]
        moved[place] = (image + step).clamp(0, 1) if is_attacked else image
    view = View("pgd@logits:ce", moved, "Seed 0.", levels(moved))
    return exhibit_of(module, images=images, labels=labels, indices=range(30), worst=view)


def test_the_first_images_are_kept_as_they_are_and_as_the_attack_left_them(exhibit):
    clean, attacked = image_pairs(exhibit)

    assert clean.pairs is None
    assert attacked.pairs.indices == tuple(range(PICTURES))
    assert torch.equal(attacked.pairs.pixels, exhibit.worst.pixels[:PICTURES])
    assert (clean.on, attacked.on) == ("clean", "pgd@logits:ce")


def test_a_picture_is_broken_where_only_it_is_decided_wrongly(exhibit):
    clean, attacked = image_pairs(exhibit)
    labels = exhibit.labels[:PICTURES]
    before = exhibit.model(exhibit.images[:PICTURES]).logits.argmax(1)
    after = exhibit.model(exhibit.worst.pixels[:PICTURES].float() / 255).logits.argmax(1)
    broken = (before == labels) & (after != labels)

    assert attacked.pairs.predicted == tuple(after.tolist())
    assert attacked.pairs.broken == tuple(broken.tolist())
    assert 0 < broken.sum() < (after != labels).sum()
    assert clean.values == {"pictures": (24,), "wrong": (5,)}
    assert attacked.values == {
        "pictures": (24,),
        "wrong": (int((after != labels).sum()),),
        "broken": (int(broken.sum()),),
    }
    assert attacked.note == f"Rounded to 8 bits, {int(broken.sum())} of 19 that were right break."


def test_an_adversarial_image_that_rounding_mends_is_not_broken(exhibit):
    """Judged are the pictures that are kept, never the images that they were made from."""
    pixels = levels(exhibit.images)
    exhibit.worst = exhibit.worst._replace(pixels=pixels)
    _, attacked = image_pairs(exhibit)

    assert not any(attacked.pairs.broken)
    assert attacked.values["wrong"] == (5,)


def test_logits_that_are_not_finite_are_no_class(exhibit):
    class Broken(Pixels):
        def forward(self, images):
            outputs = super().forward(images)
            return replace(outputs, logits=outputs.logits * torch.nan)

    exhibit.model = exhibit_of(Broken()).model
    _, attacked = image_pairs(exhibit)

    assert set(attacked.pairs.predicted) == {-1}
    assert not any(attacked.pairs.broken)


def test_fewer_images_give_fewer_pictures(exhibit):
    few = replace(
        exhibit,
        images=exhibit.images[:3],
        labels=exhibit.labels[:3],
        indices=range(3),
        worst=exhibit.worst._replace(pixels=exhibit.worst.pixels[:3]),
    )

    assert next(image_pairs(few)).values["pictures"] == (3,)


@pytest.mark.parametrize("moved_by", [LEVELS + 1, 100])
def test_pictures_outside_the_ball_are_not_kept(exhibit, moved_by):
    pixels = levels(exhibit.images)
    pixels[4, 0, 0, 0] = pixels[4, 0, 0, 0] + moved_by if pixels[4, 0, 0, 0] < 128 else 0
    exhibit.worst = exhibit.worst._replace(pixels=pixels)
    (reading,) = ANALYSES["image_pairs"].read(exhibit)

    assert reading.pairs is None
    assert "rounded to 8 bits the images are not allowed" in reading.note


def test_where_nothing_is_attacked_there_are_no_pairs_and_no_attack_is_run(monkeypatch):
    monkeypatch.setattr("harness.analysis.exhibit.run_attack", None)
    (reading,) = ANALYSES["image_pairs"].read(exhibit_of(Pixels()))

    assert (reading.values, reading.pairs) == ({}, None)
    assert reading.note.startswith("not run: no attack is stored for these images")


def test_a_random_model_has_no_pairs(exhibit):
    exhibit.record = record_of(capabilities=Capabilities(3, is_random=True))
    (reading,) = ANALYSES["image_pairs"].read(exhibit)

    assert reading.pairs is None
    assert "the model is random" in reading.note
