"""Geometry-aware weights: images that the training attack breaks early count more."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, Batch


@dataclass(frozen=True)
class Reweighted:
    """`w_i CE(f(x_i*), y_i)`, with weights of mean 1 in the batch.

    GAIRAT: Zhang et al., 2021 (arXiv:2010.01736), equation 6. The weights come from how many
    steps each image survived, which a counting maximiser leaves with the batch. Every weight is 1
    before `first_epoch`.

    Args:
        shift: the paper's lambda; the lower, the more only the first to fall count.
        first_epoch: 1-based first epoch with weights, in a run of `run_length` epochs.
        run_length: epochs of the authors' run; a shorter one starts at the same fraction.
    """

    shift: float = -1.0
    first_epoch: int = 60
    run_length: int = 120

    is_alone = False

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({ADVERSARIAL})

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        logits = batch.adversarial.training(k)
        losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        if batch.epoch_of(self.run_length) < self.first_epoch:
            return losses
        if batch.survived is None:
            raise ValueError("weights need a maximiser that counts survived steps")
        return survival_weights(batch.survived, batch.budget.steps, self.shift) * losses


def survival_weights(survived: Tensor, steps: int, shift: float) -> Tensor:
    """`(1 + tanh(shift + 5 (1 - 2 kappa / K))) / 2`, rescaled to mean 1.

    Computed as a sigmoid of twice the argument, which is the same and keeps its digits where the
    hyperbolic tangent is close to -1.

    Args:
        survived: [N], kappa in 0 .. K.
        steps: K.
        shift: the paper's lambda.
    """
    weights = (2 * (shift + 5 * (1 - 2 * survived / steps))).sigmoid()
    return weights / weights.mean()
