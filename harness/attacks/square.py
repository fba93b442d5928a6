"""Square: random search by queries alone, blind to masked gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search
from harness.attacks.square_bumps import Bumps, window_share
from harness.attacks.windows import Nearby, Window


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
    proposals = _PROPOSALS[ball.threat.norm].drawn(search, active, queries, p_init, restart)
    best = proposals.start(ball)
    look = search.judge(active, best, loss)
    climb = _Climb(active, ball, proposals, best, look.value).take(look.kept)
    if proposals.window(0, *best.shape[2:]) is not None:
        climb = replace(climb, nearby=search.nearby(climb.best))
    for query in range(queries - 1):
        if len(climb.active) == 0:
            return
        climb = climb.next(search, loss, query)


@dataclass(frozen=True)
class _Climb:
    """Where a run stands; one row per image that is left.

    Args:
        active: [n], positions in the search.
        ball: of these images.
        proposals: what is tried.
        best: [n, C, H, W], of the largest value so far.
        value: [n], its value.
        nearby: answers for windows of `best`, where that takes no whole pass.
    """

    active: Tensor
    ball: Ball
    proposals: Squares | Bumps
    best: Tensor
    value: Tensor
    nearby: Nearby | None = None

    def next(self, search: Search, loss: AttackLoss, query: int) -> _Climb:
        """Try one proposal, keep it where the value rises, and leave broken images behind."""
        candidate = self.proposals.candidate(self.ball, self.best, query)
        window = self.proposals.window(query, *candidate.shape[2:])
        if self.nearby is None or window is None:
            look = search.judge(self.active, candidate, loss)
        else:
            look = search.judge_window(self.active, candidate, loss, self.nearby, window)
        accepted = look.value > self.value
        if not accepted.any():
            return self.take(look.kept)
        if self.nearby is not None:
            self.nearby.accept(accepted)
        best = torch.where(accepted[:, None, None, None], candidate, self.best)
        value = torch.where(accepted, look.value, self.value)
        return replace(self, best=best, value=value).take(look.kept)

    def take(self, kept: Tensor) -> _Climb:
        """The same for some of the images."""
        if kept.all():
            return self
        if self.nearby is not None:
            self.nearby.take(kept)
        return _Climb(
            self.active[kept],
            self.ball.take(kept),
            self.proposals.take(kept),
            self.best[kept],
            self.value[kept],
            self.nearby,
        )


def window_side(query: int, p_init: float, height: int, width: int) -> int:
    """Side of the L-infinity window at a 0-based query (`attacks.md` 13.5)."""
    side = round(math.sqrt(window_share(query, p_init) * height * width))
    return min(max(side, 1), height, width)


@dataclass(frozen=True)
class Squares:
    """Proposals of the L-infinity variant: windows common to all images, colours of each alone.

    Args:
        stripes: [n, C, 1, W] of -1 and 1, the start.
        colours: [n, queries, C] of -1 and 1.
        corners: [queries, 2] in [0, 1), top and left.
        p_init: share of the image that the first windows cover.
    """

    stripes: Tensor
    colours: Tensor
    corners: Tensor
    p_init: float

    @classmethod
    def drawn(
        cls, search: Search, active: Tensor, queries: int, p_init: float, restart: int
    ) -> Squares:
        """All the random numbers of one run on the active images."""
        streams, device = search.streams, search.labels.device
        _, channels, _, width = search.ball.images.shape
        shared = streams.shared(restart=restart, purpose="windows")
        return cls(
            streams.signs(active, (channels, 1, width), restart=restart, purpose="stripes").to(
                device
            ),
            streams.signs(active, (queries, channels), restart=restart, purpose="colours").to(
                device
            ),
            torch.rand(queries, 2, generator=shared),
            p_init,
        )

    def take(self, kept: Tensor) -> Squares:
        """The same for some of the images."""
        return replace(self, stripes=self.stripes[kept], colours=self.colours[kept])

    def start(self, ball: Ball) -> Tensor:
        """[n, C, H, W], vertical stripes."""
        return ball.project(ball.images + ball.epsilon * self.stripes)

    def window(self, query: int, height: int, width: int) -> Window:
        """Where the candidate of a 0-based query differs from the best image."""
        side = window_side(query, self.p_init, height, width)
        top, left = (
            int(self.corners[query, axis] * (size - side + 1))
            for axis, size in enumerate((height, width))
        )
        return top, left, top + side, left + side

    def candidate(self, ball: Ball, best: Tensor, query: int) -> Tensor:
        """[n, C, H, W], `best` (which lies in the ball) with one window of another colour."""
        top, left, bottom, right = self.window(query, *best.shape[2:])
        window = (slice(None), slice(None), slice(top, bottom), slice(left, right))
        moved = best[window] + 2 * ball.epsilon * self.colours[:, query, :, None, None]
        candidate = best.clone()
        candidate[window] = torch.minimum(torch.maximum(moved, ball.low[window]), ball.high[window])
        return candidate


_PROPOSALS: dict[str, type[Squares | Bumps]] = {"linf": Squares, "l2": Bumps}
