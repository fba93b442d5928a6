"""One update per batch: the rule of every defense but free training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from harness.batch import Batch


@dataclass(frozen=True)
class OneStep:
    """Attack the batch, take the loss's gradient, move the weights."""

    @property
    def updates(self) -> int:
        """How many updates a batch gets."""
        return 1

    @property
    def makes_images(self) -> bool:
        """Whether it makes the adversarial images itself."""
        return False

    def __call__(self, batch: Batch, update: Callable[[Batch], Tensor]) -> Tensor:
        """The loss, a scalar."""
        return update(batch)
