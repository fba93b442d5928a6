"""Attacks that change windows: what they try in one pass, and what a model may offer them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Tries(NamedTuple):
    """Several candidates of each image, each its best one outside a square window.

    Args:
        images: [n] int64, which of the known images of a `Nearby` they change.
        candidates: [n, m, C, H, W], in the order in which they are tried.
        most: [n] int64, how many of an image's candidates are meant; at least 1.
        corners: [n, m, 2] int64, first row and column of each window.
        side: of all windows, in pixels.
    """

    images: Tensor
    candidates: Tensor
    most: Tensor
    corners: Tensor
    side: int

    def logits(self, nearby: Nearby) -> Tensor:
        """[n * m, K], without a whole pass."""
        of = self.images.repeat_interleave(self.candidates.shape[1])
        corners = self.corners.flatten(0, 1)
        return nearby.logits(self.candidates.flatten(0, 1), of, corners, self.side)

    def take(self, number: Tensor) -> Tensor:
        """[n, C, H, W], candidate `number` [n] of each image."""
        return self.candidates[torch.arange(len(number), device=number.device), number]


class Nearby(Protocol):
    """Known images, and the deployed logits of candidates that change one window of one of them."""

    def logits(self, candidates: Tensor, of: Tensor, corners: Tensor, side: int) -> Tensor:
        """[r, K] of candidates [r, C, H, W], each a known image (`of` [r]) outside a window.

        The windows are squares of one side; `corners` [r, 2] int64 are their first row and column.
        """

    def accept(self, rows: Tensor) -> None:
        """Make some of the last candidates known, by row, at most one of an image."""

    def take(self, kept: Tensor) -> None:
        """Forget the images where `kept` [n] is false."""


Local = Callable[[Tensor], Nearby | None]
"""Images [n, C, H, W] -> what answers for changes of them; None where every one takes a whole
pass, such as where the maps of so many do not fit."""
