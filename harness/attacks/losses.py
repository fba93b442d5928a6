"""What an attack climbs: per-image losses on one tensor of logits, larger is worse for the defense.

Formulas and hand-checked values: `attacks.md` sections 1 and 13.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import torch
from torch import Tensor
from torch.nn import functional

from harness.errors import HarnessError, unknown_name

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
    top = logits.topk(4, dim=1).values
    return margin_targeted(logits, labels, targets) / (
        top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _GUARD
    )


def ce_targeted(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cross-entropy towards the target class, negated so that larger is worse."""
    del labels
    return -functional.cross_entropy(logits, _needed(targets), reduction="none")


def margin_targeted(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Target logit minus true logit."""
    return of_class(logits, _needed(targets)) - of_class(logits, labels)


def cosine(vectors: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cosine between a vector [N, R] and the one [N, R] it is to match (feature attack)."""
    del labels
    return functional.cosine_similarity(vectors, _needed(targets), dim=1)


def scaled(loss: AttackLoss, factor: float | None) -> AttackLoss:
    """`loss` on `factor` times the logits (A8, RA-S4).

    Args:
        loss: what to climb.
        factor: None divides each image's logits by their own standard deviation over the
            classes, which is held constant in the gradient.
    """

    def climbed(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
        by = 1 / logits.detach().std(dim=1, keepdim=True).clamp(min=1e-12)
        return loss(logits * (by if factor is None else factor), labels, targets)

    return climbed


def of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """[N], the logit of the given class of each image."""
    return logits.gather(1, classes[:, None])[:, 0]


def best_rival(logits: Tensor, labels: Tensor) -> Tensor:
    """[N], the largest logit among the other classes."""
    return logits.masked_fill(functional.one_hot(labels, logits.shape[1]).bool(), -torch.inf).amax(
        1
    )


def _needed(targets: Tensor | None) -> Tensor:
    if targets is None:
        raise ValueError("a targeted loss needs targets")
    return targets


LOSSES: dict[str, AttackLoss] = {
    "ce": ce,
    "margin": margin,
    "dlr": dlr,
    "ce_targeted": ce_targeted,
    "margin_targeted": margin_targeted,
    "dlr_targeted": dlr_targeted,
    "cosine": cosine,
}

TARGETED = frozenset({"ce_targeted", "margin_targeted", "dlr_targeted", "cosine"})
"""Those that need targets."""

_SCALED = frozenset({"ce", "ce_targeted"})
_FEWEST_CLASSES = {"dlr": 3, "dlr_targeted": 4}
_TEXT = re.compile(r"([a-z_]+)(?:\((.*)\))?")
_FACTOR = re.compile(r"std|[0-9]{1,6}(?:\.[0-9]{1,12})?")


def split_loss(
    text: str, known: Collection[str] = LOSSES.keys(), kind: str = "loss"
) -> tuple[str, str]:
    """Name and factor of a loss such as `ce`, `ce(10)` or `ce(std)`, in canonical form.

    Only cross-entropy changes with the scale of the logits, so only it takes a factor; the factor
    1 is none.

    Args:
        text: what somebody wrote.
        known: names that may stand there.
        kind: what an unknown name is not.

    Raises:
        HarnessError: unknown name, or a factor that it cannot take.
    """
    match = _TEXT.fullmatch(text.strip())
    name, factor = (match[1], match[2]) if match else (text, None)
    if name not in known:
        raise unknown_name(kind, name[:80], known)
    if factor is None:
        return name, ""
    is_number = _FACTOR.fullmatch(factor) and (factor == "std" or float(factor) >= 1e-4)
    if name not in _SCALED or not is_number:
        raise HarnessError(
            f"'{text[:40]}' is no loss: only ce and ce_targeted take a factor of the logits, "
            "std or a number from 0.0001 on, such as ce(10)."
        )
    plain = factor if factor == "std" else f"{float(factor):.12g}"
    return name, "" if plain == "1" else plain


def loss_named(text: str) -> AttackLoss:
    """The loss that a canonical text names.

    Raises:
        HarnessError: as `split_loss`.
    """
    name, factor = split_loss(text)
    if not factor:
        return LOSSES[name]
    return scaled(LOSSES[name], None if factor == "std" else float(factor))


def check_classes(name: str, classes: int) -> None:
    """Refuse a loss that is not defined for so few classes.

    Raises:
        HarnessError: which loss, and what to use instead.
    """
    if classes < _FEWEST_CLASSES.get(name, 2):
        other = "apgd_t(loss=margin_targeted)" if name in TARGETED else "apgd_ce(loss=margin)"
        raise HarnessError(
            f"the loss '{name}' needs at least {_FEWEST_CLASSES[name]} classes but the model has "
            f"{classes}. Use the margin instead, such as {other}."
        )
