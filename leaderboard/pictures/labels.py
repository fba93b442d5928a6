"""Names beside dots, only where they cover neither a dot nor one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LETTER, _ABOVE, _BELOW = 6.1, 9.0, 3.0
"""Of text of 11 units: mean width of a letter, height over and under its baseline."""

_GAP, _DOT, _LINE = 8.0, 5.0, 14.0
"""From a dot to its name, half of a dot, and from one line of text to the next."""

_AWAY = 6
"""So many lines a needed name may stand above or below its dot."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Label:
    """The name of a dot at (x, y); a needed one may stand away from it or cross a line."""

    text: str
    x: float
    y: float
    is_needed: bool = False


@dataclass(frozen=True)
class Placed:
    """A label at its baseline; `anchor` is empty, `end` or `middle`.

    `leader` is where a line from the dot ends, for a label that stands away from it.
    """

    text: str
    x: float
    y: float
    anchor: str
    leader: tuple[float, float] | None = None


def place(
    labels: Sequence[Label], dots: Sequence[tuple[float, float]], lines: Sequence[Box], box: Box
) -> list[tuple[Label, Placed]]:
    """Put the labels, in their order, where there is room for them.

    Args:
        labels: the most important first.
        dots: every dot of the picture; no label ever covers one.
        lines: what is drawn beside the dots; crossed by needed labels alone, as a last resort.
        box: what labels stay inside of.
    """
    solid = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in dots]
    found: list[tuple[Label, Placed]] = []
    for label in labels:
        chosen = _first_free(label, box, [*solid, *lines])
        if chosen is None and label.is_needed:
            chosen = _first_free(label, box, solid)
        if chosen is not None:
            solid.append(_box(chosen))
            found.append((label, chosen))
    return found


def _first_free(label: Label, box: Box, obstacles: Sequence[Box]) -> Placed | None:
    for placed in _places(label):
        mine = _box(placed)
        inside = mine[0] >= box[0] and mine[1] >= box[1] and mine[2] <= box[2] and mine[3] <= box[3]
        if inside and not any(_overlap(mine, other) for other in obstacles):
            return placed
    return None


def _places(label: Label) -> Iterator[Placed]:
    """Right, left, above, below of the dot, and the corners, the best place first."""
    x, y, text = label.x, label.y, label.text
    yield Placed(text, x + _GAP, y + 3.5, "")
    yield Placed(text, x + 5, y - _GAP, "")
    yield Placed(text, x, y - _GAP - 2, "middle")
    yield Placed(text, x + 5, y + _GAP + 7, "")
    yield Placed(text, x - _GAP, y + 3.5, "end")
    yield Placed(text, x - 5, y - _GAP, "end")
    yield Placed(text, x, y + _GAP + 9, "middle")
    yield Placed(text, x - 5, y + _GAP + 7, "end")
    if label.is_needed:
        yield from _away(label)


def _away(label: Label) -> Iterator[Placed]:
    """Lines above and below of the dot, ever farther, with a leader to the near corner."""
    x, y, text = label.x, label.y, label.text
    for line in range(1, _AWAY + 1):
        for side, anchor in ((5, ""), (-5, "end")):
            above, below = y - _GAP - line * _LINE, y + _GAP + 7 + line * _LINE
            yield Placed(text, x + side, above, anchor, (x + side, above + _BELOW))
            yield Placed(text, x + side, below, anchor, (x + side, below - _ABOVE))


def _box(placed: Placed) -> Box:
    width = _LETTER * len(placed.text)
    left = placed.x - {"": 0.0, "middle": width / 2, "end": width}[placed.anchor]
    return (left, placed.y - _ABOVE, left + width, placed.y + _BELOW)


def _overlap(one: Box, other: Box) -> bool:
    is_beside = one[2] <= other[0] or other[2] <= one[0]
    is_above = one[3] <= other[1] or other[3] <= one[1]
    return not (is_beside or is_above)
