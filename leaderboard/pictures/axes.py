"""The axes of clean and robust accuracy: from fractions to places in the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.standings import Rate, Standing
from leaderboard.charts import Shape, Text, coordinate

WIDTH, HEIGHT = 760, 470
LEFT, FOOT = 58, 422
"""Where the axes stand."""

_RIGHT, _TOP = 24, 28


@dataclass(frozen=True)
class Axes:
    """Maps fractions to coordinates: (low, high) of each axis, and the step of its grid."""

    across: tuple[float, float, float]
    up: tuple[float, float, float]

    @classmethod
    def around(cls, rows: Sequence[Standing]) -> Axes:
        """Axes that hold every point, with a margin."""
        return cls(_span([row.clean for row in rows]), _span([row.robust for row in rows]))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of where labels may stand."""
        return (LEFT, 14.0, WIDTH - 4.0, FOOT - 2.0)

    def point(self, row: Standing) -> tuple[str, str]:
        """Where a row lies."""
        return self.x(row.clean.fraction), self.y(row.robust.fraction)

    def x(self, fraction: float) -> str:
        """The coordinate of a clean accuracy."""
        return coordinate(LEFT + (WIDTH - _RIGHT - LEFT) * _share(fraction, self.across))

    def y(self, fraction: float) -> str:
        """The coordinate of a robust accuracy."""
        return coordinate(FOOT - (FOOT - _TOP) * _share(fraction, self.up))

    def grid(self) -> Shape:
        """A line at every step of both axes."""
        lines = "".join(f"M{LEFT} {self.y(at)}H{WIDTH - _RIGHT}" for at in _steps(self.up))
        lines += "".join(f"M{self.x(at)} {_TOP}V{FOOT}" for at in _steps(self.across))
        return Shape("grid", lines)

    def ticks(self) -> list[Text]:
        """What the steps and the axes are called."""
        up = [
            Text("tick end", str(LEFT - 7), coordinate(float(self.y(at)) + 4), f"{100 * at:.0f} %")
            for at in _steps(self.up)
        ]
        across = [
            Text("tick middle", self.x(at), str(FOOT + 17), f"{100 * at:.0f} %")
            for at in _steps(self.across)
        ]
        return [
            *up,
            *across,
            Text("axis end", str(WIDTH - _RIGHT), str(FOOT + 38), "clean accuracy →"),
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
