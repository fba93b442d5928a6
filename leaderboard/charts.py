"""Geometry of every drawing as ready text; templates wrap it in SVG, the style has the colours.

Drawn by hand rather than with matplotlib: a chart is one or two kilobytes, follows light and dark
through its classes, needs no inline style, and is the same bytes for the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 560, 350
_SMALL_WIDTH, _SMALL_HEIGHT = 300, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 18, 42
_SHOWN_TICKS = 12
_LINE = 16
"""Height of a line of text."""


@dataclass(frozen=True)
class Strip:
    """One rectangle of a bar: its class, where it starts and how wide it is, in percent."""

    kind: str
    start: str
    width: str


@dataclass(frozen=True)
class Shape:
    """One path: its class and its `d`."""

    kind: str
    path: str


@dataclass(frozen=True)
class Text:
    """One label at a point; `kind` is its class and holds the anchor too."""

    kind: str
    x: str
    y: str
    text: str


@dataclass(frozen=True)
class Dot:
    """One point that answers the pointer with a title."""

    kind: str
    x: str
    y: str
    title: str


@dataclass(frozen=True)
class Chart:
    """A drawing in its own coordinates, and what it says for those who cannot see it."""

    label: str
    width: int
    height: int
    shapes: tuple[Shape, ...]
    texts: tuple[Text, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Step:
    """One attack of the falling union: its label and the fraction left after it."""

    label: str
    fraction: float


def bar(
    robust: float,
    interval: tuple[float, float],
    *,
    clean: float | None = None,
    standard: float | None = None,
    level: str = "",
) -> tuple[Strip, ...]:
    """The small bar of a row, fractions in [0, 1]: strips that lie on one another in this order.

    Pale up to clean, coloured up to standard attacks only, solid up to what no attack broke, with
    the interval as a thin line. Height and colour are the style's, and the classes are one or two
    letters: a board of 500 rows must stay under 360 kB.

    Args:
        robust: right and not broken by any attack.
        interval: of `robust`.
        clean: right without attack; not drawn if None.
        standard: right and not broken by standard attacks; drawn where it is above `robust`.
        level: `amber` or `red` colours what standard attacks alone would hide.
    """
    strips = []
    if clean is not None:
        strips.append(Strip("c", "", _percent(clean)))
    if standard is not None and standard > robust:
        strips.append(Strip(f"g{level[:1]}", "", _percent(standard)))
    strips.append(Strip("r", "", _percent(robust)))
    low, high = interval
    strips.append(Strip("i", _percent(low), _percent(high - low)))
    return tuple(strips)


def falling_union(clean: float, steps: Sequence[Step], standard: float | None) -> Chart | None:
    """How the fraction that no attack broke falls, attack by attack in the order they ran.

    Args:
        clean: where it starts.
        steps: one per attack; its place in the sequence plus one is its number on the axis.
        standard: drawn as a dashed line where the adaptive attacks went below it.
    """
    if not steps:
        return None
    frame = _Frame(_WIDTH, _HEIGHT, len(steps), 1.0)
    path = f"M{frame.x(0)} {frame.y(clean)}"
    for number, step in enumerate(steps, start=1):
        path += f"H{frame.x(number)}V{frame.y(step.fraction)}"
    last = steps[-1].fraction
    floor = frame.y(0)
    shapes = [*frame.grid(), Shape("area", f"{path}V{floor}H{frame.x(0)}z"), Shape("line", path)]
    texts = [
        *frame.percent_labels(),
        *frame.number_labels(first=1),
        Text("axis end", str(frame.right), str(_HEIGHT - 4), "number of the attack in the table"),
        *frame.notes(last, standard),
    ]
    if standard is not None and standard > last:
        shapes.append(Shape("reference", f"M{_LEFT} {frame.y(standard)}H{frame.right}"))
    dots = [Dot("start", frame.x(0), frame.y(clean), f"clean: {100 * clean:.1f} %")]
    before = clean
    for number, step in enumerate(steps, start=1):
        if step.fraction < before:
            said = f"{number}. {step.label}: {100 * step.fraction:.1f} % left"
            dots.append(Dot("drop", frame.x(number), frame.y(step.fraction), said))
        before = step.fraction
    label = (
        f"From {100 * clean:.1f} % of the images right without attack to {100 * last:.1f} % right "
        f"and not broken by any of {len(steps)} attacks"
    )
    return Chart(label, _WIDTH, _HEIGHT, tuple(shapes), tuple(texts), tuple(dots))


def training_curve(name: str, values: Sequence[float]) -> Chart | None:
    """One number per epoch on an axis that starts at zero; what is not finite leaves a hole."""
    finite = [number for number in values if math.isfinite(number)]
    if not finite:
        return None
    low, high = min(0.0, *finite), _round_up(max(finite))
    frame = _Frame(_SMALL_WIDTH, _SMALL_HEIGHT, max(len(values) - 1, 1), high, low)
    pieces, pen = [], "M"
    for epoch, number in enumerate(values):
        if not math.isfinite(number):
            pen = "M"
            continue
        pieces.append(f"{pen}{frame.x(epoch)} {frame.y(number)}")
        pen = "L"
    texts = [
        *(
            Text("tick end", str(_LEFT - 6), coordinate(float(frame.y(v)) + 4), f"{v:.3g}")
            for v in frame.levels
        ),
        *frame.number_labels(first=0, shift=1),
        Text("axis end", str(frame.right), str(_SMALL_HEIGHT - 4), "epoch"),
    ]
    last = max(epoch for epoch, number in enumerate(values) if math.isfinite(number))
    said = f"epoch {last + 1}: {values[last]:.4g}"
    dot = Dot("drop", frame.x(last), frame.y(values[last]), said)
    shapes = (*frame.grid(), Shape("line", "".join(pieces)))
    label = f"{name} over {len(values)} epochs, last {values[last]:.4g}"
    return Chart(label, _SMALL_WIDTH, _SMALL_HEIGHT, shapes, tuple(texts), (dot,))


class _Frame:
    """Maps numbers to coordinates: x from 0 to `steps`, y from `low` to `high`, five levels."""

    def __init__(self, width: int, height: int, steps: int, high: float, low: float = 0.0) -> None:
        self.right, self.steps, self.low, self.high = width - _RIGHT, steps, low, high
        self.bottom = height - _BOTTOM
        parts = 4 if height == _HEIGHT else 2
        self.levels = tuple(low + (high - low) * part / parts for part in range(parts + 1))

    def x(self, step: float) -> str:
        return coordinate(_LEFT + (self.right - _LEFT) * step / self.steps)

    def y(self, number: float) -> str:
        share = (number - self.low) / (self.high - self.low)
        return coordinate(self.bottom - (self.bottom - _TOP) * share)

    def grid(self) -> list[Shape]:
        lines = "".join(f"M{_LEFT} {self.y(level)}H{self.right}" for level in self.levels)
        return [Shape("grid", lines)]

    def percent_labels(self) -> list[Text]:
        return [
            Text(
                "tick end",
                str(_LEFT - 6),
                coordinate(float(self.y(level)) + 4),
                f"{100 * level:.0f} %",
            )
            for level in self.levels
        ]

    def notes(self, last: float, standard: float | None) -> list[Text]:
        """What is left, and what standard attacks alone leave, clear of ticks and each other."""
        right, level = str(self.right), float(self.y(last))
        below = level + _LINE
        beside = below if below <= self.bottom - 4 else level - 8
        said = f"{100 * last:.1f} % not broken"
        notes = [Text("value end", right, coordinate(beside), said)]
        if standard is not None and standard > last:
            above = float(self.y(standard)) - 6
            if abs(above - beside) < _LINE:
                above = beside - _LINE
            label = f"standard only: {100 * standard:.1f} %"
            notes.append(Text("note end", right, coordinate(above), label))
        return notes

    def number_labels(self, *, first: int, shift: int = 0) -> list[Text]:
        every = max(1, math.ceil((self.steps + 1 - first) / _SHOWN_TICKS))
        numbers = range(first, self.steps + 1, every)
        baseline = str(self.bottom + 17)
        return [Text("tick middle", self.x(n), baseline, str(n + shift)) for n in numbers]


def _percent(fraction: float) -> str:
    return coordinate(100 * min(max(fraction, 0.0), 1.0))


_SMALLEST = 1e-300
"""Below this a power of ten is no longer an ordinary number, and nobody sees the difference."""


def _round_up(number: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten, so that axes read well."""
    if number < _SMALLEST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(number))
    return next(
        step * power
        for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 20)
        if step * power >= number * (1 - 1e-9)
    )


def coordinate(number: float) -> str:
    """One decimal at most: a tenth of a pixel is below what anyone sees, and bytes stay stable."""
    return f"{number:.1f}".removesuffix(".0")
