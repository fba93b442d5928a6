"""What pages know of thresholds in points, without PyTorch, is what the diagnostics apply."""

from __future__ import annotations

import inspect
import re

import torch

from harness.diagnostics.diagnostic import DIAGNOSTICS, GREEN, LEVEL, MANY, RED, graded_difference
from harness.standings import levels

_LIMITS = re.compile(r"amber=([\d.]+), red=([\d.]+)")
_TESTED = re.compile(r"\b(?:graded_difference|more_than_chance)\(")


def source(identity: str) -> str:
    return inspect.getsource(DIAGNOSTICS[identity].check)


def test_the_test_against_chance_is_the_same():
    assert (levels.MANY, levels.CHANCE) == (MANY, LEVEL)


def test_exactly_the_diagnostics_that_ask_the_test_are_listed():
    assert {one for one in DIAGNOSTICS if _TESTED.search(source(one))} == set(levels.IN_POINTS)


def test_thresholds_are_the_largest_that_each_of_them_compares_with():
    applied = {}
    for identity in levels.IN_POINTS:
        pairs = [tuple(map(float, pair)) for pair in _LIMITS.findall(source(identity))]
        applied[identity] = tuple(max(side) for side in zip(*pairs, strict=True))
    assert applied == levels.IN_POINTS


def test_six_points_on_99_images_are_green_and_on_many_images_red():
    for total, broken, state in ((99, 6, GREEN), (99, 7, RED), (MANY, 16, RED)):
        everyone = torch.ones(total, dtype=torch.bool)
        first = torch.arange(total) < broken
        assert graded_difference(first, ~everyone, everyone, amber=1, red=3).state == state
