"""Random crop and flip of whole batches, drawn on the CPU and applied where the images live."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """How training images vary.

    Args:
        pad: pixels of zeros around the image before a crop of its own size; 0 for no crop.
        flip: whether half of the images are mirrored left to right.
    """

    pad: int = 0
    flip: bool = False


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop every image at a random place of its zero-padded self, then mirror half of them.

    All draws come from one CPU generator in a fixed order, so that the device of the images
    changes nothing; no Python loop runs over the images.

    Args:
        images: [N, C, H, W], uint8 or float, on any device.
        augmentation: what may vary.
        generator: a CPU generator; it advances by 2 N draws for the crop and N for the flip.

    Returns:
        [N, C, H, W] of the same dtype and device; `images` itself if nothing may vary.
    """
    count = len(images)
    if augmentation.pad:
        corners = torch.randint(0, 2 * augmentation.pad + 1, (2, count), generator=generator)
        images = _crop(images, augmentation.pad, corners.to(images.device))
    if augmentation.flip:
        is_mirrored = torch.randint(0, 2, (count, 1, 1, 1), generator=generator) == 1
        images = torch.where(is_mirrored.to(images.device), images.flip(3), images)
    return images


def _crop(images: Tensor, pad: int, corners: Tensor) -> Tensor:
    """The window of each padded image whose upper left corner is `corners[:, n]` (row, column)."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (pad, pad, pad, pad))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [N, C, rows, columns, H, W]
    every = torch.arange(len(images), device=images.device)
    return windows[every, :, corners[0], corners[1]]
