"""Several runs of one attack in one batch, with the very results of runs one after the other.

A pass of few images takes nearly as long as one of many. Where few stand, runs towards several
targets or from several starts therefore share their passes: a row is one image in one run. Every
row goes the way that its run alone would go, and only what runs one after the other would have
done is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.attacks.search import Search


@dataclass(frozen=True)
class Runs:
    """Runs that share their passes, or a single one.

    Args:
        search: of their rows.
        images: [R], which image of the whole search each row belongs to.
        numbers: [R], in which run each row is.
    """

    search: Search
    images: Tensor
    numbers: Tensor

    def towards(self, rivals: Tensor, restarts: int = 1) -> Tensor:
        """[R], the target of each row, from `rivals` [N, T]: so many runs for each column."""
        return rivals[self.images, self.numbers // restarts]


def pooled(search: Search, count: int) -> Iterator[Runs]:
    """Runs 0 to `count` - 1 in order, as many at a time as fit into the `room` of the search.

    They are recorded when the next ones are asked for: go through all of them. No run may read
    what another one found, in the search or in a model that remembers or draws.

    Args:
        search: what to attack; with a trace, whose rows follow the passes, every run is alone.
        count: how many runs there are.
    """
    first = 0
    while first < count:
        standing = search.standing()
        size = _at_once(search, len(standing), count - first)
        if size == 1:
            everyone = torch.arange(len(search.labels), device=standing.device)
            yield Runs(search, everyone, torch.full_like(everyone, first))
        else:
            rows = _Rows(search, standing, size)
            numbers = torch.arange(first, first + size, device=standing.device)
            yield Runs(rows, standing.repeat(size), numbers.repeat_interleave(len(standing)))
            _record(search, standing, rows)
        first += size


def _at_once(search: Search, standing: int, left: int) -> int:
    """How many runs come next: groups of nearly equal size, as few of them as the room allows."""
    if standing == 0 or search.keeps_trace:
        return 1
    groups = -(-left // max(1, search.room // standing))
    return -(-left // groups)


class _Rows(Search):
    """Images run after run; a row leaves too when a lower run has broken its image.

    A lower run goes on when a higher one breaks: if it breaks as well, it is the one that counts.

    Args:
        search: what is attacked.
        standing: [n], its images that are attacked in every run.
        runs: how many runs there are.
    """

    def __init__(self, search: Search, standing: Tensor, runs: int) -> None:
        rows = standing.repeat(runs)
        super().__init__(
            search.surface,
            search.ball.take(rows),
            search.labels[rows],
            search.streams.take(rows),
            drops_broken=search.drops_broken,
            confirm=search.confirm,
            confirms_outside=search.confirms_outside,
        )
        self.runs = runs

    def _kept(self, positions: Tensor) -> Tensor:
        if not self.drops_broken:
            return super()._kept(positions)
        unbroken = self.broken.view(self.runs, -1).cumsum(0) == 0  # so far, in run order
        return unbroken.flatten()[positions]


def _record(search: Search, standing: Tensor, rows: _Rows) -> None:
    """Run by run, each on the images that the runs before it left."""
    left = torch.arange(len(standing), device=standing.device)
    for run in range(rows.runs):
        own = left + run * len(standing)
        _take_over(search, standing[left], rows, own)
        if search.drops_broken:
            left = left[~rows.broken[own]]


def _take_over(search: Search, positions: Tensor, rows: Search, own: Tensor) -> None:
    """As if what the rows `own` [n] saw had been seen in `search` at `positions` [n]."""
    unbroken, broken = ~search.broken[positions], rows.broken[own]
    before, best = search.looks[positions], rows.loss_best[own]
    higher = best > search.loss_best[positions]
    for chosen, names in (
        (before == 0, ("loss_start",)),
        (higher, ("loss_best",)),
        (unbroken & (broken | higher), ("adversarial",)),
        (torch.ones_like(broken), ("last", "last_wrong")),
    ):
        for name in names:
            getattr(search, name)[positions[chosen]] = getattr(rows, name)[own[chosen]]
    new = unbroken & broken
    search.first_success[positions[new]] = (before + rows.first_success[own])[new]
    search.broken[positions] |= broken
    search.nearest[positions] = torch.minimum(search.nearest[positions], rows.nearest[own])
    for name in ("looks", "forwards", "backwards"):
        getattr(search, name)[positions] += getattr(rows, name)[own]
