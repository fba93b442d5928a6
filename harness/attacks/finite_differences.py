"""Gradients from values alone: symmetric differences along random directions (NES and SPSA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search

AT_ONCE = 8
"""Pairs of probes drawn at once. Part of what a seed means: another number draws others."""

OPTIMISERS = ("sign", "adam")

LIMITS = {
    "steps": (1.0, 100_000.0),
    "pairs": (1.0, 100_000.0),
    "sigma": (1e-6, 1.0),
    "relative_step": (1e-6, 2.0),
    "learning_rate": (1e-6, 1.0),
}


class Draw(Protocol):
    """Directions [n, *shape] of mean 0 and variance 1, one independent stream per image."""

    def __call__(
        self, positions: Tensor, shape: tuple[int, ...], *, restart: int, purpose: str
    ) -> Tensor:
        """As the methods of `Streams`."""


@dataclass(frozen=True)
class Climb:
    """How a gradient is estimated and followed.

    Args:
        draw: where the directions come from.
        steps: moves of the candidate.
        pairs: directions per step (q), two probes each.
        sigma: distance of a probe per unit of direction, in units of the [0, 1] pixel scale.
        optimiser: `sign` for steps of fixed length, or `adam`.
        relative_step: length of a fixed step as a fraction of epsilon.
        learning_rate: of Adam, in units of the [0, 1] pixel scale.
    """

    draw: Draw
    steps: int
    pairs: int
    sigma: float
    optimiser: str
    relative_step: float
    learning_rate: float

    def run(self, search: Search, loss: AttackLoss) -> None:
        """Follow estimated gradients from the clean image, judging it and every iterate."""
        search.judge_clean(loss)
        active = search.standing()
        ball, adam = search.ball.take(active), Adam.start(search.ball.images[active])
        candidate = ball.images
        for step in range(self.steps):
            if len(active) == 0:
                return
            gradient, left = self.estimate(search, active, candidate, loss, step)
            active, candidate = active[left], candidate[left]
            ball, adam = ball.take(left), adam.take(left)
            if self.optimiser == "adam":
                move, adam = adam.step(gradient)
                candidate = ball.project(candidate + self.learning_rate * move)
            else:
                length = self.relative_step * ball.epsilon
                candidate = ball.project(candidate + length * ball.steepest(gradient))
            kept = search.judge(active, candidate, loss).kept
            active, candidate = active[kept], candidate[kept]
            ball, adam = ball.take(kept), adam.take(kept)

    def estimate(
        self, search: Search, active: Tensor, candidate: Tensor, loss: AttackLoss, step: int
    ) -> tuple[Tensor, Tensor]:
        """Gradients, and which of the active images they belong to: probes may break the others.

        Probes are not clipped to the box: next to its faces clipping would bias the mean.
        """
        total, left = torch.zeros_like(candidate), torch.arange(len(active), device=active.device)
        for first in range(0, self.pairs, AT_ONCE):
            shape = (min(AT_ONCE, self.pairs - first), *candidate.shape[1:])
            directions = self.draw(
                active[left], shape, restart=step, purpose=f"directions {first}"
            ).to(candidate.device)
            centre, offset = candidate[left][:, None], self.sigma * directions
            probes = torch.cat([centre + offset, centre - offset], dim=1)
            values, kept = search.probe(active[left], probes, loss)
            total = (total + weighted_sum(values, directions, self.sigma))[kept]
            left = left[kept]
            if len(left) == 0:
                break
        return total / self.pairs, left


def cost(parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Two probes per pair and step, a look at the clean image and one after every step."""
    return 1 + parameters["steps"] * (2 * parameters["pairs"] + 1), 0


def weighted_sum(values: Tensor, directions: Tensor, sigma: float) -> Tensor:
    """Sum over the pairs of `[J(x + sigma u) - J(x - sigma u)] / (2 sigma) u`, per image.

    Args:
        values: [n, 2 m], first those at x + sigma u, then those at x - sigma u.
        directions: [n, m, C, H, W], u.
        sigma: as above.
    """
    above, below = values.chunk(2, dim=1)
    slopes = ((above - below) / (2 * sigma)).nan_to_num(0.0, 0.0, 0.0)[..., None, None, None]
    total = torch.zeros_like(directions[:, 0])
    for pair in range(directions.shape[1]):  # in this order for every image, in any batch
        total = total + slopes[:, pair] * directions[:, pair]
    return total


@dataclass(frozen=True)
class Adam:
    """Moments of past gradients, per pixel (Kingma and Ba, 2015, algorithm 1).

    The two powers of the decay rates are carried along by multiplication: `pow` may round an
    element differently in another batch.

    Args:
        first, second: moments, like the gradient.
        first_power, second_power: decay rates to the power of the steps that a pixel has taken.
    """

    first: Tensor
    second: Tensor
    first_power: Tensor
    second_power: Tensor

    @classmethod
    def start(cls, like: Tensor) -> Adam:
        """No steps taken yet."""
        zeros, ones = torch.zeros_like(like), torch.ones_like(like)
        return cls(zeros, zeros, ones, ones)

    def take(self, chosen: Tensor) -> Adam:
        """The same for some of the images; `chosen` is a mask or positions."""
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def step(self, gradient: Tensor) -> tuple[Tensor, Adam]:
        """Direction of ascent, to be scaled by the learning rate, and what to remember."""
        moments = Adam(
            0.9 * self.first + 0.1 * gradient,
            0.999 * self.second + 0.001 * gradient.square(),
            0.9 * self.first_power,
            0.999 * self.second_power,
        )
        first = moments.first / (1 - moments.first_power)
        second = moments.second / (1 - moments.second_power)
        return first / (second.sqrt() + 1e-8), moments
