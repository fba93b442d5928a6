"""Maps of feature space, t-SNE and UMAP, clean beside attacked: a dot per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.identity import Measurement
from leaderboard import wording
from leaderboard.charts import Chart, Shape, Text
from leaderboard.panels.figures import Table

_METHODS = {"tsne": "t-SNE", "umap": "UMAP"}
_SIDE, _MARGIN = 400, 12
_MOST_POINTS = 2048
_COLOURS = 10

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """One picture and what it is of."""

    title: str
    chart: Chart


@dataclass(frozen=True)
class FeatureMap:
    """Every picture, a pair per method, and how pure the neighbourhoods in them are."""

    said: str
    maps: tuple[Map, ...]
    table: Table
    note: str

    @classmethod
    def of(cls, found: Sequence[Measurement]) -> FeatureMap | None:
        """Of the clean images and one attack; None where no picture can be drawn."""
        views = [view for one in found[:2] if (view := _View.of(one)) is not None]
        if not views:
            return None
        drawn = [(method, view) for method in _METHODS for view in views if method in view.points]
        attacks = ", ".join(view.on for view in views if view.on != "clean")
        boxes = {method: _box(views, method) for method, _ in drawn}
        return cls(
            said=(
                "Each dot is a test image, its colour and the number above the middle of a "
                "group its true class. Both pictures of a pair share one embedding, so a place "
                "means the same in either; the axes and distances between far groups mean nothing."
                f"{f' Attacked: {attacks}.' if attacks else ''}"
            ),
            maps=tuple(_map(method, view, boxes[method]) for method, view in drawn),
            table=_purity(drawn),
            note=found[0].note,
        )


@dataclass(frozen=True)
class _View:
    """One measurement: true classes [n], and per method points [n, 2]."""

    on: str
    classes: NDArray[np.int64]
    points: dict[str, Points]

    @property
    def short(self) -> str:
        """`clean`, or `attacked` by what the text names."""
        return "clean" if self.on == "clean" else "attacked"

    @classmethod
    def of(cls, one: Measurement) -> _View | None:
        classes = one.values.get("classes", ())
        points = {}
        for method in _METHODS:
            pair = [one.values.get(f"{method}_{axis}", ()) for axis in "xy"]
            is_whole = all(len(numbers) == len(classes) for numbers in pair)
            if is_whole and all(math.isfinite(n) for numbers in pair for n in numbers):
                points[method] = np.array(pair, dtype=np.float64).T
        is_sound = 2 <= len(classes) <= _MOST_POINTS and all(0 <= c < 1e6 for c in classes)
        if not is_sound or not points:
            return None
        return cls(one.on, np.array(classes).astype(np.int64), points)


def _box(views: Sequence[_View], method: str) -> tuple[Points, float]:
    """The middle of all points of a method, and the longer side of what holds them."""
    every = np.concatenate([view.points[method] for view in views if method in view.points])
    low, high = every.min(0), every.max(0)
    return (low + high) / 2, float((high - low).max()) or 1.0


def _map(method: str, view: _View, box: tuple[Points, float]) -> Map:
    middle, side = box
    places = (view.points[method] - middle) / side * (_SIDE - 2 * _MARGIN) + _SIDE / 2
    whole = np.rint(places).astype(np.int64)
    shapes, texts = [], []
    for number in np.unique(view.classes).tolist():
        mine = whole[view.classes == number]
        path = "".join(f"M{x} {y}h0" for x, y in mine.tolist())
        shapes.append(Shape(f"dots c{number % _COLOURS}", path))
        x, y = np.rint(np.median(mine, axis=0)).astype(np.int64).tolist()
        texts.append(Text("middle", str(x), str(y - 14), str(number)))
    title = f"{_METHODS[method]}, {view.short}"
    label = f"{title}: {len(whole)} images of {len(shapes)} classes"
    return Map(title, Chart(label, _SIDE, _SIDE, tuple(shapes), tuple(texts), ()))


def _purity(drawn: Sequence[tuple[str, _View]]) -> Table:
    """Per picture and class: dots whose nearest dot has the same class."""
    pure = [_same_class(view.points[method], view.classes) for method, view in drawn]
    columns = tuple(f"{_METHODS[method]}, {view.short}, %" for method, view in drawn)
    classes = sorted({int(c) for _, view in drawn for c in view.classes})
    rows = [("all", *(_percent(one) for one in pure))]
    for number in classes:
        cells = (one[view.classes == number] for one, (_, view) in zip(pure, drawn, strict=True))
        rows.append((str(number), *map(_percent, cells)))
    caption = "Dots whose nearest dot in the same picture has the same class."
    return Table(caption, ("Class", *columns), tuple(rows))


def _same_class(points: Points, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[n], whether the nearest other point has the same class; of equally near ones the first."""
    squares = ((points[:, None] - points[None]) ** 2).sum(2)
    np.fill_diagonal(squares, np.inf)
    same: NDArray[np.bool_] = classes[squares.argmin(1)] == classes
    return same


def _percent(same: NDArray[np.bool_]) -> str:
    return f"{100 * same.mean():.1f}" if len(same) else wording.NOTHING
