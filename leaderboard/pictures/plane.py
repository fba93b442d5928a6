"""Clean against robust accuracy, and the Pareto front: whom nobody beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.standings import Board, Rate, Standing
from leaderboard import wording
from leaderboard.charts import Shape, Text
from leaderboard.pictures.labels import Label, Placed, place
from leaderboard.pictures.naming import Heading, Names, ordered

_WIDTH, _HEIGHT = 760, 470
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 28, 48
_LINKED = 200
_EVERY_WHISKER = 24
_LABELLED = 16


@dataclass(frozen=True)
class Spot:
    """Rows that lie on the same point: classes, where, what they are, and the best one's page."""

    kind: str
    x: str
    y: str
    title: str
    href: str


@dataclass(frozen=True)
class FrontRow:
    """A row of the front, in numbers."""

    heading: Heading
    clean: str
    robust: str
    interval: str


@dataclass(frozen=True)
class Plane:
    """The picture, and its front as a table; all other numbers stand in the board's table."""

    label: str
    width: int
    height: int
    shapes: tuple[Shape, ...]
    spots: tuple[Spot, ...]
    texts: tuple[Text, ...]
    front: tuple[FrontRow, ...]
    note: str


def plane(board: Board, names: Names) -> Plane | None:
    """The picture of the ranked rows; None where there is none."""
    rows = [row for row in ordered(board) if row.rank and row.robust.total and row.clean.total]
    if not rows:
        return None
    front = _front(rows)
    axes = _Axes.around(rows)
    groups = _groups(rows, axes)
    labels = place(_labels(groups, front, axes, names), axes.box, len(front), _LABELLED)
    whiskered = rows if len(rows) <= _EVERY_WHISKER else front
    return Plane(
        label=(
            f"Clean accuracy (across) and robust accuracy (up) of "
            f"{wording.plural(len(rows), 'row')}, {len(front)} of them on the front"
        ),
        width=_WIDTH,
        height=_HEIGHT,
        shapes=(axes.grid(), _whiskers(whiskered, axes), _stairs(front, axes)),
        spots=tuple(_spot(group, front, axes, names) for group in groups[:_LINKED]),
        texts=(*axes.ticks(), *(_text(one) for one in labels)),
        front=tuple(_front_row(row, names) for row in front),
        note=_note(rows, groups, whiskered),
    )


def _front(rows: Sequence[Standing]) -> list[Standing]:
    """Rows that no other beats in one accuracy without losing in the other, by falling robust."""
    best, found = -1.0, []
    by_clean = sorted(rows, key=lambda r: (-r.clean.fraction, -r.robust.fraction))
    for row in by_clean:
        if row.robust.fraction > best:
            best = row.robust.fraction
            found.append(row)
    return found[::-1]


def _groups(rows: Sequence[Standing], axes: _Axes) -> list[list[Standing]]:
    """Rows that are drawn at the same point, the best row of each first."""
    groups: dict[tuple[str, str], list[Standing]] = {}
    for row in rows:
        groups.setdefault(axes.point(row), []).append(row)
    return list(groups.values())


def _spot(group: Sequence[Standing], front: Sequence[Standing], axes: _Axes, names: Names) -> Spot:
    x, y = axes.point(group[0])
    kinds = ["front"] if any(row in front for row in group) else []
    kinds += [] if group[0].is_adaptive else ["open"]
    first = group[0]
    numbers = f"clean {wording.percent(first.clean)} %, robust {wording.percent(first.robust)} %"
    called = ", ".join(row.checkpoint.name for row in group)
    title = f"{called}: {numbers} ({wording.interval(first.robust)})"
    return Spot(" ".join(kinds), x, y, title, names.heading(first.checkpoint).href)


def _labels(
    groups: Sequence[Sequence[Standing]], front: Sequence[Standing], axes: _Axes, names: Names
) -> list[Label]:
    """One per point, those of the front first, then from the best down."""
    ranked = sorted(groups, key=lambda group: not any(row in front for row in group))
    labels = []
    for group in ranked:
        more = f" +{len(group) - 1}" if len(group) > 1 else ""
        x, y = (float(part) for part in axes.point(group[0]))
        labels.append(Label(f"{names.heading(group[0].checkpoint).text}{more}", x, y))
    return labels


def _text(placed: Placed) -> Text:
    return Text(f"name {placed.anchor}", _tenth(placed.x), _tenth(placed.y), placed.text)


def _front_row(row: Standing, names: Names) -> FrontRow:
    return FrontRow(
        names.heading(row.checkpoint),
        wording.percent(row.clean),
        wording.percent(row.robust),
        wording.interval(row.robust),
    )


def _note(rows: Sequence[Standing], groups: Sequence[object], whiskered: Sequence[Standing]) -> str:
    said = []
    if len(groups) < len(rows):
        said.append("Rows with the same two numbers share a dot: +2 is two more.")
    if len(groups) > _LINKED:
        said.append(f"The best {_LINKED} of {wording.count(len(groups))} dots are drawn.")
    if len(whiskered) < len(rows):
        said.append("Intervals are drawn for the front alone, since the rest is dense.")
    return " ".join(said)


def _whiskers(rows: Sequence[Standing], axes: _Axes) -> Shape:
    """The 95 % intervals of both accuracies."""
    path = ""
    for row in rows:
        x, y = axes.point(row)
        path += f"M{x} {axes.y(row.robust.low)}V{axes.y(row.robust.high)}"
        path += f"M{axes.x(row.clean.low)} {y}H{axes.x(row.clean.high)}"
    return Shape("whisker", path)


def _stairs(front: Sequence[Standing], axes: _Axes) -> Shape:
    """Everything below and left of it is beaten in both."""
    path = f"M{_LEFT} {axes.point(front[0])[1]}"
    for row in front:
        x, y = axes.point(row)
        path += f"V{y}H{x}"
    return Shape("stairs", f"{path}V{_HEIGHT - _BOTTOM}")


@dataclass(frozen=True)
class _Axes:
    """Maps fractions to coordinates: (low, high) of each axis, and the step of its grid."""

    across: tuple[float, float, float]
    up: tuple[float, float, float]

    @classmethod
    def around(cls, rows: Sequence[Standing]) -> _Axes:
        """Axes that hold every point, with a margin."""
        return cls(_span([row.clean for row in rows]), _span([row.robust for row in rows]))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of where labels may stand."""
        return (_LEFT, 4.0, _WIDTH - 4.0, _HEIGHT - _BOTTOM - 2.0)

    def point(self, row: Standing) -> tuple[str, str]:
        """Where a row lies."""
        return self.x(row.clean.fraction), self.y(row.robust.fraction)

    def x(self, fraction: float) -> str:
        return _tenth(_LEFT + (_WIDTH - _RIGHT - _LEFT) * _share(fraction, self.across))

    def y(self, fraction: float) -> str:
        return _tenth(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * _share(fraction, self.up))

    def grid(self) -> Shape:
        lines = "".join(f"M{_LEFT} {self.y(at)}H{_WIDTH - _RIGHT}" for at in _steps(self.up))
        lines += "".join(f"M{self.x(at)} {_TOP}V{_HEIGHT - _BOTTOM}" for at in _steps(self.across))
        return Shape("grid", lines)

    def ticks(self) -> list[Text]:
        foot = _HEIGHT - _BOTTOM
        up = [
            Text("tick end", str(_LEFT - 7), _tenth(float(self.y(at)) + 4), f"{100 * at:.0f} %")
            for at in _steps(self.up)
        ]
        across = [
            Text("tick middle", self.x(at), str(foot + 17), f"{100 * at:.0f} %")
            for at in _steps(self.across)
        ]
        return [
            *up,
            *across,
            Text("axis end", str(_WIDTH - _RIGHT), str(foot + 38), "clean accuracy →"),
            Text("axis", "4", "11", "↑ robust accuracy"),
        ]


def _span(rates: Sequence[Rate]) -> tuple[float, float, float]:
    """(low, high, step): whole steps around the points, at most seven of them."""
    low, high = min(rate.fraction for rate in rates), max(rate.fraction for rate in rates)
    step = next(s for s in (0.02, 0.05, 0.1, 0.2) if (high - low) / s <= 5 or s == 0.2)
    first = max(math.floor(round(low / step, 6) - 0.3), 0) * step
    last = min(math.ceil(round(high / step, 6) + 0.3) * step, 1.0)
    return first, max(last, first + step), step


def _steps(span: tuple[float, float, float]) -> list[float]:
    low, high, step = span
    return [low + step * number for number in range(round((high - low) / step + 1e-6) + 1)]


def _share(fraction: float, span: tuple[float, float, float]) -> float:
    """In [0, 1]: whiskers end where the picture does."""
    return min(max((fraction - span[0]) / (span[1] - span[0]), 0.0), 1.0)


def _tenth(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
