"""TRADES: accuracy on clean images plus agreement between clean and adversarial ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, Batch, kl


@dataclass(frozen=True)
class Trades:
    """`CE(f(x), y) + beta KL(f(x) || f(x*))`.

    Zhang et al., 2019 (arXiv:1901.08573), equation 5; beta is the paper's 1/lambda. The clean
    side is not detached, as in the authors' code, and its logits come from one pass instead of
    two: same value, one BatchNorm update less.

    Args:
        beta: weight of the agreement.
        detach_clean: whether the clean side of the agreement carries no gradient.
    """

    beta: float = 6.0
    detach_clean: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, ADVERSARIAL})

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        accuracy = functional.cross_entropy(batch.clean.training(k), batch.labels, reduction="none")
        clean = batch.clean.scaled(k)
        if self.detach_clean:
            clean = clean.detach()
        return accuracy + self.beta * kl(clean, batch.adversarial.scaled(k))
