"""PGD that stops a few steps after an image is first misclassified: friendly adversarial images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.batch import Batch, sent
from harness.maximisers.pgd import Pgd


@dataclass(frozen=True)
class EarlyStoppedPgd(Pgd):
    """An image rests at the misclassified state that follows `tau` others; the rest climb on.

    FAT: Zhang et al., 2020 (arXiv:2002.11242), algorithm 1. Tau is 0 at first and grows by 1
    after each of `patience_ends`. The authors' code returns a permutation of the batch and passes
    only the images that still climb; here the order is kept and the whole batch is passed until
    its last image rests: the same images, for more passes.

    Args:
        patience_ends: last 1-based epochs with tau 0, 1, and so on, in a run of `run_length`
            epochs; a shorter run changes tau at the same fractions.
        run_length: epochs of the authors' run.
        escape: standard deviation of the normal noise in every step, on the [0, 1] pixel scale.
    """

    patience_ends: tuple[int, ...] = (50, 90)
    run_length: int = 120
    escape: float = 0.001

    def __call__(self, batch: Batch) -> Tensor:
        """[N, C, H, W], inside the ball and the box."""
        with batch.attacking():
            ball = Ball.around(batch.images, batch.budget.threat)
            return self._climb(batch, ball, self.first(batch, ball))

    def tau(self, batch: Batch) -> int:
        """How many misclassified states an image may leave behind in this epoch."""
        epoch = batch.epoch_of(self.run_length)
        return sum(epoch > end for end in self.patience_ends)

    def _climb(self, batch: Batch, ball: Ball, candidate: Tensor) -> Tensor:
        inner, tau = self.inner(batch), self.tau(batch)
        misses, images = torch.zeros_like(batch.labels), batch.images
        for _ in range(batch.budget.steps):
            candidate.requires_grad_()
            answers = batch.answers(candidate, batch.labels, select=None)
            misses = misses + (answers.deployed().argmax(1) != batch.labels)
            climbs = misses <= tau
            if not climbs.any():  # a GPU waits here: the passes that this saves cost more
                break
            (gradient,) = torch.autograd.grad(inner(answers).sum(), candidate)
            candidate = candidate.detach()
            noise = sent(torch.randn(candidate.shape, generator=batch.generator), images.device)
            step = batch.budget.step * ball.steepest(gradient) + self.escape * noise
            moved = ball.project(candidate + step)
            candidate = torch.where(climbs[:, None, None, None], moved, candidate)
        return candidate.detach()
