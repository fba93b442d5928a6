"""Asymmetric negative contrast: push negatives away from where they imitate the anchor."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.batch import CLEAN, NEGATIVE, Batch
from harness.errors import HarnessError


@dataclass(frozen=True)
class NegativeContrast:
    """`weight` times the similarity of anchor and negative where both predict the same class.

    ANCRA, equations 3 and 4 (`ancra.md` section 3).

    Args:
        weight: zeta.
        alpha: 1 freezes the anchor and pushes the negative alone, 0 the other way round; the
            value does not depend on it, only the gradient does.
    """

    weight: float = 3.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise HarnessError(f"alpha must lie in [0, 1] but is {self.alpha}.")

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, NEGATIVE})

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar: the sum over images divided by the batch size, matching or not."""
        exists = batch.negatives.exists

        def similarity(k: int) -> Tensor:
            anchor = batch.clean.scaled(k).softmax(1)
            negative = batch.negative.scaled(k).softmax(1)
            return contrast(anchor, negative, self.alpha) * exists

        return self.weight * batch.per_head(similarity, batch.clean).mean()


def contrast(anchor: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """Similarity of two probability tensors [N, K] -> [N]; 0 where their argmaxes differ."""
    predicted = anchor.argmax(1)
    matches = (predicted == negative.argmax(1)).to(anchor.dtype)
    p = anchor.gather(1, predicted[:, None])[:, 0]
    q = negative.gather(1, predicted[:, None])[:, 0]
    # sqrt has no gradient at 0: where the argmaxes differ q can be 0, and 0 * inf is NaN
    p, q = (value.clamp(min=1e-12) for value in (p, q))
    frozen_anchor = (p.detach() * q).sqrt()
    frozen_negative = (p * q.detach()).sqrt()
    return matches * (alpha * frozen_anchor + (1 - alpha) * frozen_negative)
