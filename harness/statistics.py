"""Intervals and paired comparisons, as thin words over scipy (imported where it is needed)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]
Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]

Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % score interval of a fraction: sampling of test images, not weakness of the attack.

    Wilson, 1927. Written out because scipy's costs a binomial test per call (50 times slower);
    a test holds the two together.
    """
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"{count} of {total} is no fraction")
    fraction, spread = count / total, Z * Z / total
    centre = (fraction + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (fraction * (1 - fraction) + spread / 4)) / (1 + spread)
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return low, high


def finite_population_factor(sampled: int, population: int) -> float:
    """What the half-width shrinks by when the claim is about a test set that was partly used."""
    if not 0 < sampled <= population:
        raise ValueError(f"{sampled} of {population} is no sample")
    return math.sqrt((population - sampled) / (population - 1)) if population > 1 else 0.0


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of "equally robust", from the images on which two rows disagree."""
    return float(mcnemar_pairs(np.array([only_first]), np.array([only_second]))[0])


def mcnemar_pairs(only_first: Counts, only_second: Counts) -> Numbers:
    """`mcnemar` for many pairs of rows at once, any shape."""
    from scipy.special import bdtr  # noqa: PLC0415 - scipy.stats takes a second longer to import

    fewer = np.minimum(only_first, only_second).astype(np.float64)
    both = np.asarray(only_first + only_second, dtype=np.int64)
    tail: Numbers = bdtr(fewer, both, 0.5)
    return np.minimum(1.0, 2.0 * tail)


def holm(p_values: Sequence[float] | Numbers) -> Numbers:
    """Adjusted p-values (Holm, 1979): compare with 0.05 and one false separation is this rare."""
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    factors = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return adjusted


def paired_bootstrap(
    first: Bits, second: Bits, *, seed: int, resamples: int = 10_000
) -> tuple[float, float]:
    """95 % interval of the first row's accuracy minus the second's, images drawn in pairs.

    A resample is known by how often it drew each of the differences -1, 0 and 1, so these counts
    are drawn at once from their multinomial distribution: the same law, without the images.
    """
    difference = first.astype(np.int64) - second.astype(np.int64)
    total = len(difference)
    shares = np.array([np.mean(difference == value) for value in (-1, 0, 1)])
    drawn = np.random.default_rng(seed).multinomial(total, shares, size=resamples)
    low, high = np.quantile((drawn[:, 2] - drawn[:, 0]) / total, [0.025, 0.975])
    return float(low), float(high)


def contributions(right: Bits, broken: Bits) -> tuple[Bits, Counts]:
    """What each of several attacks adds to the union.

    Args:
        right: [N], right as it is.
        broken: [A, N], broken by each attack, in order.

    Returns:
        [A, N], still right after this attack and all before it; [A], images only it broke.
    """
    lost = broken & right
    after = right & ~np.logical_or.accumulate(lost, axis=0)
    alone = lost & (lost.sum(axis=0) == 1)
    return after, alone.sum(axis=1)


def separated(robust: Bits, examples: Counts, *, level: float = 0.05) -> Bits:
    """Which rows of a board are better than which, by the paired test on their common images.

    Args:
        robust: [R, N], right and not broken; False beyond a row's own images.
        examples: [R], how many of the first images each row was measured on.
        level: error rate of the whole board (Holm over all its pairs).

    Returns:
        [R, R]: row i is separated from row j and above it.
    """
    rows, width = robust.shape
    measured = np.arange(width) < examples[:, None]
    mine = robust.astype(np.float32)  # exact up to 16 million images, and a matrix product
    lost = (measured & ~robust).astype(np.float32)
    only_mine = np.rint(mine @ lost.T).astype(np.int64)
    upper = np.triu_indices(rows, k=1)
    p_values = holm(mcnemar_pairs(only_mine[upper], only_mine.T[upper]))
    is_apart = np.zeros((rows, rows), dtype=np.bool_)
    is_apart[upper] = p_values < level
    is_apart |= is_apart.T
    is_above: Bits = is_apart & (only_mine > only_mine.T)
    return is_above


def rank_groups(is_above: Bits) -> list[tuple[int, int]]:
    """The best and worst place of each row that the tests leave open, places from 1.

    Args:
        is_above: [R, R], rows in the order shown: row i is separated from row j and above it.

    Returns:
        Per row the places of the first row above and the last row below that it ties with.
    """
    places = []
    for row in range(len(is_above)):
        ties_above = np.flatnonzero(~is_above[:row, row])
        ties_below = np.flatnonzero(~is_above[row, row + 1 :])
        best = int(ties_above[0]) if len(ties_above) else row
        worst = row + 1 + int(ties_below[-1]) if len(ties_below) else row
        places.append((best + 1, worst + 1))
    return places


def cluster_bootstrap(right: Bits, *, seed: int, resamples: int = 10_000) -> tuple[float, float]:
    """95 % interval of a mean over variants of the same images, drawn with all their variants.

    The same images recur in every corruption and severity: counting each as new would make the
    interval far too narrow. A resample is known by how often it drew an image that is right in
    0, 1, ..., A variants, as in `paired_bootstrap`.

    Args:
        right: [A, N], whether each image is right in each of its variants.
        seed: of the resamples.
        resamples: how many.
    """
    variants, total = right.shape
    shares = np.bincount(right.sum(axis=0), minlength=variants + 1) / total
    drawn = np.random.default_rng(seed).multinomial(total, shares, size=resamples)
    means = drawn @ np.arange(variants + 1) / (variants * total)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
