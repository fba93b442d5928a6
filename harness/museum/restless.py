"""Exhibits that do more than one thing per question: noise, gradients of their own, memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.diagnostics.examination import Examination
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall


class _Around(nn.Module):
    """Something around an honest model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class NoisyLogits(_Around):
    """Adds Gaussian noise to the logits of every pass."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits + 5 * torch.randn_like(logits)


@exhibit(D16="red", I2="red")
def noisy_logits(hall: Hall) -> Examination:
    """Adds noise to its logits, so that no two answers are alike."""
    return hall.examine(NoisyLogits(hall.honest))


class Purified(_Around):
    """Moves the image so as to make its own first guess more certain, then answers.

    Args:
        model: images -> logits [N, K].
        steps: gradient steps per pass.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__(model)
        self.steps = steps

    def forward(self, images: Tensor) -> Tensor:
        moved = images.detach()
        with torch.enable_grad():
            for _ in range(self.steps):
                moved = moved.detach().requires_grad_()
                logits = self.model(moved)
                doubt = functional.cross_entropy(logits, logits.argmax(1), reduction="sum")
                (gradient,) = torch.autograd.grad(doubt, moved)
                moved = (moved - 0.02 * gradient.sign()).clamp(0, 1)
        final: Tensor = self.model(images + (moved - images).detach())
        return final


@exhibit(D17="amber")
def one_inner_step(hall: Hall) -> Examination:
    """Takes a gradient step on the image before it answers."""
    return hall.examine(Purified(hall.honest, 1))


@exhibit(D17="red")
def inner_optimisation(hall: Hall) -> Examination:
    """Purifies the image by several gradient steps before it answers."""
    return hall.examine(Purified(hall.honest, 3))


class BatchNormalised(_Around):
    """Normalises every logit over the batch, as a layer left in training mode does."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return 5 * functional.batch_norm(logits, None, None, training=True)


@exhibit(D18="red")
def batch_statistics(hall: Hall) -> Examination:
    """Batch normalisation with the statistics of whatever batch it is asked about."""
    return hall.examine(BatchNormalised(hall.honest))


class ReadsLabels(_Around):
    """Chooses the true class where a label is handed over, in evaluation too."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.model(images)
        if labels is None:
            return logits
        return logits + 10 * functional.one_hot(labels, logits.shape[1])


@exhibit(D19="red")
def label_reader(hall: Hall) -> Examination:
    """Takes the label in its forward call and raises that logit, in evaluation too."""
    return hall.examine(ReadsLabels(hall.honest))


class Counts(_Around):
    """Counts its passes in a buffer."""

    passes: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.model(images)
        return logits


@exhibit(D19="red")
def counting_buffer(hall: Hall) -> Examination:
    """Counts in an unsaved buffer how often it was asked."""
    return hall.examine(Counts(hall.honest))


class SwitchesMode(_Around):
    """Leaves evaluation mode whenever it is asked."""

    def forward(self, images: Tensor) -> Tensor:
        self.train()
        logits: Tensor = self.model(images)
        return logits


@exhibit(D19="amber")
def mode_switcher(hall: Hall) -> Examination:
    """Switches itself to training mode in its forward pass."""
    return hall.examine(SwitchesMode(hall.honest))
