"""Hypersphere embedding: cosines between unit features and unit class weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.network import Head


@dataclass(frozen=True)
class Hypersphere:
    """Cosine logits; the training loss sees `scale * (cos - margin)` for the true class.

    Pang et al., 2020 (arXiv:2002.08619), section 3 and equation 6. The published network
    returns bare cosines, so deployed logits lie in [-1, 1] and a cross-entropy attack on them is
    weak; the scale is exposed so that the adaptive protocol can undo that.

    Args:
        scale: s.
        margin: m, subtracted from the true class's cosine in training only.
    """

    scale: float = 15.0
    margin: float = 0.2

    def build(self, features: int, classes: int) -> Head:
        """A fresh head for R features and K classes."""
        return HypersphereHead(features, classes, self.scale, self.margin)


class HypersphereHead(Head):
    """Hypersphere embedding as a module; no bias, differentiable weight normalisation."""

    def __init__(self, features: int, classes: int, scale: float, margin: float) -> None:
        super().__init__()
        self.weight = nn.Linear(features, classes, bias=False).weight
        self.scale = scale
        self.margin = margin

    def forward(self, features: Tensor) -> Tensor:
        directions = functional.normalize(features, dim=1, eps=1e-12)
        return functional.linear(directions, functional.normalize(self.weight, dim=1, eps=1e-12))

    def training_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        lowered = functional.one_hot(labels, logits.shape[1]) * torch.tensor(
            self.margin, dtype=logits.dtype, device=logits.device
        )
        return self.scale * (logits - lowered)
