"""Drawings with axes, and the tables that stand beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import HarnessError
from leaderboard.charts import Chart, Dot, Shape, Text, coordinate

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 22, 40
_SIZES = {"small": (300, 190), "wide": (560, 300)}
_LINES = 5
"""Classes of lines that the style tells apart, by dashes too; a sixth line looks like the first."""

MOST_POINTS = 64
"""A curve of a database that claims more points is not drawn: no diagnostic makes one."""


@dataclass(frozen=True)
class Table:
    """Cells as text; the first of each row is its head, the first `words` hold no numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True)
class Key:
    """One line of a legend: the class of what is drawn, and its name."""

    kind: str
    name: str


@dataclass(frozen=True)
class Figure:
    """A drawing, what it means in one or two sentences, and its numbers as a table."""

    title: str
    said: str
    chart: Chart
    kind: str
    keys: tuple[Key, ...]
    table: Table


@dataclass(frozen=True)
class Line:
    """A curve: its name and its points, across and up in the units of the axes."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with the numbers that get a label.

    Raises:
        HarnessError: an end is not finite, or there is nothing between them.
    """

    name: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise HarnessError(f"an axis from {self.low} to {self.high} has no length.")

    def share(self, number: float) -> float:
        """How far along it lies, cut to [0, 1]."""
        return min(max((number - self.low) / (self.high - self.low), 0.0), 1.0)


PERCENT = Axis("", 0.0, 100.0, tuple((step, f"{step} %") for step in (0, 25, 50, 75, 100)))


@dataclass(frozen=True)
class Marks:
    """Dashed lines with a name: `upright` at numbers across, `level` at numbers up."""

    upright: tuple[tuple[float, str], ...] = ()
    level: tuple[tuple[float, str], ...] = ()


def lines(
    label: str,
    series: Sequence[Line],
    across: Axis,
    up: Axis = PERCENT,
    *,
    kind: str = "small",
    marks: Marks | None = None,
) -> Chart:
    """Curves over one pair of axes, each with its own dashes and a dot per point.

    Args:
        label: what it says for those who cannot see it.
        series: their points in any order of drawing; beyond an axis they lie on its end.
        across: from left to right.
        up: from the bottom to the top.
        kind: `small` or `wide`.
        marks: what else is drawn.
    """
    plane = _Plane(kind, across, up)
    shapes, dots = plane.grid(), []
    texts = plane.labels()
    for place, name in (marks or Marks()).upright:
        shapes.append(Shape("mark", f"M{plane.x(place)} {_TOP - 18}V{plane.bottom}"))
        anchor = "end" if across.share(place) > 0.5 else "begin"
        shift = -5 if anchor == "end" else 5
        x = coordinate(float(plane.x(place)) + shift)
        texts.append(Text(f"note {anchor}", x, str(_TOP - 8), name))
    for place, name in (marks or Marks()).level:
        y = plane.y(place)
        shapes.append(Shape("mark", f"M{_LEFT} {y}H{plane.right}"))
        beside = float(y) + (14 if up.share(place) > 0.5 else -5)
        texts.append(Text("note begin", str(_LEFT + 5), coordinate(beside), name))
    for number, line in enumerate(series):
        path = "L".join(f"{plane.x(x)} {plane.y(y)}" for x, y in line.points)
        shapes.append(Shape(f"line {line_kind(number)}", f"M{path}"))
        dots += plane.dots(line, line_kind(number))
    return Chart(label, plane.width, plane.height, tuple(shapes), tuple(texts), tuple(dots))


def line_kind(number: int) -> str:
    """The class of the `number`th line of a drawing, from 0."""
    return f"l{number % _LINES}"


def keys(series: Sequence[Line]) -> tuple[Key, ...]:
    """The legend, which one line alone does not need."""
    if len(series) < 2:
        return ()
    return tuple(Key(line_kind(number), line.name) for number, line in enumerate(series))


def curves(details: Mapping[str, Sequence[float]], *names: str) -> list[tuple[float, ...]] | None:
    """The numbers of these names, all as long; None where one is missing or not to be drawn."""
    found = [tuple(details.get(name, ())) for name in names]
    lengths = {len(one) for one in found}
    is_drawable = len(lengths) == 1 and 2 <= max(lengths) <= MOST_POINTS
    if not is_drawable or not all(math.isfinite(number) for one in found for number in one):
        return None
    return found


class _Plane:
    """Maps the numbers of two axes to coordinates."""

    def __init__(self, kind: str, across: Axis, up: Axis) -> None:
        self.width, self.height = _SIZES[kind]
        self.right, self.bottom = self.width - _RIGHT, self.height - _BOTTOM
        self.across, self.up = across, up

    def x(self, number: float) -> str:
        return coordinate(_LEFT + (self.right - _LEFT) * self.across.share(number))

    def y(self, number: float) -> str:
        return coordinate(self.bottom - (self.bottom - _TOP) * self.up.share(number))

    def grid(self) -> list[Shape]:
        levels = "".join(f"M{_LEFT} {self.y(level)}H{self.right}" for level, _ in self.up.ticks)
        return [Shape("grid", levels)] if levels else []

    def labels(self) -> list[Text]:
        beside, below = str(_LEFT - 6), str(self.bottom + 16)
        return [
            *(
                Text("tick end", beside, coordinate(float(self.y(level)) + 4), said)
                for level, said in self.up.ticks
            ),
            *(Text("tick middle", self.x(step), below, said) for step, said in self.across.ticks),
            Text("axis end", str(self.right), str(self.height - 6), self.across.name),
        ]

    def dots(self, line: Line, kind: str) -> list[Dot]:
        if len(line.points) > 16:
            return []
        said = line.name or self.across.name
        return [
            Dot(f"dot {kind}", self.x(x), self.y(y), f"{said}: {y:.4g}") for x, y in line.points
        ]
