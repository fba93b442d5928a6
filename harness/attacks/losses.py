"""What an attack climbs: per-image losses on one tensor of logits, larger is worse for the defense.

Formulas and hand-checked values: `attacks.md` sections 1 and 13.3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from harness.errors import HarnessError

AttackLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(logits [N, K], labels [N], targets [N] or None) -> [N]."""

_GUARD = 1e-12


def ce(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cross-entropy. Vanishes on confident logits and spreads over all rivals on flat ones."""
    del targets
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Best rival minus true logit (Carlini and Wagner, 2017); positive when misclassified."""
    del targets
    return best_rival(logits, labels) - of_class(logits, labels)


def dlr(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Difference of logits ratio (Croce and Hein, 2020, section 4.1): scale- and shift-free."""
    del targets
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _GUARD)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Targeted difference of logits ratio (Croce and Hein, 2020, section 4.2)."""
    if targets is None:
        raise ValueError("dlr_targeted needs targets")
    top = logits.topk(4, dim=1).values
    rise = of_class(logits, targets) - of_class(logits, labels)
    return rise / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _GUARD)


def of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """[N], the logit of the given class of each image."""
    return logits.gather(1, classes[:, None])[:, 0]


def best_rival(logits: Tensor, labels: Tensor) -> Tensor:
    """[N], the largest logit among the other classes."""
    return logits.masked_fill(functional.one_hot(labels, logits.shape[1]).bool(), -torch.inf).amax(
        1
    )


LOSSES: dict[str, AttackLoss] = {
    "ce": ce,
    "margin": margin,
    "dlr": dlr,
    "dlr_targeted": dlr_targeted,
}

_FEWEST_CLASSES = {"ce": 2, "margin": 2, "dlr": 3, "dlr_targeted": 4}


def check_classes(name: str, classes: int) -> None:
    """Refuse a loss that is not defined for so few classes.

    Raises:
        HarnessError: which loss, and what to use instead.
    """
    if classes < _FEWEST_CLASSES.get(name, 2):
        raise HarnessError(
            f"the loss '{name}' needs at least {_FEWEST_CLASSES[name]} classes but the model has "
            f"{classes}. Use loss=margin."
        )
