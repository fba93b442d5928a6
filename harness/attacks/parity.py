"""What the reference AutoAttack does differently, repeated on demand to compare outcomes with it.

The reference is fra31/auto-attack, also published as the package pyautoattack. Repeated are: one
random generator for the whole batch, bounds and norms as it rounds them, no image leaving inside a
run, and its own Square and FAB loops. What it finds is moved into the exact ball and judged again,
so that a result never exceeds epsilon. `attacks.md` sections 5.1 and 7.1 list the quirks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.attacks.hyperplanes import way_to_plane
from harness.attacks.losses import margin, margin_targeted
from harness.attacks.search import Search, Slopes
from harness.attacks.square_bumps import bump, bump_side, move_mass
from harness.attacks.square_windows import window_side

_PULL_BACK, _OVERSHOOT, _LARGEST_SHARE = 0.9, 1.05, 0.1
"""beta, eta and alpha_max of FAB."""
_SHARE = 0.8
"""Of the image that the first windows of Square cover."""


@dataclass(frozen=True)
class ReferenceBall(Ball):
    """The ball as the reference computes it: float32 bounds that are not rounded inwards."""

    @classmethod
    def of(cls, ball: Ball) -> ReferenceBall:
        """The same images and threat model."""
        images, low, high = ball.images, ball.low, ball.high
        if ball.threat.norm == "linf":
            epsilon = float(ball.threat.epsilon)
            low, high = (images - epsilon).clamp(min=0.0), (images + epsilon).clamp(max=1.0)
        return cls(images, low, high, ball.threat)

    @property
    def epsilon(self) -> float:
        """Epsilon as the nearest float."""
        return float(self.threat.epsilon)

    def take(self, chosen: Tensor) -> ReferenceBall:
        """The same ball for some of the images."""
        return ReferenceBall(self.images[chosen], self.low[chosen], self.high[chosen], self.threat)

    def project(self, candidate: Tensor) -> Tensor:
        """As `Ball.project`; for L2 radially in float32 and then into the box."""
        if self.threat.norm == "linf":
            return super().project(candidate)
        difference = candidate - self.images
        length = _length(difference)
        return (self.images + self.steepest(difference) * length.clamp(max=self.epsilon)).clamp(
            0.0, 1.0
        )

    def steepest(self, gradient: Tensor) -> Tensor:
        """Signs, or the direction of unit length."""
        if self.threat.norm == "linf":
            return gradient.sign()
        return gradient / (_length(gradient) + 1e-12)


def reference_generator(search: Search) -> torch.Generator:
    """The draws of one attack of the reference on one batch: seeded anew, by the run's seed."""
    return torch.Generator().manual_seed(search.streams.seed)


def reference_start(ball: Ball, draws: torch.Generator) -> Tensor:
    """[n, C, H, W], where the reference's Auto-PGD starts: drawn for the batch as a whole."""
    shape = ball.images.shape
    if ball.threat.norm == "linf":
        direction = 2 * torch.rand(shape, generator=draws).to(ball.images.device) - 1
        longest = direction.abs().amax(dim=(1, 2, 3), keepdim=True)
        unit = direction / (longest + 1e-12)
    else:
        unit = ball.steepest(torch.randn(shape, generator=draws).to(ball.images.device))
    return (ball.images + ball.epsilon * unit).clamp(0.0, 1.0)


@contextlib.contextmanager
def replay(search: Search) -> Iterator[tuple[Search, Tensor]]:
    """One run as the reference makes it: on what stands, and nothing leaves inside.

    Yields:
        A part whose ball is the reference's, and the positions [n] in `search` of its images.
        What the part has broken at the end is what the run has broken.
    """
    standing = search.standing()
    part = search.part(search.streams)
    exact, part.ball, part.drops_broken = part.ball, ReferenceBall.of(part.ball), False
    yield part, standing
    _settle(part, exact)
    search.absorb(part)


def reference_fab_t(search: Search, steps: int, targets: int) -> None:
    """FAB towards each rival from the clean image; only the points it steps to are judged.

    The reference judges no point that it pulled back, and keeps the nearest of the others.
    """
    everyone = torch.arange(len(search.labels), device=search.labels.device)
    rivals = search.rivals(everyone, targets)
    for number in range(rivals.shape[1]):
        with replay(search) as (part, standing):
            if len(standing):
                _approach(part, rivals[standing, number], steps)


def _approach(part: Search, targets: Tensor, steps: int) -> None:
    ball, everyone = part.ball, part.standing()
    candidate = found = ball.images
    nearest = torch.full(targets.shape, torch.inf, device=found.device)
    first_success = part.first_success.clone()
    for _ in range(steps):
        slopes = part.slopes(everyone, candidate, targets[:, None])
        candidate = _fab_step(ball, candidate, slopes)
        look = part.explore(everyone, candidate, margin_targeted, targets, gradient=False)
        distance = _size(ball, candidate - ball.images)
        nearer = look.wrong & (distance < nearest)
        new = nearer & (distance <= ball.epsilon) & (first_success < 0)
        first_success = torch.where(new, part.looks - 1, first_success)
        nearest = torch.where(nearer, distance, nearest)
        found = torch.where(nearer[:, None, None, None], candidate, found)
        pulled = ball.images + (candidate - ball.images) * _PULL_BACK
        candidate = torch.where(look.wrong[:, None, None, None], pulled, candidate)
    part.broken, part.first_success = nearest <= ball.epsilon, first_success
    part.adversarial = torch.where(part.broken[:, None, None, None], found, ball.images)


def _fab_step(ball: Ball, candidate: Tensor, slopes: Slopes) -> Tensor:
    """Steps 1 to 4 of `attacks.md` 4.2; the exact way to the plane is rounded to float32."""
    norm, normal, difference = ball.threat.norm, slopes.gradients[:, 0], slopes.differences[:, 0]
    shift = (normal.double() * (ball.images.double() - candidate.double())).flatten(1).sum(1)
    here = way_to_plane(candidate, normal, difference.double(), norm).to(candidate.dtype)
    home = way_to_plane(ball.images, normal, difference.double() + shift, norm).to(candidate.dtype)
    lengths = [_size(ball, way).clamp(min=1e-8)[:, None, None, None] for way in (here, home)]
    share = (lengths[0] / (lengths[0] + lengths[1])).clamp(max=_LARGEST_SHARE)
    mixed = (candidate + _OVERSHOOT * here) * (1 - share)
    return (mixed + (ball.images + _OVERSHOOT * home) * share).clamp(0.0, 1.0)


def reference_square(search: Search, queries: int) -> None:
    """Square with windows, and in L-infinity colours, common to the whole batch.

    An image leaves when its margin is 0 or less, which on exact ties is not yet a wrong decision.
    """
    draws = reference_generator(search)
    with replay(search) as (part, standing):
        if len(standing):
            _query(part, queries, draws)


def _query(part: Search, queries: int, draws: torch.Generator) -> None:
    ball = part.ball
    start, propose = _PROPOSALS[ball.threat.norm]
    best = start(ball, draws)
    value = part.judge(part.standing(), best, margin).value
    for query in range(queries):
        pool = (value < 0).nonzero()[:, 0]
        if len(pool) == 0:
            return
        candidate = propose(ball.take(pool), best[pool], query, draws)
        found = part.judge(pool, candidate, margin).value
        accepted = found > value[pool]
        best[pool] = torch.where(accepted[:, None, None, None], candidate, best[pool])
        value[pool] = torch.where(accepted, found, value[pool])


def _stripes(ball: Ball, draws: torch.Generator) -> Tensor:
    count, channels, _, width = ball.images.shape
    signs = _signs(draws, (count, channels, 1, width)).to(ball.images.device)
    return ball.project(ball.images + ball.epsilon * signs)


def _recoloured(ball: Ball, best: Tensor, query: int, draws: torch.Generator) -> Tensor:
    _, channels, height, width = best.shape
    side = window_side(query, _SHARE, height, width)
    top, left = _corner(draws, height - side, width - side)
    colours = 2 * ball.epsilon * _signs(draws, (channels, 1, 1)).to(best.device)
    best[:, :, top : top + side, left : left + side] += colours
    return ball.project(best)


def _bumps(ball: Ball, draws: torch.Generator) -> Tensor:
    """Five tiles along the height; on images that are not square they are not centred."""
    count, channels, height, width = ball.images.shape
    side = max(height // 5, 1)
    offset = (height - 5 * side) // 2
    difference = torch.zeros_like(ball.images)
    for row in range(height // side):
        for column in range(width // side):
            top, left = offset + row * side, offset + column * side
            tile = _bump(draws, side, (count, channels, 1, 1)).to(difference)
            difference[:, :, top : top + side, left : left + side] += tile
    return _at_epsilon(ball, difference)


def _moved(ball: Ball, best: Tensor, query: int, draws: torch.Generator) -> Tensor:
    count, channels, height, width = best.shape
    side = bump_side(query, _SHARE, height, width)
    first, second = (_corner(draws, height - side, width - side) for _ in range(2))
    bumps = _bump(draws, side, (count, channels, 1, 1)).to(best)
    difference = best - ball.images
    moved = move_mass(difference, bumps, corners=(first, second), epsilon=ball.epsilon)
    return _at_epsilon(ball, moved)


def _bump(draws: torch.Generator, side: int, colours: tuple[int, ...]) -> Tensor:
    is_turned = bool(torch.rand(1, generator=draws) > 0.5)
    return bump(side, is_turned=is_turned) * _signs(draws, colours)


def _at_epsilon(ball: Ball, difference: Tensor) -> Tensor:
    return (ball.images + ball.steepest(difference) * ball.epsilon).clamp(0.0, 1.0)


_PROPOSALS = {"linf": (_stripes, _recoloured), "l2": (_bumps, _moved)}


def _corner(draws: torch.Generator, *rooms: int) -> tuple[int, int]:
    """Top and left; the last row and column are never reached."""
    top, left = (int(torch.rand(1, generator=draws) * room) for room in rooms)
    return top, left


def _signs(draws: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return (2 * torch.rand(shape, generator=draws) - 1).sign()


def _size(ball: Ball, difference: Tensor) -> Tensor:
    """[n] float32, in the norm of the threat model."""
    if ball.threat.norm == "linf":
        return difference.abs().amax(dim=(1, 2, 3))
    return _length(difference).flatten()


def _settle(part: Search, exact: Ball) -> None:
    """Keep what is still broken inside the exact ball, which rounding may leave by 1e-8."""
    found, first_success = part.broken.nonzero()[:, 0], part.first_success.clone()
    part.ball, part.broken = exact, torch.zeros_like(part.broken)
    part.adversarial, part.last = exact.project(part.adversarial), exact.project(part.last)
    part.judge(found, part.adversarial[found], _without_value)
    part.first_success = torch.where(part.broken, first_success, -1)


def _without_value(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    del labels, targets
    return torch.full_like(logits[:, 0], -torch.inf)


def _length(difference: Tensor) -> Tensor:
    return difference.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
