"""PGD inside training: fixed steps, last iterate, evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.attacks.geometry import Ball
from harness.batch import Answers, Batch, evaluating, kl
from harness.errors import unknown_name

InnerLoss = Callable[[Answers], Tensor]


@dataclass(frozen=True)
class Pgd:
    """Climb an inner loss from a point close to the clean image; gates follow their own argmax.

    Args:
        climbs: `ce` against the label (Madry et al., 2018) or `kl` against the clean prediction
            (TRADES, equation 5). Both see scaled logits without margin (`he.md` section 2).
        noise: standard deviation of the normal start, on the [0, 1] pixel scale; the agreement
            has no gradient at the clean image itself.
    """

    climbs: str = "ce"
    noise: float = 0.001

    def __post_init__(self) -> None:
        if self.climbs not in {"ce", "kl"}:
            raise unknown_name("inner loss", self.climbs, ["ce", "kl"])

    def __call__(self, batch: Batch) -> Tensor:
        """[N, C, H, W], inside the ball and the box."""
        with evaluating(batch.network):
            inner = label_loss(batch) if self.climbs == "ce" else _agreement_loss(batch)
            return ascend(batch, batch.images, batch.labels, inner, self.noise)


def ascend(batch: Batch, images: Tensor, labels: Tensor, inner: InnerLoss, noise: float) -> Tensor:
    """Signed gradient ascent of `inner` around `images`; the last iterate, detached."""
    ball = Ball.around(images, batch.budget.threat)
    draw = torch.randn(images.shape, generator=batch.generator).to(images.device)
    candidate = ball.project(images + noise * draw)
    for _ in range(batch.budget.steps):
        candidate.requires_grad_()
        value = inner(batch.answers(candidate, labels, select=None))
        (gradient,) = torch.autograd.grad(value.sum(), candidate)
        candidate = ball.project(candidate.detach() + batch.budget.step * ball.steepest(gradient))
    return candidate.detach()


def label_loss(batch: Batch) -> InnerLoss:
    """Cross-entropy of every output against the anchors' labels."""

    def climb(answers: Answers) -> Tensor:
        return batch.per_head(
            lambda k: functional.cross_entropy(answers.scaled(k), batch.labels, reduction="none"),
            answers,
        )

    return climb


def _agreement_loss(batch: Batch) -> InnerLoss:
    """KL of every output from the clean prediction, which is computed once."""
    with torch.no_grad():
        clean = batch.answers(batch.images, batch.labels, select=None)

    def climb(answers: Answers) -> Tensor:
        return batch.per_head(
            lambda k: kl(clean.scaled(k), answers.scaled(k)),
            answers,
        )

    return climb
