"""PGD in a soft ball: what leaves it is drawn back by a learned amount instead of cut off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.batch import Batch
from harness.errors import HarnessError
from harness.maximisers.pgd import Pgd, ascend

_WEIGHT, _MOVES = "soft_ball.lambda", "soft_ball.moves"


@dataclass(frozen=True)
class SoftBall(Ball):
    """An L-infinity ball whose projection only shortens what is too long; the box stays hard.

    Args:
        weight: scalar lambda; 1 cuts off exactly, 0 lets everything pass.
    """

    weight: Tensor

    def project(self, candidate: Tensor) -> Tensor:
        """`d - lambda (d - sign(d) epsilon)` for every coordinate beyond epsilon, then the box."""
        moved = candidate - self.images
        excess = moved - moved.clamp(-self.epsilon, self.epsilon)
        return (candidate - self.weight * excess).clamp(0, 1)


@dataclass(frozen=True)
class SoftBallPgd(Pgd):
    """PGD whose ball is as soft as keeps the mean perturbation near epsilon.

    UDR: Bui et al., 2022 (arXiv:2202.13437), algorithm 1, and equation 19 for lambda, with the
    temperature of the projection equal to the step size. Lambda starts at 1 and is remembered
    with the run. Training images may leave the ball; evaluation never does. Where we differ from
    the authors' code: every update of lambda sees `period` batches, the first one too, and an
    update never makes it negative.

    Args:
        lambda_rate: how fast lambda follows the mean perturbation.
        lambda_period: batches between two updates of lambda.
    """

    lambda_rate: float = 0.02
    lambda_period: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lambda_period < 1:
            raise HarnessError(f"lambda_period must be at least 1 but is {self.lambda_period}.")

    def __call__(self, batch: Batch) -> Tensor:
        """[N, C, H, W] inside the box.

        Raises:
            HarnessError: the threat model is not L-infinity.
        """
        threat = batch.budget.threat
        if threat.norm != "linf":
            raise HarnessError(
                f"the soft ball of udr is defined per pixel, for linf, but the threat is {threat}. "
                "Train with an linf threat, or without udr."
            )
        weight = batch.memory.get(_WEIGHT, lambda: torch.ones(()))
        with batch.attacking():
            hard = Ball.around(batch.images, threat)
            start = self.first(batch, hard)
            soft = SoftBall(hard.images, hard.low, hard.high, threat, weight)
            found = ascend(batch, soft, start, batch.labels, self.inner(batch))
        batch.measure("soft_ball_lambda", weight)
        self._follow(batch, weight, (found - batch.images).abs().mean(), hard.epsilon)
        return found

    def _follow(self, batch: Batch, weight: Tensor, move: Tensor, epsilon: float) -> None:
        """Remember the mean perturbation; at the end of a period move lambda by it."""
        moves = torch.cat([batch.memory.get(_MOVES, lambda: torch.zeros(0)), move.reshape(1)])
        if len(moves) == self.lambda_period:
            changed = weight - self.lambda_rate * (epsilon - moves.mean())
            batch.memory.put(_WEIGHT, changed.clamp(min=0))
            moves = moves[:0]
        batch.memory.put(_MOVES, moves)
