"""Exhibits whose wrong answers sit where an attack does not stop: bands, shells, grey levels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.diagnostics.examination import Examination
from harness.museum.exhibit import exhibit
from harness.museum.hall import EPSILON, Hall


class Remembers(nn.Module):
    """Answers by memory where an image lies within a shell around one that it remembers.

    Args:
        model: answers everywhere else.
        images: [M, C, H, W], remembered.
        labels: [M] int64, their classes.
        inner, outer: L-infinity distances that bound the shell.
    """

    images: Tensor
    answers: Tensor

    def __init__(
        self, model: nn.Module, images: Tensor, labels: Tensor, inner: float, outer: float
    ) -> None:
        super().__init__()
        self.model = model
        self.inner = inner
        self.outer = outer
        self.register_buffer("images", images)
        self.register_buffer("answers", nn.functional.one_hot(labels, 10) * 100.0)

    def forward(self, images: Tensor) -> Tensor:
        apart = (images[:, None] - self.images[None]).flatten(2).abs().amax(2)
        distance, nearest = apart.min(1)
        is_known = (distance >= self.inner) & (distance <= self.outer)
        logits: Tensor = self.model(images)
        return logits + is_known[:, None] * self.answers[nearest]


def _remembering(hall: Hall, inner: float, outer: float) -> Remembers:
    """Knows the images that it will be examined on, as a model fitted to its test set does."""
    images, labels = hall.test.batch(0, hall.examples), hall.test.labels[: hall.examples]
    return Remembers(hall.linear, images, labels, inner * float(EPSILON), outer * float(EPSILON))


@exhibit(D23="amber")
def guarded_ball(hall: Hall) -> Examination:
    """Answers by memory up to just beyond epsilon, and is fragile behind it."""
    return hall.examine(_remembering(hall, 0.0, 1.03))


@exhibit(D22="red")
def guarded_shell(hall: Hall) -> Examination:
    """Answers by memory only near epsilon, where steps of fixed length end up."""
    return hall.examine(_remembering(hall, 0.9, 1.1))


class SecondThoughts(nn.Module):
    """Between grey levels every other image, by its digits, gets the second-best answer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        levels = 255 * images.flatten(1)
        off_grid = (levels - levels.round()).abs().amax(1) > 1e-3
        swaps = off_grid & (torch.sin(1e4 * images.flatten(1).sum(1)) > 0)
        top = logits.topk(2, dim=1).indices
        swapped = logits.scatter(1, top, logits.gather(1, top).flip(1))
        return torch.where(swaps[:, None], swapped, logits)


@exhibit(I3="red")
def second_thoughts(hall: Hall) -> Examination:
    """Swaps its two best answers on half of all inputs, so that right and wrong alternate."""
    return hall.examine(SecondThoughts(hall.honest))


class BetweenLevels(nn.Module):
    """An extra term that is zero on 8-bit images and large between two grey levels."""

    def __init__(self, model: nn.Module, height: float) -> None:
        super().__init__()
        self.model = model
        self.height = height

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        between = torch.sin(torch.pi * 255 * images).square().flatten(1).mean(1)
        return torch.cat([logits[:, :1] + self.height * between[:, None], logits[:, 1:]], dim=1)


@exhibit(D24="red")
def between_levels(hall: Hall) -> Examination:
    """Is wrong between grey levels only, where no 8-bit image can be."""
    return hall.examine(BetweenLevels(hall.honest, 40.0))
