"""What a defense gains over its baseline: the difference, its interval, the word for it, a drawing.

A gain or a loss is said only where the paired test, corrected for all comparisons of the board,
tells the two apart (`protocol.md` section 3). Everything else is a difference that is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.standings.comparison import Comparison
from harness.statistics import paired_bootstrap
from leaderboard import wording
from leaderboard.charts import Chart, Dot, Shape, Text
from leaderboard.minus import minus

LEVEL = 0.05
"""Of the paired test after Holm's correction."""

SEED = 0
"""Of the bootstrap's draws; fixed, so that the same counts give the same interval."""

_WIDTH, _LEFT, _RIGHT, _TOP, _LINE, _FOOT = 560, 14, 14, 30, 38, 34
_SCALES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Gain:
    """Robust accuracy of a defense minus its baseline's, on the same images and seeds.

    Args:
        name: the defense.
        difference, low, high: in [-1, 1]; the last two its 95 % interval, None where the two
            decide every image alike and nothing can be drawn again.
        only_here, only_there: images that one of the two holds alone.
        images: paired decisions.
        p: corrected for all comparisons of the board.
    """

    name: str
    difference: float
    interval: tuple[float, float] | None
    only_here: int
    only_there: int
    images: int
    p: float

    @classmethod
    def of(cls, one: Comparison) -> Gain | None:
        """The gain of a comparison; None where it has no baseline on the same images."""
        if one.difference is None or one.p_adjusted is None:
            return None
        return cls(
            name=one.defense,
            difference=one.difference,
            interval=_interval(one.only_here, one.only_there, one.images),
            only_here=one.only_here,
            only_there=one.only_there,
            images=one.images,
            p=one.p_adjusted,
        )

    @property
    def kind(self) -> str:
        """`higher`, `lower`, or `open` where the test does not tell the two apart."""
        if self.p >= LEVEL or self.difference == 0:
            return "open"
        return "higher" if self.difference > 0 else "lower"

    @property
    def words(self) -> str:
        """What may be said of it."""
        return {"higher": "higher", "lower": "lower", "open": "not told apart"}[self.kind]

    @property
    def points(self) -> str:
        """The difference in percentage points, with its sign."""
        return wording.signed_points(self.difference)

    @property
    def interval_points(self) -> str:
        """Its interval in percentage points, from low to high."""
        if self.interval is None:
            return wording.NOTHING
        return " to ".join(map(wording.signed_points, self.interval))


def _interval(here: int, there: int, images: int) -> tuple[float, float] | None:
    """95 %, by the paired bootstrap; what order the images have makes no difference to it."""
    if here + there == 0:
        return None
    numbers = np.arange(images)
    first, second = numbers < here, (numbers >= here) & (numbers < here + there)
    return paired_bootstrap(first, second, seed=SEED)


def gain_chart(gains: Sequence[Gain], what: str) -> Chart | None:
    """A line per defense: a dot at the difference, its interval, zero as an upright line.

    Args:
        gains: from top to bottom.
        what: for those who cannot see it, what is compared.
    """
    if not gains:
        return None
    ends = [abs(end) for gain in gains for end in (gain.difference, *(gain.interval or ()))]
    span = next((scale for scale in _SCALES if scale >= max(ends)), 1.0)
    height = _TOP + _LINE * len(gains) + _FOOT
    shapes, texts = _axis(span, height)
    dots = []
    for number, gain in enumerate(gains):
        top = _TOP + _LINE * number
        middle = top + 22
        if gain.interval is not None:
            low, high = gain.interval
            path = f"M{_x(low, span)} {middle}H{_x(high, span)}"
            shapes.append(Shape(f"span {gain.kind}", path))
        said = f"{gain.points} ({gain.interval_points}): {gain.words}"
        dots.append(Dot(f"gain {gain.kind}", _x(gain.difference, span), str(middle), said))
        texts.append(Text("value", str(_LEFT), str(top + 10), gain.name))
        value = f"{gain.points} {gain.words}"
        texts.append(Text(f"end {gain.kind}", str(_WIDTH - _RIGHT), str(top + 10), value))
    label = f"{what}: {'; '.join(f'{gain.name} {gain.points}, {gain.words}' for gain in gains)}"
    return Chart(label, _WIDTH, height, tuple(shapes), tuple(texts), tuple(dots))


def _axis(span: float, height: int) -> tuple[list[Shape], list[Text]]:
    marks = [share * span for share in (-1, -0.5, 0, 0.5, 1)]
    bottom = height - _FOOT
    lines = "".join(f"M{_x(mark, span)} {_TOP - 12}V{bottom}" for mark in marks if mark)
    shapes = [Shape("grid", lines), Shape("zero", f"M{_x(0, span)} {_TOP - 12}V{bottom}")]
    anchors = ("", "middle", "middle", "middle", "end")
    texts = [
        Text(f"tick {anchor}".strip(), _x(mark, span), str(bottom + 16), _tick(mark))
        for mark, anchor in zip(marks, anchors, strict=True)
    ]
    texts.append(Text("axis middle", _x(0, span), str(height - 3), "points over the baseline"))
    return shapes, texts


def _tick(mark: float) -> str:
    return minus(f"{100 * mark:+g}") if mark else "0"


def _x(difference: float, span: float) -> str:
    share = (min(max(difference, -span), span) / span + 1) / 2
    return f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * share:.1f}".removesuffix(".0")
