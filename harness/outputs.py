"""What every model returns, and how a caller may steer what a deployed pass decides itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """One forward pass of a model.

    Args:
        logits: [N, K], the deployed decision is their argmax.
        auxiliary: every head output other than the final logits, shallow to deep, each [N, K].
        features: [N, R], the penultimate vectors that the head turned into `logits`.
        logit_scale: what the training loss multiplied `logits` by (HE: s); 1 elsewhere.
        vectors: what each auxiliary head turned into its logits, shallow to deep, each [N, R].
        gated: [N, R], what the head really turned into `logits` where a gate changed `features`.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()
    features: Tensor | None = None
    logit_scale: float = 1.0
    vectors: tuple[Tensor, ...] = ()
    gated: Tensor | None = None

    def every_logits(self) -> tuple[Tensor, ...]:
        """Final logits first, then the auxiliary ones."""
        return (self.logits, *self.auxiliary)


@dataclass(frozen=True)
class SoftSelect:
    """Ask a class-conditional gate for its hard choice forward and a soft one backward.

    The gradient passes through `softmax(auxiliary / temperature)` (objective A4, straight-through).
    """

    temperature: float = 1.0


@dataclass(frozen=True)
class Stripped:
    """Ask for the same weights without the defense's module (objective A9, the stripped twin)."""


Select = Tensor | SoftSelect | Stripped | None
"""`None`: every gate follows its own argmax, as deployed. [N] int64: the gate of that class."""


class Model(Protocol):
    """Images [N, C, H, W] in [0, 1] to `Outputs`; `select` only reaches models that have a gate."""

    def __call__(self, images: Tensor, *, select: Select = None) -> Outputs: ...
