"""RayS: the nearest wrong decision along sign vectors, from labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search


@attack(
    losses=("margin",),
    norms=("linf",),
    knowledge="decision",
    source="Chen and Gu, 2020 (arXiv:2006.12792), algorithms 1 to 3",
    cost=lambda p: (p["queries"], 0),
    limits={"queries": (2, 1_000_000)},
)
def rays(search: Search, *, loss: AttackLoss, queries: int = 10_000) -> None:
    """Flip blocks of a sign vector and keep the ray on which a wrong decision is nearest.

    Sees labels only, so no masked gradient or rescaled logit misleads it. `search.nearest` is the
    L-infinity distance of the nearest wrong decision; where broken images leave at once, only
    that of the first within epsilon. The clean image costs a query of its own, which is ours.

    Args:
        search: what to attack.
        loss: recorded, never followed.
        queries: forward passes per image.
    """
    active = search.standing()
    kept = search.explore(active, search.ball.images[active], loss, gradient=False).kept
    active = active[kept]
    ball = search.ball.take(active)
    rays = Rays.around(ball.images)
    for _ in range(queries - 1):
        if len(active) == 0:
            return
        look = search.explore(active, rays.candidate(ball), loss, gradient=False)
        rays = rays.after(look.wrong)
        if not look.kept.all():
            active, ball, rays = active[look.kept], ball.take(look.kept), rays.take(look.kept)


def tolerance(pixels: int) -> float:
    """Width in L-infinity at which bisection ends: 1e-3 along a unit vector of so many pixels."""
    return 1e-3 / math.sqrt(pixels)


@dataclass(frozen=True)
class Rays:
    """Where the search of each image stands; one query moves each by one.

    Radii are L-infinity distances before the box cuts: those of the paper over the root of d.

    Args:
        signs: [n, d] of -1 and 1, the best ray.
        radius: [n] float64, of the nearest wrong decision on it; infinite at first.
        first, size: [n] int64, first pixel and length of the block whose signs are being flipped.
        is_bisecting: [n] bool; otherwise the flipped ray is checked at the current radius.
        low, high: [n] float64, right and wrong ends of the bisection on the flipped ray.
    """

    signs: Tensor
    radius: Tensor
    first: Tensor
    size: Tensor
    is_bisecting: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, images: Tensor) -> Rays:
        """All signs positive, nothing found yet, and one block of all pixels."""
        signs = torch.ones_like(images).flatten(1)
        zeros = torch.zeros(len(images), dtype=torch.float64, device=images.device)
        none = torch.zeros_like(zeros).long()
        return cls(
            signs=signs,
            radius=zeros + torch.inf,
            first=none,
            size=none + signs.shape[1],
            is_bisecting=none.bool(),
            low=zeros,
            high=zeros,
        )

    def take(self, chosen: Tensor) -> Rays:
        """The same for some of the images; `chosen` is a mask or positions."""
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def flipped(self) -> Tensor:
        """[n, d], the best signs with the current block's turned round."""
        pixel = torch.arange(self.signs.shape[1], device=self.signs.device)
        is_before = pixel < self.first[:, None]
        is_behind = pixel >= (self.first + self.size)[:, None]
        return torch.where(is_before | is_behind, self.signs, -self.signs)

    def candidate(self, ball: Ball) -> Tensor:
        """[n, C, H, W], the next query; beyond a radius of 1 the box leaves nothing to try."""
        middle = (self.low + self.high) / 2
        radius = torch.where(self.is_bisecting, middle, self.radius.clamp(max=1.0))
        radius = radius[:, None, None, None]
        moved = ball.images.double() + radius * self.flipped().view_as(ball.images)
        found = moved.clamp(0, 1).float()
        return torch.where(radius <= ball.epsilon, ball.project(found), found)  # by one rounding

    def after(self, wrong: Tensor) -> Rays:
        """The state after the decision on `candidate`: [n] bool, whether it was wrong."""
        middle = (self.low + self.high) / 2
        begins = ~self.is_bisecting & wrong
        high = torch.where(self.is_bisecting & wrong, middle, self.high)
        high = torch.where(begins, self.radius.clamp(max=1.0), high)
        low = torch.where(self.is_bisecting & ~wrong, middle, self.low).masked_fill(begins, 0.0)
        ends = self.is_bisecting & (high - low <= tolerance(self.signs.shape[1]))
        nearer = ends & (high < self.radius)
        done = ends | ~(self.is_bisecting | wrong)
        first = torch.where(done, self.first + self.size, self.first)
        over = first >= self.signs.shape[1]
        return Rays(
            signs=torch.where(nearer[:, None], self.flipped(), self.signs),
            radius=torch.where(nearer, high, self.radius),
            first=first.masked_fill(over, 0),
            size=torch.where(over, (self.size + 1) // 2, self.size),  # = ceil(d / 2**level)
            is_bisecting=~done,
            low=low,
            high=high,
        )
