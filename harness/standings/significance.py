"""Every pair of ranked rows of a board: how far apart, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.standings.derivation import stacked
from harness.standings.row import Row
from harness.statistics import Bits, Counts, Numbers, holm, mcnemar_pairs


@dataclass(frozen=True, eq=False)
class Significance:
    """R ranked rows against each other, each pair on the first images that both count.

    Args:
        names: [R], checkpoints in the order of the rows.
        examples: [R, R], common images.
        differences: [R, R], robust accuracy of the row minus that of the column, in [-1, 1].
        p_values: [R, R], exact two-sided McNemar test of "no difference"; 1 on the diagonal.
        adjusted: [R, R], the same, corrected for all pairs of the board (Holm). Below 0.05 the
            board takes the two for separated.
    """

    names: tuple[str, ...]
    examples: Counts
    differences: Numbers
    p_values: Numbers
    adjusted: Numbers


def significance(rows: Sequence[Row]) -> Significance:
    """Compare the ranked rows of one board, in the order given; the others are left out."""
    ranked = [row for row in rows if row.is_ranked]
    robust, examples = stacked(ranked)
    only_mine = _held_alone(robust, examples)
    common = np.minimum.outer(examples, examples)
    upper = np.triu_indices(len(ranked), k=1)
    raw = mcnemar_pairs(only_mine[upper], only_mine.T[upper])
    return Significance(
        names=tuple(row.standing.checkpoint.name for row in ranked),
        examples=common,
        differences=(only_mine - only_mine.T) / np.maximum(common, 1),
        p_values=_symmetric(raw, len(ranked)),
        adjusted=_symmetric(holm(raw), len(ranked)),
    )


def _held_alone(robust: Bits, examples: Counts) -> Counts:
    """[R, R], common images that the row holds and the column loses."""
    measured = np.arange(robust.shape[1]) < examples[:, None]
    mine = robust.astype(np.float32)  # exact up to 16 million images, and a matrix product
    lost = (measured & ~robust).astype(np.float32)
    alone: Counts = np.rint(mine @ lost.T).astype(np.int64)
    return alone


def _symmetric(values: Numbers, rows: int) -> Numbers:
    """[R, R] of the pairs above the diagonal, which itself is 1."""
    square = np.ones((rows, rows))
    upper = np.triu_indices(rows, k=1)
    square[upper] = values
    square.T[upper] = values
    return square
