"""One signed step from a random point: the attack of fast adversarial training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.attacks.geometry import Ball
from harness.batch import Answers, Batch
from harness.maximisers.pgd import InnerLoss, anywhere, label_loss


@dataclass(frozen=True)
class RandomFgsm:
    """Start uniformly in the ball, take one step along the sign of the gradient, project.

    Wong et al., 2020 (arXiv:2001.03994), algorithm 3. The one gradient is float32 whatever the
    precision of the run: with bfloat16 gradients robustness was lost in the second epoch. The
    step counts of the recipe are not used.

    Args:
        relative_step: length of the step as a fraction of epsilon.
        margin: whether the climbed cross-entropy has the head's margin, as the loss of the
            update has; without it the step sees scaled logits alone (`he.md` section 2). With a
            single output a margin that is subtracted from a logit only scales each image's
            gradient, so that the step is the same; other margins change it.
    """

    relative_step: float = 1.25
    margin: bool = False

    def __call__(self, batch: Batch) -> Tensor:
        """[N, C, H, W], inside the ball and the box."""
        with batch.attacking():
            ball = Ball.around(batch.images, batch.budget.threat)
            start = anywhere(batch, ball).requires_grad_()
            answers = batch.answers(start, batch.labels, select=None, exact=True)
            (gradient,) = torch.autograd.grad(self.inner(batch)(answers).sum(), start)
        length = self.relative_step * ball.epsilon
        return ball.project(start.detach() + length * ball.steepest(gradient))

    def inner(self, batch: Batch) -> InnerLoss:
        """What is climbed, per image."""
        return margin_loss(batch) if self.margin else label_loss(batch)


def margin_loss(batch: Batch) -> InnerLoss:
    """Cross-entropy of every output against the labels, as the update sees it."""

    def climb(answers: Answers) -> Tensor:
        return batch.per_head(
            lambda k: functional.cross_entropy(answers.training(k), batch.labels, reduction="none"),
            answers,
        )

    return climb
