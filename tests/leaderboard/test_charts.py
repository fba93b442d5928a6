"""Geometry of the drawings: to scale, inside the frame, holes where there is no number."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leaderboard.charts import Step, bar, falling_union, training_curve

FRACTIONS = st.floats(0, 1)


def coordinates(chart):
    for shape in chart.shapes:
        yield from (float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", shape.path))


def test_a_bar_is_to_scale_and_colours_only_what_standard_attacks_hide():
    strips = bar(0.525, (0.456, 0.593), clean=0.96, standard=0.655, level="red")
    assert [(s.kind, s.start, s.width) for s in strips] == [
        ("c", "", "96"),
        ("gr", "", "65.5"),
        ("r", "", "52.5"),
        ("i", "45.6", "13.7"),
    ]
    assert [s.kind for s in bar(0.5, (0.4, 0.6), standard=0.5)] == ["r", "i"]


def test_the_union_starts_at_clean_and_ends_at_the_headline():
    chart = falling_union(1.0, [Step("a", 0.75), Step("b", 0.75), Step("c", 0.0)], 0.75)
    line = next(shape.path for shape in chart.shapes if shape.kind == "line")
    ys = re.findall(r"V([\d.]+)", line)
    floor, top = 308.0, 18.0
    assert line.startswith("M50 18H")
    assert [float(y) for y in ys] == [pytest.approx(top + (floor - top) / 4), 90.5, floor]
    assert [dot.title for dot in chart.dots] == [
        "clean: 100.0 %",
        "1. a: 75.0 % left",
        "3. c: 0.0 % left",
    ]
    assert "not broken by any of 3 attacks" in chart.label


def test_without_an_attack_there_is_no_chart():
    assert falling_union(0.9, [], None) is None
    assert training_curve("loss", []) is None
    assert training_curve("loss", [math.nan, math.inf]) is None


def test_what_is_not_finite_leaves_a_hole():
    chart = training_curve("loss", [1.0, 0.5, math.nan, 0.25, 0.125])
    line = next(shape.path for shape in chart.shapes if shape.kind == "line")
    assert (line.count("M"), line.count("L")) == (2, 2)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
@example([5e-324])
@example([1e-300])
def test_curves_stay_inside_their_frame(values):
    chart = training_curve("any", values)
    assert all(0 <= number <= chart.width for number in coordinates(chart))
    assert all(0 <= float(dot.y) <= chart.height for dot in chart.dots)


@given(FRACTIONS, st.lists(FRACTIONS, min_size=1, max_size=60), st.none() | FRACTIONS)
def test_the_union_stays_inside_its_frame_with_few_labels(clean, fractions, standard):
    chart = falling_union(clean, [Step("a", one) for one in fractions], standard)
    assert all(0 <= number <= chart.width for number in coordinates(chart))
    assert len([text for text in chart.texts if text.kind == "tick middle"]) <= 12
