"""The plain linear classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from harness.models.network import Head


@dataclass(frozen=True)
class Linear:
    """`Wz + b`."""

    def build(self, features: int, classes: int) -> Head:
        """A fresh head for R features and K classes."""
        return LinearHead(features, classes)


class LinearHead(Head):
    """`Wz + b` as a module; deployed and training logits are the same."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        fresh = nn.Linear(features, classes)
        self.weight = fresh.weight
        self.bias = fresh.bias

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(features, self.weight, self.bias)
