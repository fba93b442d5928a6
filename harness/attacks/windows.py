"""What a model that can recompute a window of its maps offers an attack that changes windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

Window = tuple[int, int, int, int]
"""Top, left, bottom and right of a change that all images of a batch share; the last two are
excluded."""


class Nearby(Protocol):
    """Known images, and the deployed logits of candidates that change one window of them."""

    def logits(self, candidates: Tensor, window: Window) -> Tensor:
        """[n, K] of candidates [n, C, H, W], as many as there are known images, in their order."""

    def accept(self, accepted: Tensor) -> None:
        """Make the last candidates known where `accepted` [n] is true."""

    def take(self, kept: Tensor) -> None:
        """Forget the images where `kept` [n] is false."""


Local = Callable[[Tensor], Nearby | None]
"""Images [n, C, H, W] -> what answers for changes of them; None where every one takes a whole
pass, such as where the maps of so many do not fit."""
