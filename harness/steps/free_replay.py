"""Free training: a batch is replayed, and every gradient serves weights and images at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.batch import Batch
from harness.errors import HarnessError

_BUFFER = "free_replay.perturbation"


@dataclass(frozen=True)
class FreeReplay:
    """`replays` updates on one batch; the perturbation climbs between them and is never reset.

    Shafahi et al., 2019 (arXiv:1904.12843), algorithm 1; `baselines.md` section 9. The buffer
    belongs to places in the batch, not to images, and survives from batch to batch. The image is
    clamped to [0, 1], the buffer to the ball only. Where we differ from the authors' code: the
    gradient is taken at the clamped image. Through the clamp it is 0 wherever the buffer leaves
    the box, and on images of mostly black and white pixels the buffer then sticks (on digits
    PGD-10 accuracy of the probe 0.31 instead of 0.65).

    Args:
        replays: m.
        relative_step: step of the perturbation as a fraction of epsilon.
    """

    replays: int = 8
    relative_step: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.replays <= 1000:
            raise HarnessError(f"replays must lie in [1, 1000] but is {self.replays}.")

    @property
    def updates(self) -> int:
        """How many updates a batch gets."""
        return self.replays

    @property
    def makes_images(self) -> bool:
        """Whether it makes the adversarial images itself."""
        return True

    def __call__(self, batch: Batch, update: Callable[[Batch], Tensor]) -> Tensor:
        """The mean of the losses, a scalar."""
        buffer = batch.memory.get(_BUFFER, lambda: torch.zeros_like(batch.images))
        count = len(batch.images)
        if len(buffer) < count:  # only where the first batch of a run was not a full one
            buffer = torch.cat([buffer, torch.zeros_like(batch.images[len(buffer) :])])
        ball = Ball(  # around 0, without the box: images are clamped, the buffer is not
            torch.zeros_like(batch.images),
            torch.full_like(batch.images, -torch.inf),
            torch.full_like(batch.images, torch.inf),
            batch.budget.threat,
        )
        delta = buffer[:count]
        losses = []
        for _ in range(self.replays):
            attacked = (batch.images + delta).clamp(0, 1).detach().requires_grad_()
            losses.append(update(batch.with_adversarial(attacked)))
            if attacked.grad is None:
                raise ValueError("the loss of a replay does not depend on the adversarial images")
            step = self.relative_step * ball.epsilon * ball.steepest(attacked.grad)
            delta = clipped(delta + step, ball)
        batch.memory.put(_BUFFER, torch.cat([delta, buffer[count:]]))
        return torch.stack(losses).mean()


def clipped(delta: Tensor, ball: Ball) -> Tensor:
    """A perturbation [N, C, H, W] back inside the ball around 0."""
    if ball.threat.norm == "linf":
        return delta.clamp(-ball.epsilon, ball.epsilon)
    return ball.project(delta)
