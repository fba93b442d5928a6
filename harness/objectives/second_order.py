"""Second-order statistics: part of the cross-entropy learns how the batch's logits relate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, Batch, kl
from harness.errors import HarnessError, unknown_name


@dataclass(frozen=True)
class SecondOrder:
    """`(1 - s) CE(y) + s/2 (KL(t || f(x)) + KL(t* || f(x*))) + beta KL(f(x) || f(x*))`.

    Jin et al., 2022 (arXiv:2203.06020), section 4, as the authors' code has it; `baselines.md`
    section 12. The soft targets t and t* are rows of `class_relations` of the clean and of the
    adversarial logits; they carry no gradient and depend on the whole batch, so small batches
    change the method. The code computes the logits anew for the last two terms, we reuse them.

    Args:
        on: images of the cross-entropy, `adversarial` (PGD-AT, s 0.1) or `clean` (TRADES, s 0.3).
        beta: weight of the agreement, 0 for PGD-AT.
        target_share: s, in [0, 1].
        own_class_mass: of a soft target, on the label; 0.02 for CIFAR-100 with AWP.
        detach_clean: whether the clean side of the agreement carries no gradient.
    """

    on: str = ADVERSARIAL
    beta: float = 0.0
    target_share: float = 0.1
    own_class_mass: float = 0.2
    detach_clean: bool = False

    is_alone = False

    def __post_init__(self) -> None:
        if self.on not in {CLEAN, ADVERSARIAL}:
            raise unknown_name("kind of image", self.on, [CLEAN, ADVERSARIAL])
        for name in ("target_share", "own_class_mass"):
            if not 0 <= getattr(self, name) <= 1:
                raise HarnessError(f"{name} must lie in [0, 1] but is {getattr(self, name)}.")

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, ADVERSARIAL})

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        answers = batch.clean if self.on == CLEAN else batch.adversarial
        label = functional.cross_entropy(answers.training(k), batch.labels, reduction="none")
        clean, adversarial = batch.clean.scaled(k), batch.adversarial.scaled(k)
        soft = (self._surprise(clean, batch.labels) + self._surprise(adversarial, batch.labels)) / 2
        loss = (1 - self.target_share) * label + self.target_share * soft
        if self.beta == 0:
            return loss
        return loss + self.beta * kl(clean.detach() if self.detach_clean else clean, adversarial)

    def _surprise(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[N], KL of the answers from the soft targets that they give themselves."""
        targets = class_relations(logits.detach(), self.own_class_mass)[labels]
        reached = logits.log_softmax(1)
        return functional.kl_div(reached, targets, reduction="none").sum(1)


def class_relations(logits: Tensor, own_class_mass: float = 0.2) -> Tensor:
    """How classes relate in a batch: logits [N, K] -> rows of probabilities [K, K].

    Classes whose logits correlate least get the most mass; nothing depends on the logits' scale.
    A row whose other classes are all alike, where the code divides 0 by 0, is spread evenly.

    Args:
        logits: of the whole batch, K at least 2.
        own_class_mass: the diagonal; every row's other entries sum to the rest.
    """
    distance = -(logits.T @ logits).abs()
    own = torch.eye(len(distance), dtype=logits.dtype, device=logits.device)
    others = (distance - distance.min(1, keepdim=True).values) * (1 - own)
    others = torch.where(others.sum(1, keepdim=True) > 0, others, 1 - own)
    spread = others / others.sum(1, keepdim=True)
    return (1 - own_class_mass) * spread + own_class_mass * own
