"""Names beside dots, only where they cover neither a dot nor one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LETTER, _ABOVE, _BELOW = 6.1, 9.0, 3.0
"""Of text of 11 units: mean width of a letter, height over and under its baseline."""

_GAP, _DOT = 8.0, 5.0

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Label:
    """The name of a dot at (x, y)."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Placed:
    """A label at its baseline; `anchor` is empty, `end` or `middle`."""

    text: str
    x: float
    y: float
    anchor: str


def place(labels: Sequence[Label], box: Box, first: int, most: int) -> list[Placed]:
    """Put up to `most` labels, in their order, where there is room for them.

    Args:
        labels: one per dot, the most important first.
        box: what labels stay inside of.
        first: so many of them may cover dots of others where nothing better is left.
        most: labels placed at the end.
    """
    dots = [_dot(label) for label in labels]
    taken: list[Box] = []
    found: list[Placed] = []
    for number, label in enumerate(labels):
        if len(found) == most:
            break
        others = dots[:number] + dots[number + 1 :]
        crowd = dots[:first] if number < first else others
        chosen = _first_free(label, box, taken, others) or _first_free(label, box, taken, crowd)
        if chosen is not None:
            taken.append(_box(chosen))
            found.append(chosen)
    return found


def _first_free(label: Label, box: Box, taken: Iterable[Box], dots: Iterable[Box]) -> Placed | None:
    obstacles = [*taken, *(dot for dot in dots if dot != _dot(label))]
    for placed in _places(label):
        mine = _box(placed)
        inside = mine[0] >= box[0] and mine[1] >= box[1] and mine[2] <= box[2] and mine[3] <= box[3]
        if inside and not any(_overlap(mine, other) for other in obstacles):
            return placed
    return None


def _places(label: Label) -> list[Placed]:
    """Right, left, above, below of the dot, and the corners, the best place first."""
    x, y, text = label.x, label.y, label.text
    return [
        Placed(text, x + _GAP, y + 3.5, ""),
        Placed(text, x + 5, y - _GAP, ""),
        Placed(text, x, y - _GAP - 2, "middle"),
        Placed(text, x + 5, y + _GAP + 7, ""),
        Placed(text, x - _GAP, y + 3.5, "end"),
        Placed(text, x - 5, y - _GAP, "end"),
        Placed(text, x, y + _GAP + 9, "middle"),
        Placed(text, x - 5, y + _GAP + 7, "end"),
    ]


def _box(placed: Placed) -> Box:
    width = _LETTER * len(placed.text)
    left = placed.x - {"": 0.0, "middle": width / 2, "end": width}[placed.anchor]
    return (left, placed.y - _ABOVE, left + width, placed.y + _BELOW)


def _dot(label: Label) -> Box:
    return (label.x - _DOT, label.y - _DOT, label.x + _DOT, label.y + _DOT)


def _overlap(one: Box, other: Box) -> bool:
    is_beside = one[2] <= other[0] or other[2] <= one[0]
    is_above = one[3] <= other[1] or other[3] <= one[1]
    return not (is_beside or is_above)
