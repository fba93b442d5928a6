"""A coloured table: every number stands in its cell, the colour only helps the eye."""

from __future__ import annotations

from dataclasses import dataclass

from leaderboard import wording
from leaderboard.pictures.naming import Heading

SHADES = 9
"""Classes `h0` to `h8` and `b0` to `b8` of the style, from nothing to everything."""


@dataclass(frozen=True)
class Cell:
    """One number as text; `kind` is its classes, `mark` a sign, `state` that of a diagnostic."""

    text: str
    kind: str = ""
    mark: str = ""
    state: str = ""


@dataclass(frozen=True)
class Line:
    """One row."""

    heading: Heading
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows and columns with headings; `explanation` says what a number is, `caption` how many."""

    anchor: str
    title: str
    explanation: str
    caption: str
    corner: str
    columns: tuple[Heading, ...]
    lines: tuple[Line, ...]


NO_NUMBER = Cell(wording.NOTHING, "no")


def shade(fraction: float) -> int:
    """Which of the shades stands for a fraction; below 0 and above 1 count as the ends."""
    return min(max(int(fraction * SHADES), 0), SHADES - 1)


def extent(shown: int, total: int, things: str, which: str = "best") -> str:
    """`the best 40 of 159 rows`, or `all 7 rows`."""
    if shown < total:
        return f"the {which} {wording.count(shown)} of {wording.count(total)} {things}"
    return f"all {wording.count(total)} {things}"
