"""Attack x checkpoint: which attack of the first stage leaves how much of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.identity import CORRECT
from harness.standings import Board, Rate, Standing
from leaderboard import wording
from leaderboard.pictures.matrix import NO_NUMBER, Cell, Line, Matrix, extent, shade
from leaderboard.pictures.naming import ROWS, Heading, Names, ordered

COLUMNS = 12
"""Attacks shown: those that most rows have."""


def attack_matrix(board: Board, names: Names) -> Matrix | None:
    """The heat map; None where no attack was run on every correct image of any row."""
    found = [(row, _alone(row)) for row in ordered(board)]
    shown = [pair for pair in found if pair[1]]
    if not shown:
        return None
    held = Counter(label for _, alone in shown for label in alone)
    labels = [label for label, _ in held.most_common(COLUMNS)]  # ties as they are met
    rows = extent(min(len(shown), ROWS), len(shown), "rows")
    attacks = extent(len(labels), len(held), "attacks", "commonest")
    scale = _Scale.of(
        [rate for row, alone in shown[:ROWS] for rate in (row.robust, *alone.values())]
    )
    return Matrix(
        anchor="attacks-and-checkpoints",
        title="Attacks and checkpoints",
        explanation=(
            "Each number is the share of images that are right and not broken by that attack "
            f"alone; the fuller the shade, the more, from {100 * scale.low:.0f} to "
            f"{100 * scale.high:.0f} %. The lowest of a row is bold: the strongest single attack. "
            "The last column is the worst case over every attack, later stages included."
        ),
        caption=(
            f"Accuracy in percent under each attack alone, {rows} and {attacks} of the first stage."
        ),
        corner="Checkpoint",
        columns=(
            *(_heading(label) for label in labels),
            Heading("all attacks", small="worst case"),
        ),
        lines=tuple(_line(row, alone, labels, names, scale) for row, alone in shown[:ROWS]),
    )


def _alone(row: Standing) -> dict[str, Rate]:
    """Accuracy under each attack of the first stage, by its label."""
    return {
        attack.label: attack.robust
        for attack in row.attacks
        if attack.population == CORRECT and attack.robust is not None and attack.robust.total
    }


def _heading(label: str) -> Heading:
    attack, _, surface = label.partition("@")
    return Heading(attack, label, small=f"@{surface}" if surface else "")


@dataclass(frozen=True)
class _Scale:
    """What the palest and the darkest shade stand for, in whole steps of five points."""

    low: float
    high: float

    @classmethod
    def of(cls, rates: Sequence[Rate]) -> _Scale:
        """Around all that is shown."""
        shown = [rate.fraction for rate in rates if rate.total]
        low, high = math.floor(20 * min(shown)) / 20, math.ceil(20 * max(shown)) / 20
        return cls(low, high) if low < high else cls(max(low - 0.05, 0.0), min(high + 0.05, 1.0))

    def shade(self, rate: Rate) -> int:
        """The shade of a rate."""
        return shade((rate.fraction - self.low) / (self.high - self.low))


def _line(
    row: Standing, alone: dict[str, Rate], labels: list[str], names: Names, scale: _Scale
) -> Line:
    lowest = min(rate.fraction for rate in alone.values())
    cells = [_cell(alone.get(label), scale, lowest) for label in labels]
    return Line(names.heading(row.checkpoint), (*cells, _cell(row.robust, scale)))


def _cell(rate: Rate | None, scale: _Scale, lowest: float | None = None) -> Cell:
    if rate is None or not rate.total:
        return NO_NUMBER
    mark = " low" if rate.fraction == lowest else ""
    return Cell(wording.percent(rate), f"h{scale.shade(rate)}{mark}")
