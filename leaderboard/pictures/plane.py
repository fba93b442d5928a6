"""Clean against robust accuracy, and the Pareto front: whom nobody beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.standings import Board, Standing
from leaderboard import wording
from leaderboard.charts import Shape, Text, coordinate
from leaderboard.pictures.axes import FOOT, HEIGHT, LEFT, WIDTH, Axes
from leaderboard.pictures.labels import Box, Label, Placed, place
from leaderboard.pictures.naming import Heading, Names, ordered
from leaderboard.texts import Texts

_LINKED = 200
_EVERY_WHISKER = 24
_NAMED = 6


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


def plane(board: Board, names: Names, texts: Texts) -> Plane | None:
    """The picture of the ranked rows; None where there is none."""
    rows = [row for row in ordered(board) if row.rank and row.robust.total and row.clean.total]
    if not rows:
        return None
    drawn = [row for row in rows if row.robust.count] or rows
    front = _front(rows)
    axes = Axes.around(drawn)
    groups = _groups(drawn, axes)
    whiskered = [row for row in drawn if len(drawn) <= _EVERY_WHISKER or row in front]
    lines = [*_stairs(front, axes), *_whiskers(whiskered, axes)]
    dots = [_numbers(axes.point(group[0])) for group in groups[:_LINKED]]
    labels = place(_labels(groups, front, axes, names, texts), dots, lines, axes.box)
    return Plane(
        label=(
            f"Clean accuracy (across) and robust accuracy (up) of "
            f"{wording.plural(len(drawn), 'row')}, {len(front)} of them on the front"
        ),
        width=WIDTH,
        height=HEIGHT,
        shapes=(
            axes.grid(),
            _drawn("whisker", _whiskers(whiskered, axes)),
            _drawn("stairs", _stairs(front, axes)),
            _leaders(labels),
        ),
        spots=tuple(_spot(group, front, axes, names) for group in groups[:_LINKED]),
        texts=(*axes.ticks(), *(_text(one) for _, one in labels)),
        front=tuple(_front_row(row, names) for row in front),
        note=_note(rows, drawn, groups, whiskered, names),
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


def _groups(rows: Sequence[Standing], axes: Axes) -> list[list[Standing]]:
    """Rows that are drawn at the same point, the best row of each first."""
    groups: dict[tuple[str, str], list[Standing]] = {}
    for row in rows:
        groups.setdefault(axes.point(row), []).append(row)
    return list(groups.values())


def _spot(group: Sequence[Standing], front: Sequence[Standing], axes: Axes, names: Names) -> Spot:
    x, y = axes.point(group[0])
    kinds = ["front"] if any(row in front for row in group) else []
    kinds += [] if group[0].is_adaptive else ["open"]
    first = group[0]
    numbers = f"clean {wording.percent(first.clean)} %, robust {wording.percent(first.robust)} %"
    called = ", ".join(row.checkpoint.name for row in group)
    title = f"{called}: {numbers} ({wording.interval(first.robust)})"
    return Spot(" ".join(kinds), x, y, title, names.heading(first.checkpoint).href)


def _labels(
    groups: Sequence[Sequence[Standing]],
    front: Sequence[Standing],
    axes: Axes,
    names: Names,
    texts: Texts,
) -> list[Label]:
    """One per point of the front, then the best row of each baseline that has a point."""
    baselines = {name for name, text in texts.defenses.items() if not text.base}
    needed: list[Label] = []
    others: list[Label] = []
    for group in groups:
        first = next((row for row in group if row in front), None)
        known = next((row for row in group if row.checkpoint.defense in baselines), None)
        baselines -= {row.checkpoint.defense for row in group}
        named = first or known
        if named is None:
            continue
        more = f" +{len(group) - 1}" if len(group) > 1 else ""
        text = f"{names.heading(named.checkpoint).text}{more}"
        label = Label(text, *_numbers(axes.point(named)), is_needed=first is not None)
        (needed if label.is_needed else others).append(label)
    return [*needed, *others]


def _text(placed: Placed) -> Text:
    return Text(f"name {placed.anchor}", coordinate(placed.x), coordinate(placed.y), placed.text)


def _front_row(row: Standing, names: Names) -> FrontRow:
    return FrontRow(
        names.heading(row.checkpoint),
        wording.percent(row.clean),
        wording.percent(row.robust),
        wording.interval(row.robust),
    )


def _note(
    rows: Sequence[Standing],
    drawn: Sequence[Standing],
    groups: Sequence[object],
    whiskered: Sequence[Standing],
    names: Names,
) -> str:
    said = []
    if len(groups) < len(drawn):
        said.append("Rows with the same two numbers share a dot: +2 is two more.")
    if len(groups) > _LINKED:
        said.append(f"The best {_LINKED} of {wording.count(len(groups))} dots are drawn.")
    if len(whiskered) < len(drawn):
        said.append("Intervals are drawn for the front alone, since the rest is dense.")
    if len(drawn) < len(rows):
        below = [names.heading(row.checkpoint).text for row in rows if not row.robust.count]
        more = f" and {len(below) - _NAMED} more" if len(below) > _NAMED else ""
        listed = f"{', '.join(below[:_NAMED])}{more}"
        said.append(f"Not drawn, at 0 % robust accuracy: {listed}.")
    return " ".join(said)


def _whiskers(rows: Sequence[Standing], axes: Axes) -> list[Box]:
    """The 95 % intervals of both accuracies."""
    found = []
    for row in rows:
        x, y = _numbers(axes.point(row))
        found.append((x, float(axes.y(row.robust.high)), x, float(axes.y(row.robust.low))))
        found.append((float(axes.x(row.clean.low)), y, float(axes.x(row.clean.high)), y))
    return found


def _stairs(front: Sequence[Standing], axes: Axes) -> list[Box]:
    """Everything below and left of it is beaten in both."""
    x, y = float(LEFT), _numbers(axes.point(front[0]))[1]
    found: list[Box] = []
    for row in front:
        right, below = _numbers(axes.point(row))
        found += [(x, y, x, below), (x, below, right, below)]
        x, y = right, below
    return [*found, (x, y, x, float(FOOT))]


def _drawn(kind: str, lines: Sequence[Box]) -> Shape:
    """Upright and level lines as one path."""
    numbers = [tuple(map(coordinate, line)) for line in lines if line[:2] != line[2:]]
    return Shape(kind, "".join(f"M{x} {y}L{to} {end}" for x, y, to, end in numbers))


def _leaders(labels: Sequence[tuple[Label, Placed]]) -> Shape:
    """From dots to the labels that stand away from them."""
    ends = [(label.x, label.y, *one.leader) for label, one in labels if one.leader]
    return _drawn("leader", ends)


def _numbers(point: tuple[str, str]) -> tuple[float, float]:
    return float(point[0]), float(point[1])
