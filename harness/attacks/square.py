"""Square: random search by queries alone, blind to masked gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Ahead, Search
from harness.attacks.square_bumps import Bumps
from harness.attacks.square_windows import Squares

Proposals = TypeVar("Proposals", Squares, Bumps)

_MEMORY = 0.9
"""What earlier passes weigh when the next one is planned, relative to the last."""

_IN_VAIN = 0.5
"""Queries of an image that share a pass, as a share of those between two that count."""


@attack(
    losses=("margin",),
    norms=("linf", "l2"),
    knowledge="query",
    source="Andriushchenko et al., 2020 (arXiv:1912.00049), algorithms 1 to 3",
    cost=lambda p: (p["restarts"] * p["queries"], 0),
    limits={"queries": (1, 100_000), "p_init": (1e-3, 1), "restarts": (1, 1_000)},
)
def square(
    search: Search,
    *,
    loss: AttackLoss,
    queries: int = 5000,
    p_init: float = 0.8,
    restarts: int = 1,
) -> None:
    """Recolour random square windows to +-epsilon and keep what lowers the margin.

    In L2 bumps take the place of even colours (`Bumps`).

    Differences from AutoAttack's code: every image draws its own colours, so that its result
    does not depend on its batch mates; the window may touch the last row and column; a positive
    value is no reason to accept, since on other surfaces it does not mean misclassified.

    Args:
        search: what to attack.
        loss: the margin, (logits, labels, targets) -> [n].
        queries: forward passes per image and restart.
        p_init: share of the image that the first windows cover.
        restarts: independent runs on the images still standing.
    """
    for restart in range(restarts):
        _run(search, loss, queries, p_init, restart)


def _run(search: Search, loss: AttackLoss, queries: int, p_init: float, restart: int) -> None:
    active = search.standing()
    if len(active) == 0:
        return
    ball = search.around(active)
    if ball.threat.norm == "linf":
        squares = Squares.drawn(search, active, queries, p_init, restart)
        _several_at_once(_start(search, active, ball, squares, loss), search, loss, queries - 1)
    else:
        bumps = Bumps.drawn(search, active, queries, p_init, restart)
        _one_by_one(_start(search, active, ball, bumps, loss), search, loss, queries - 1)


@dataclass(frozen=True)
class _Climb(Generic[Proposals]):
    """Where a run stands; one row per image that is left.

    Args:
        active: [n], positions in the search.
        ball: of these images.
        proposals: what is tried.
        best: [n, C, H, W], of the largest value so far.
        value: [n], its value.
    """

    active: Tensor
    ball: Ball
    proposals: Proposals
    best: Tensor
    value: Tensor

    def accept(self, rows: Tensor, candidate: Tensor, value: Tensor) -> _Climb[Proposals]:
        """Candidates [r, C, H, W] of some images and their larger values [r]."""
        if len(rows) == 0:
            return self
        best, largest = self.best.clone(), self.value.clone()  # a copy by index loses the layout
        best[rows], largest[rows] = candidate, value
        return replace(self, best=best, value=largest)

    def take(self, kept: Tensor) -> _Climb[Proposals]:
        """The same for some of the images."""
        if kept.all():
            return self
        return _Climb(
            self.active[kept],
            self.ball.take(kept),
            self.proposals.take(kept),
            self.best[kept],
            self.value[kept],
        )


def _start(
    search: Search, active: Tensor, ball: Ball, proposals: Proposals, loss: AttackLoss
) -> _Climb[Proposals]:
    best = proposals.start(ball)
    look = search.judge(active, best, loss)
    return _Climb(active, ball, proposals, best, look.value).take(look.kept)


def _one_by_one(climb: _Climb[Bumps], search: Search, loss: AttackLoss, queries: int) -> None:
    for query in range(queries):
        if len(climb.active) == 0:
            return
        candidate = climb.proposals.candidate(climb.ball, climb.best, query)
        look = search.judge(climb.active, candidate, loss)
        better = (look.value > climb.value).nonzero()[:, 0]
        climb = climb.accept(better, candidate[better], look.value[better]).take(look.kept)


def _several_at_once(
    climb: _Climb[Squares], search: Search, loss: AttackLoss, queries: int
) -> None:
    """The same queries and results as one by one, several queries of an image in one pass.

    All of a pass start from the best image there is; where one is kept, those after it are made
    and judged anew. Few are kept, and a pass of few rows costs nearly what one of many costs.
    """
    nearby = search.nearby(climb.best)
    pace = _Pace(1 if search.keeps_trace else search.room)
    for stretch in climb.proposals.stretches(queries, *climb.best.shape[2:]):
        query = torch.full_like(climb.active, stretch.first)
        while len(left := (query < stretch.last).nonzero()[:, 0]):
            tries = climb.proposals.tries(
                climb.ball, climb.best, left, query[left], stretch, pace.count(len(left))
            )
            look = search.judge_ahead(climb.active[left], tries, loss, climb.value[left], nearby)
            pace.learn(look)
            query[left] += look.number + 1
            better = (look.value > climb.value[left]).nonzero()[:, 0]
            if nearby is not None:
                nearby.accept(better * tries.candidates.shape[1] + look.number[better])
            found = tries.candidates[better, look.number[better]]
            climb = climb.accept(left[better], found, look.value[better])
            if not look.kept.all():
                kept = torch.ones_like(query, dtype=torch.bool)
                kept[left] = look.kept
                climb, query = climb.take(kept), query[kept]
                if nearby is not None:
                    nearby.take(kept)


class _Pace:
    """How many queries of an image share a pass: those after one that counts are made in vain.

    Args:
        room: rows that a pass may have.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._tried, self._counted = 1.0, 1.0

    def count(self, images: int) -> int:
        """For so many images; so few that most of what is tried is looked at."""
        wanted = int(_IN_VAIN * self._tried / self._counted)
        return max(1, min(self._room // images, wanted))

    def learn(self, look: Ahead) -> None:
        """What a pass showed: how many were looked at, and how many of them counted."""
        self._tried = _MEMORY * self._tried + float((look.number + 1).sum())
        self._counted = _MEMORY * self._counted + float(look.counted.sum())
        self._counted = max(self._counted, 1e-3 * self._tried)
