"""Agreement between clean and adversarial answers, without labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.batch import ADVERSARIAL, CLEAN, Batch, kl


@dataclass(frozen=True)
class Agreement:
    """`beta KL(f(x) || f(x*))`: TRADES without the student's cross-entropy.

    LBGAT leaves the labels to the teacher (`frpat.md` section 4). With beta 0 nothing is looked
    at, so a step makes no clean pass.

    Args:
        beta: weight of the agreement.
        detach_clean: whether the clean side carries no gradient.
    """

    beta: float = 6.0
    detach_clean: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, ADVERSARIAL}) if self.beta else frozenset()

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        if not self.beta:
            return batch.images.new_zeros(len(batch.labels))
        clean = batch.clean.scaled(k)
        if self.detach_clean:
            clean = clean.detach()
        return self.beta * kl(clean, batch.adversarial.scaled(k))
