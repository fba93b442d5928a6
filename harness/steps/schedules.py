"""Learning rates as a function of how far the run is: nothing to save, nothing to resume."""

from __future__ import annotations

import math
import re

from harness.errors import HarnessError

_EPOCH = re.compile(r" *[0-9]{1,6} *")


def one_cycle(peak: float, progress: float) -> float:
    """Cosine from peak/25 up to the peak at 30 % of the run, then cosine down to almost 0.

    Smith and Topin, 2018 (arXiv:1708.07120), with the shape and defaults of PyTorch's
    `OneCycleLR`. That one ends each phase a step earlier: it reaches the peak at step 0.3 T - 1
    and the end at T - 1, this one at 0.3 T and T, so that a rate depends on progress alone.

    Args:
        peak: the highest learning rate.
        progress: fraction of the run's steps that are done, in [0, 1].
    """
    low, last = peak / 25, peak / 25 / 1e4
    if progress <= 0.3:
        return _cosine(low, peak, progress / 0.3)
    return _cosine(peak, last, (progress - 0.3) / 0.7)


def cyclic(peak: float, progress: float) -> float:
    """Linearly from 0 up to the peak at half of the run and down to 0 (Wong et al., 2020).

    Args:
        peak: the highest learning rate.
        progress: fraction of the run's updates that are done, in [0, 1].
    """
    return peak * (1 - abs(2 * progress - 1))


def step_drops(
    start: float, epoch: int, drops: tuple[int, ...], factors: tuple[float, ...] = ()
) -> float:
    """`start`, a tenth of it from the first of the `drops` on, and so forth.

    Args:
        start: the learning rate of epoch 1.
        epoch: 1-based.
        drops: first epochs with a lower rate, as the papers' scripts count them.
        factors: of `start` from each drop on, where they are not tenths.
    """
    passed = sum(epoch >= drop for drop in drops)
    if factors and passed:
        return start * factors[passed - 1]
    return start * 0.1**passed


def parse_drops(text: str) -> tuple[int, ...]:
    """Read `75,90,100`; an empty text means no drop.

    Raises:
        HarnessError: something else than increasing positive whole numbers.
    """
    pieces = text.split(",") if text.strip() else []
    if not all(_EPOCH.fullmatch(piece) for piece in pieces):
        raise HarnessError(f"drops are epochs such as 75,90,100 but are '{text[:60]}'.")
    drops = tuple(int(piece) for piece in pieces)
    if any(b <= a for a, b in zip((0, *drops), drops, strict=False)):
        raise HarnessError(f"drops must be positive and increase but are '{text}'.")
    return drops


def parse_factors(text: str) -> tuple[float, ...]:
    """Read `0.1,0.01,0.005`; an empty text means none.

    Raises:
        HarnessError: something else than numbers in (0, 1].
    """
    pieces = text.split(",") if text.strip() else []
    try:
        factors = tuple(float(piece) for piece in pieces)
    except ValueError:
        factors = (0.0,)
    if not all(0 < factor <= 1 for factor in factors):
        raise HarnessError(f"factors are numbers such as 0.1,0.01,0.005 but are '{text[:60]}'.")
    return factors


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * fraction))
