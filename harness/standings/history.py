"""How a union fell over time: accuracy after each date, and which attacks lowered it then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from harness.standings.values import Rate
from harness.statistics import wilson
from harness.store.bits import Bits


class Loss(NamedTuple):
    """What one outcome of an attack broke.

    Args:
        created: date of the outcome, UTC, ISO 8601.
        place: of the attack in plan order.
        first: index of the first image.
        broken: one bool per image from there on.
    """

    created: str
    place: int
    first: int
    broken: Bits


@dataclass(frozen=True)
class Drop:
    """The union as it was known at a date.

    Args:
        created: UTC, ISO 8601.
        robust: right and not broken by anything recorded until then.
        lowered_by: labels of the attacks recorded at this date that broke images which nothing
            had broken before, and how many; empty at the first and possibly at the last entry.
    """

    created: str
    robust: Rate
    lowered_by: tuple[tuple[str, int], ...] = ()


def history(
    right: Bits, dates: Sequence[str], losses: Sequence[Loss], labels: Sequence[str]
) -> tuple[Drop, ...]:
    """The clean accuracy, every date at which the union fell, and the last date.

    All entries are about the same images: one that was added later counts as right, or wrong,
    from the beginning. Attacks of the same date count in plan order.

    Args:
        right: [N], right as they are.
        dates: of all outcomes, clean ones included; at least one.
        losses: of all outcomes of attacks.
        labels: of the attacks, in plan order.
    """
    left = right.copy()
    drops = [Drop(min(dates), rate_of(left))]
    ordered = sorted(losses, key=lambda loss: (loss.created, loss.place, loss.first))
    for created, together in groupby(ordered, key=lambda loss: loss.created):
        fell: dict[str, int] = {}
        for loss in together:
            window = slice(loss.first, loss.first + len(loss.broken))
            count = int((left[window] & loss.broken).sum())
            left[window] &= ~loss.broken
            if count:
                fell[labels[loss.place]] = fell.get(labels[loss.place], 0) + count
        if fell:
            drops.append(Drop(created, rate_of(left), tuple(fell.items())))
    if drops[-1].created < max(dates):
        drops.append(Drop(max(dates), rate_of(left)))
    return tuple(drops)


def rate_of(bits: Bits) -> Rate:
    """How many of these images; of none, nothing is known."""
    count, total = int(bits.sum()), len(bits)
    return Rate(count, total, *wilson(count, total)) if total else Rate(0, 0, 0.0, 1.0)
