"""PGD inside training: fixed steps, last iterate, in the BatchNorm mode of the recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.attacks.geometry import Ball
from harness.batch import Answers, Batch, kl, sent
from harness.errors import unknown_name

InnerLoss = Callable[[Answers], Tensor]


@dataclass(frozen=True)
class Pgd:
    """Climb an inner loss from a point close to the clean image; gates follow their own argmax.

    Args:
        climbs: `ce` against the label (Madry et al., 2018) or `kl` against the clean prediction
            (TRADES, equation 5). Both see scaled logits without margin (`he.md` section 2).
        start: `normal`, close to the image, or `uniform` in the whole ball.
        noise: standard deviation of the normal start, on the [0, 1] pixel scale; the agreement
            has no gradient at the clean image itself.
    """

    climbs: str = "ce"
    start: str = "normal"
    noise: float = 0.001

    def __post_init__(self) -> None:
        if self.climbs not in {"ce", "kl"}:
            raise unknown_name("inner loss", self.climbs, ["ce", "kl"])
        if self.start not in {"normal", "uniform"}:
            raise unknown_name("start", self.start, ["normal", "uniform"])

    def __call__(self, batch: Batch) -> Tensor:
        """[N, C, H, W], inside the ball and the box."""
        with batch.attacking():
            ball = Ball.around(batch.images, batch.budget.threat)
            return ascend(batch, ball, self.first(batch, ball), batch.labels, self.inner(batch))

    def first(self, batch: Batch, ball: Ball) -> Tensor:
        """[N, C, H, W], where the climb starts, inside the ball and the box."""
        return near(batch, ball, self.noise) if self.start == "normal" else anywhere(batch, ball)

    def inner(self, batch: Batch) -> InnerLoss:
        """What is climbed, per image."""
        return label_loss(batch) if self.climbs == "ce" else agreement_loss(batch)


def near(batch: Batch, ball: Ball, noise: float) -> Tensor:
    """[N, C, H, W], the images plus normal noise of this deviation, inside the ball."""
    draw = sent(torch.randn(ball.images.shape, generator=batch.generator), ball.images.device)
    return ball.project(ball.images + noise * draw)


def anywhere(batch: Batch, ball: Ball) -> Tensor:
    """[N, C, H, W], uniform in the ball (L2: `Ball.random_start`)."""
    images = ball.images
    draw = sent(torch.rand(images.shape, generator=batch.generator), images.device)
    radius = sent(torch.rand((len(images), 1, 1, 1), generator=batch.generator), images.device)
    return ball.random_start(draw, radius)


def ascend(batch: Batch, ball: Ball, candidate: Tensor, labels: Tensor, inner: InnerLoss) -> Tensor:
    """Steepest ascent of `inner` from `candidate` inside the ball; the last iterate, detached."""
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


def agreement_loss(batch: Batch) -> InnerLoss:
    """KL of every output from the clean prediction, which is computed once."""
    with torch.no_grad():
        clean = batch.answers(batch.images, batch.labels, select=None)

    def climb(answers: Answers) -> Tensor:
        return batch.per_head(
            lambda k: kl(clean.scaled(k), answers.scaled(k)),
            answers,
        )

    return climb
