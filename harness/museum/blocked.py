"""Exhibits that an attack cannot climb, or cannot climb to the end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnostics.examination import Examination
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall


class Detached(nn.Module):
    """Switches gradients off in its own forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.model(images)
        return logits


@exhibit(I1="red")
def gradients_off(hall: Hall) -> Examination:
    """Computes its logits with gradients off, so that back-propagation raises."""
    return hall.examine(Detached(hall.honest))


class _OnePixel(torch.autograd.Function):
    """The identity; backward it passes on a single pixel, another one for every image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        flat = gradient.flatten(1)
        chosen = (images.flatten(1).double().sum(1) * 1e5).long() % flat.shape[1]
        kept = nn.functional.one_hot(chosen, flat.shape[1]) * flat
        return kept.reshape(gradient.shape)


class OnePixelAtATime(nn.Module):
    """Lets every gradient through for one pixel only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(_OnePixel.apply(images))
        return logits


@exhibit(I4="red")
def one_pixel_at_a_time(hall: Hall) -> Examination:
    """Shows the gradient of one pixel per pass, so that an attack ends long before its climb."""
    return hall.examine(OnePixelAtATime(hall.honest))


class OneAnswer(nn.Module):
    """Always the same class."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(10).to(images)
        logits[self.answer] = 5.0
        return logits + 0 * images.flatten(1).sum(1, keepdim=True)


@exhibit(I6="red")
def one_answer(hall: Hall) -> Examination:
    """Always answers 0, so that not even the whole box breaks the images of a 0."""
    return hall.examine(OneAnswer(0))
