"""MART: adversarial images against their strongest rival class, agreement where it is needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, Batch


@dataclass(frozen=True)
class Mart:
    """`BCE(f(x*), y) + beta (1 - f(x)_y) KL(f(x) || f(x*))`, f being probabilities.

    Wang et al., 2020 ("Improving Adversarial Robustness Requires Revisiting Misclassified
    Examples"), equation 11; `baselines.md` section 5. The weight is not detached: its gradient
    reaches the clean images too, as in the authors' code. Of equal rivals the first one counts.

    Args:
        beta: weight of the agreement.
    """

    beta: float = 5.0

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, ADVERSARIAL})

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        boosted = boosted_cross_entropy(batch.adversarial.training(k), batch.labels)
        clean, adversarial = batch.clean.scaled(k), batch.adversarial.scaled(k)
        return boosted + self.beta * weighted_agreement(clean, adversarial, batch.labels)


def boosted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus `-log(1 - P_k)` of the likeliest wrong class k: [N, K], [N] -> [N]."""
    probabilities = logits.softmax(1)
    is_label = functional.one_hot(labels, logits.shape[1]).bool()
    rival = probabilities.detach().masked_fill(is_label, -1.0).argmax(1, keepdim=True)
    doubt = torch.log(1.0001 - probabilities.gather(1, rival) + 1e-12).squeeze(1)
    return functional.cross_entropy(logits, labels, reduction="none") - doubt


def weighted_agreement(clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
    """`(1 - Q_y) KL(Q || P)`, Q of clean and P of adversarial logits: [N, K] twice, [N] -> [N]."""
    target, reached = clean.softmax(1), adversarial.softmax(1)
    weight = 1.0000001 - target.gather(1, labels[:, None]).squeeze(1)
    difference = clean.log_softmax(1) - torch.log(reached + 1e-12)
    return weight * (target * difference).sum(1)
