"""Adversarial logit pairing: cross-entropy on both images, and a pull between their logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, Batch
from harness.errors import HarnessError, unknown_name


@dataclass(frozen=True)
class Alp:
    """`a CE(f(x), y) + (1 - a) CE(f(x*), y) + lambda |f(x) - f(x*)|`, gradient through both sides.

    Kannan et al., 2018 (arXiv:1803.06373), equation 2; weights and distance as in hypersphere
    embedding (Pang et al., 2020, arXiv:2002.08619, table 1). Deployed logits are paired: bare
    cosines on a hypersphere, as in that paper's code.

    Args:
        clean_share: a, the clean images' share of the cross-entropy, in [0, 1].
        pairing_weight: lambda.
        distance: `mean_square` over the classes (that paper's code) or `l2`, the Euclidean norm
            per image (its text).
    """

    clean_share: float = 0.5
    pairing_weight: float = 0.5
    distance: str = "mean_square"

    def __post_init__(self) -> None:
        if self.distance not in {"mean_square", "l2"}:
            raise unknown_name("distance", self.distance, ["mean_square", "l2"])
        if not 0 <= self.clean_share <= 1:
            raise HarnessError(f"clean_share must lie in [0, 1] but is {self.clean_share}.")

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, ADVERSARIAL})

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        clean, adversarial = (
            functional.cross_entropy(answers.training(k), batch.labels, reduction="none")
            for answers in (batch.clean, batch.adversarial)
        )
        apart = self._apart(batch.clean.deployed(k) - batch.adversarial.deployed(k))
        mixed = self.clean_share * clean + (1 - self.clean_share) * adversarial
        return mixed + self.pairing_weight * apart

    def _apart(self, difference: Tensor) -> Tensor:
        if self.distance == "l2":
            length: Tensor = torch.linalg.vector_norm(difference, dim=1)
            return length
        return difference.square().mean(1)
