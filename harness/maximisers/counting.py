"""PGD that counts how many of its steps start from a correctly classified image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Answers, Batch
from harness.maximisers.pgd import InnerLoss, Pgd


@dataclass(frozen=True)
class CountingPgd(Pgd):
    """PGD that leaves kappa in `Batch.survived`: states before a step that were still right.

    GAIRAT: Zhang et al., 2021 (arXiv:2010.01736), algorithm 1. Kappa lies in 0 .. K for K steps;
    it counts the deployed decision, and the last iterate is not looked at.
    """

    def inner(self, batch: Batch) -> InnerLoss:
        """What is climbed, per image; every look at it is counted."""
        climb = super().inner(batch)
        kappa = torch.zeros_like(batch.labels)

        def counted(answers: Answers) -> Tensor:
            nonlocal kappa
            kappa = kappa + (answers.deployed().argmax(1) == batch.labels)
            batch.survived = kappa
            return climb(answers)

        return counted
