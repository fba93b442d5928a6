"""Adversarial images as 8-bit numbers: inside the ball as it is checked, near what broke."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation.kept import as_pixels, rounded_inside
from harness.threat import ThreatModel
from harness.verification import check_inside

EIGHT = ThreatModel("linf", Fraction(8, 255))


def _clean() -> torch.Tensor:
    return as_pixels(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16))


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("epsilon", ["8/255", "1/255", "0.031", "1/5", "1"])
def test_images_at_the_border_of_the_ball_are_rounded_inside_it(epsilon, side):
    threat = ThreatModel.parse("linf", epsilon)
    clean = _clean()
    adversarial = (clean + side * float(threat.epsilon)).clamp(0, 1)
    rounded = as_pixels(rounded_inside(clean, adversarial, threat))

    check_inside(clean, rounded, threat)
    assert float((rounded - adversarial).abs().max()) < 1.01 / 255 + 1e-6


def test_every_level_of_every_grey_is_checked_against_the_exact_fraction():
    """As float32, 100/255 and 92/255 may be further apart than 8/255, and that is not allowed."""
    clean = _clean()
    nearest = (clean * 255 + 8).clamp(0, 255).round() / 255
    beyond = (nearest.double() - clean.double()).abs() > float(EIGHT.epsilon)
    rounded = as_pixels(rounded_inside(clean, nearest, EIGHT))

    assert beyond.any()
    assert torch.equal(rounded[~beyond], nearest[~beyond])
    check_inside(clean, rounded, EIGHT)


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from(["linf", "l2"]), st.sampled_from(["8/255", "1/2"]))
def test_what_lies_inside_the_ball_lies_inside_when_rounded(seed, norm, epsilon):
    threat = ThreatModel.parse(norm, epsilon)
    draw = torch.Generator().manual_seed(seed)
    clean = as_pixels(torch.randint(0, 256, (2, 3, 4, 4), generator=draw, dtype=torch.uint8))
    step = torch.rand(clean.shape, generator=draw) * 2 - 1
    if norm == "l2":
        step /= step.flatten(1).norm(dim=1).clamp_min(1)[:, None, None, None]
    adversarial = (clean + step * float(threat.epsilon) * 0.999).clamp(0, 1)

    check_inside(clean, as_pixels(rounded_inside(clean, adversarial, threat)), threat)


def test_grey_levels_come_back_as_a_split_gives_them():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_pixels(levels), levels.float() / 255)
    assert as_pixels(torch.ones(2)).equal(torch.ones(2))
