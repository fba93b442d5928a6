"""Exhibits that change the image before an honest model sees it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from harness.diagnostics.examination import Examination
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall
from harness.museum.honest import within_one_fifth
from harness.museum.masked_gradients import Around, Cut


class Quantised(Around):
    """Rounds every pixel to 64ths."""

    def forward(self, images: Tensor) -> Tensor:
        return self.logits((64 * images).round() / 64)


@exhibit(D04="red", D10="red", D12="red")
def quantised_input(hall: Hall) -> Examination:
    """Rounds its input: the gradient is zero everywhere, and queries do not need one."""
    return within_one_fifth(hall, Quantised(hall.linear))


class Rippled(Around):
    """Adds a wave to every pixel that vanishes on the 256 levels of clean images.

    Args:
        model: sees the waved image.
        height: of the wave, in pixel values.
    """

    def __init__(self, model: nn.Module, height: float) -> None:
        super().__init__(model)
        self.height = height

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images + self.height * torch.sin(2 * math.pi * 255 * images))


@exhibit(D02="red", D12="amber")
def one_step_trap(hall: Hall) -> Examination:
    """A wave of 0.003 that is steeper than the pixel itself: right slopes on clean images alone."""
    return within_one_fifth(hall, Rippled(hall.linear, 5 / (2 * math.pi * 255)))


@exhibit(D03="red", D12="amber", D13="red")
def low_order_bits(hall: Hall) -> Examination:
    """Decides by what lies between the 256 levels: each step of an attack undoes the last one."""
    return hall.examine(Rippled(hall.linear, 0.3))


@exhibit(D06="red", D10="red")
def brittle_bits(hall: Hall) -> Examination:
    """Decides by what lies between the 256 levels, gradient cut: noise finds what PGD does not."""
    return hall.examine(Cut(Rippled(hall.linear, 0.5)))


class BlankMargin(Around):
    """Returns one-hot decisions once a pixel that is blank in training is not blank any more.

    Args:
        model: decides.
        images: [N, C, H, W], training images.
    """

    LIMIT = 0.1
    blank: Tensor

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__(model)
        self.register_buffer("blank", (images > self.LIMIT).float().mean(0) <= 0.01)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.logits(images)
        hard = one_hot(logits.argmax(1), logits.shape[1]) + 0 * logits
        is_noisy = ((images > self.LIMIT) & self.blank).flatten(1).any(1)
        return torch.where(is_noisy[:, None], hard, logits)


@exhibit(D07="red", D08="red")
def blank_margin(hall: Hall) -> Examination:
    """Turns its decision hard when the margin of the image is soiled: large epsilons look safer."""
    images, _ = hall.training
    return hall.examine(BlankMargin(hall.linear, images), examples=300)
