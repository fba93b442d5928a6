"""Supervised contrast: images of one class together, whether attacked or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, Batch
from harness.errors import HarnessError
from harness.models.network import Network

WIDTH = 128
"""Dimensions of the projection."""


@dataclass(frozen=True)
class SupervisedContrast:
    """`weight` times the supervised contrastive loss of clean and adversarial features together.

    Khosla et al., 2020 (arXiv:2004.11362), equation 2, on unit vectors of a linear projection.
    It stands for row "MCA" of FRPAT's Table 4, of which no formula is public
    (`frpat.md` section 5): a reconstruction, not that method.

    Args:
        weight: of the loss.
        temperature: T.
    """

    weight: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise HarnessError(f"the temperature must be above 0 but is {self.temperature}.")

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, ADVERSARIAL})

    def modules(self, student: Network, teacher: Network | None) -> Mapping[str, nn.Module]:
        """The projection to `WIDTH`."""
        del teacher
        return {"contrast_projection": nn.Linear(student.trunk.features, WIDTH)}

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar."""
        features = torch.cat([batch.clean.features, batch.adversarial.features])
        projected = batch.extras["contrast_projection"](features)
        value = supervised_contrast(projected, torch.cat([batch.labels] * 2), self.temperature)
        return self.weight * value


def supervised_contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean over images of the mean negative log-likelihood of the images of the same class.

    Args:
        features: [N, R], of any length above 0; only directions count.
        labels: [N], each at least twice.
        temperature: T.
    """
    unit = functional.normalize(features, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    scores = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    likelihood = scores.log_softmax(1).masked_fill(itself, 0.0)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    return -((likelihood * positive).sum(1) / positive.sum(1)).mean()
