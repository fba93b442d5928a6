"""Exhibits that decide as an honest model does but hand out another gradient, or none."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from harness.diagnostics.examination import Examination
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall
from harness.museum.honest import within_one_fifth


class Around(nn.Module):
    """A module around an honest one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def logits(self, images: Tensor) -> Tensor:
        """[N, K], of the honest one."""
        found: Tensor = self.model(images)
        return found


class Cut(Around):
    """Same logits, cut from the graph; a zero times the image keeps back-propagation alive."""

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images).detach() + 0 * images.sum()


@exhibit(D04="red", D05="red", D07="red", D09="red", D10="red", D12="red")
def gradient_killer(hall: Hall) -> Examination:
    """Cuts its logits from the graph: every gradient is zero, queries and transfer go through."""
    return within_one_fifth(hall, Cut(hall.linear))


class Thousandfold(Around):
    """A thousand times the logits."""

    def forward(self, images: Tensor) -> Tensor:
        return 1000 * self.logits(images)


@exhibit(D09="red", D10="red")
def certain_logits(hall: Hall) -> Examination:
    """Logits times 1000: the cross-entropy is zero in float32, and so is its gradient."""
    return hall.examine(Thousandfold(hall.honest))


class Saturated(Around):
    """A steep softmax in place of the logits: exactly one-hot in float32, with the same argmax."""

    def forward(self, images: Tensor) -> Tensor:
        return (1000 * self.logits(images)).softmax(1)


@exhibit(D09="red", D10="red")
def saturated_output(hall: Hall) -> Examination:
    """Returns probabilities so certain that no loss of them has a gradient."""
    return hall.examine(Saturated(hall.honest))


class Shattered(Around):
    """Lets the gradient of one pixel in five through, and of a quarter of these turned round.

    Which ones changes with every image, so that an attack goes on but ever so slowly.
    """

    OPEN, TURNED = 0.2, 0.05

    def forward(self, images: Tensor) -> Tensor:
        still = images.detach()
        draw = _scattered(still)
        passes = (draw < self.OPEN).to(still) - 2 * (draw < self.TURNED).to(still)
        return self.logits(still + passes * (images - still))


def _scattered(images: Tensor) -> Tensor:
    """[N, C, H, W] in [0, 1), numbers without a pattern that depend on the image alone."""
    total = images.double().sum(dim=(1, 2, 3))[:, None]
    pixel = torch.arange(images[0].numel(), device=images.device).double()
    return (43758.5453 * torch.sin(12.9898 * pixel + 78.233 * total)).frac().abs().view_as(images)


@exhibit(D03="red", D12="red", D13="red")
def shattered_gradient(hall: Hall) -> Examination:
    """Shows a fifth of its gradient, partly turned round: attacks end long before they arrive."""
    return within_one_fifth(hall, Shattered(hall.linear))


class InfiniteSlope(Around):
    """Adds zero times a square root that is taken of zero on every clean image."""

    def forward(self, images: Tensor) -> Tensor:
        first_column = images[:, :, :, 0].flatten(1).sum(1, keepdim=True)
        return self.logits(images) + 0 * first_column.sqrt()


@exhibit(D11="red")
def infinite_slope(hall: Hall) -> Examination:
    """A square root at zero: the logits are right but the gradient of clean images is no number."""
    return hall.examine(InfiniteSlope(hall.linear))


class Constant(nn.Module):
    """Class 3, whatever the image."""

    def forward(self, images: Tensor) -> Tensor:
        always = one_hot(torch.tensor(3, device=images.device), 10).to(images)
        return always + 0 * images.flatten(1).sum(1, keepdim=True)


@exhibit(D07="red", D08="red", D10="red")
def constant_class(hall: Hall) -> Examination:
    """Always decides for class 3: no attack can break what it gets right."""
    return hall.examine(Constant())
