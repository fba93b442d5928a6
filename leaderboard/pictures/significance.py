"""Row x row: differences, and whether chance explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.standings import Board
from leaderboard import addresses, wording
from leaderboard.gains import LEVEL
from leaderboard.material import Material
from leaderboard.pictures.matrix import Cell, Line, Matrix, extent
from leaderboard.pictures.naming import Heading, Names

ROWS = 30
"""Rows and columns, one per defense: their square is what a page has to hold."""

Values = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Compared:
    """The best row of each defense against those of the others, in the order of the board.

    Args:
        names: [n] checkpoints.
        differences: [n][n] robust accuracy of the row minus that of the column.
        adjusted: [n][n] p of the paired test, adjusted for all pairs of the board.
        rows: what they were chosen from, in words.
        pairs: of ranked rows of the board.
        separated: pairs of these that the test separates.
    """

    names: tuple[str, ...]
    differences: tuple[tuple[float, ...], ...]
    adjusted: tuple[tuple[float, ...], ...]
    rows: str
    pairs: int
    separated: int


def compared(material: Material, board: Board) -> Compared | None:
    """What the matrix is made of, as plain values; None for fewer than two rows."""
    found = material.significances.get(addresses.board_slug(board))
    if found is None or len(found.names) < 2:
        return None
    best, every = _best(board, found.names), list(range(len(found.names)))
    chosen = best if len(best) > 1 else every
    shown = chosen[:ROWS]
    what = "defenses, the best row of each" if chosen is best else "ranked rows"
    adjusted = np.asarray(found.adjusted)
    return Compared(
        names=tuple(found.names[place] for place in shown),
        differences=_square(np.asarray(found.differences), shown),
        adjusted=_square(adjusted, shown),
        rows=extent(len(shown), len(chosen), what),
        pairs=len(found.names) * (len(found.names) - 1) // 2,
        separated=int((np.triu(adjusted < LEVEL, k=1)).sum()),
    )


def _best(board: Board, names: Sequence[str]) -> list[int]:
    """The place of the first row of each defense; a model without one stands for itself."""
    defenses = {row.checkpoint.name: wording.title(row.checkpoint) for row in board.standings}
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(defenses.get(name, name), place)
    return list(places.values())


def _square(values: Values, shown: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(one) for one in line) for line in values[np.ix_(shown, shown)])


def significance_matrix(found: Compared | None, names: Names) -> Matrix | None:
    """Differences above the diagonal, adjusted p below it; None where nothing is compared."""
    if found is None:
        return None
    shown = range(len(found.names))
    return Matrix(
        anchor="differences-and-chance",
        title="Differences and chance",
        explanation=(
            "Above the diagonal: robust accuracy of the row minus that of the column, in points, "
            "on the images that both have. Below it: the probability of such a difference by "
            "chance (exact paired test, Holm-adjusted for all pairs of the board). ▲ or ▼ and "
            "colour mark pairs below 0.05, which the ranks take for separated."
        ),
        caption=(
            f"Shown: {found.rows}. The test separates {wording.count(found.separated)} of the "
            f"{wording.plural(found.pairs, 'pair')} of ranked rows on the whole board."
        ),
        corner="Checkpoint",
        columns=tuple(Heading(str(n + 1), found.names[n]) for n in shown),
        lines=tuple(
            Line(
                names.named(found.names[row], f"{row + 1}. "),
                tuple(_cell(found, row, column) for column in shown),
            )
            for row in shown
        ),
    )


def _cell(found: Compared, row: int, column: int) -> Cell:
    if row == column:
        return Cell("", "no")
    p = found.adjusted[row][column]
    is_separated = p < LEVEL
    if row > column:
        return Cell("<0.001" if p < 0.001 else f"{p:.3f}", "p low" if is_separated else "p")
    difference = found.differences[row][column]
    text = wording.signed_points(difference)
    if not is_separated:
        return Cell(text)
    return Cell(text, "up" if difference > 0 else "down", "▲" if difference > 0 else "▼")
