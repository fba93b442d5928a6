"""Independent check of every adversarial image; shares no code with the attacks.

`protocol.md` section 6: the excess over epsilon must be at most 0 against the exact fraction, the
box is [0, 1] exactly, and a fresh forward pass of the deployed decision has the last word.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from harness.threat import ThreatModel, format_fraction


class VerificationError(Exception):
    """An attack returned an image that the threat model does not allow: a bug, never a result."""


def check_inside(clean: Tensor, adversarial: Tensor, threat: ThreatModel) -> Tensor:
    """Check every image against box and ball.

    Args:
        clean: [N, C, H, W] float32 in [0, 1].
        adversarial: the same shape.
        threat: norm and exact epsilon.

    Returns:
        [N] float64, the distance in the norm of the threat model.

    Raises:
        VerificationError: an image is not finite, leaves the box, or is further than epsilon.
    """
    if adversarial.shape != clean.shape or adversarial.dtype != torch.float32:
        raise VerificationError(
            f"adversarial images are {tuple(adversarial.shape)} {adversarial.dtype}, "
            f"expected {tuple(clean.shape)} torch.float32"
        )
    flat = adversarial.detach().cpu().flatten(1)
    base = clean.detach().cpu().flatten(1)
    _refuse(~torch.isfinite(flat).all(1), "not finite")
    _refuse((flat < 0).any(1) | (flat > 1).any(1), "outside the box [0, 1]")
    difference = flat.double() - base.double()
    if threat.norm == "l2":
        distance = difference.square().sum(1).sqrt()
        exceeds = [Fraction(value) > threat.epsilon for value in distance.tolist()]
    else:
        distance, where = difference.abs().max(1)
        exceeds = [
            abs(Fraction(float(flat[row, column])) - Fraction(float(base[row, column])))
            > threat.epsilon
            for row, column in enumerate(where.tolist())
        ]
    _refuse(
        torch.tensor(exceeds), f"further than {format_fraction(threat.epsilon)} ({threat.norm})"
    )
    return distance


def fresh_decision(
    decide: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Judge images by a forward pass of their own.

    Args:
        decide: images -> deployed logits [N, K].
        images: [N, C, H, W].
        labels: [N] int64.

    Returns:
        [N] int64, the predicted class; -1, which no label is, where the logits are not finite.
        [N], the margin: true logit minus the best other.
    """
    with torch.no_grad():
        logits = decide(images)
    finite = torch.isfinite(logits).all(1)
    predicted = torch.where(finite, logits.argmax(1), torch.full_like(logits.argmax(1), -1))
    return predicted, margin_of(logits, labels)


def margin_of(logits: Tensor, labels: Tensor) -> Tensor:
    """[N], true logit minus the best other: negative where the decision is wrong."""
    true = logits.gather(1, labels[:, None])[:, 0]
    return true - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def _refuse(bad: Tensor, reason: str) -> None:
    if bad.any():
        first = int(bad.nonzero()[0])
        raise VerificationError(f"{int(bad.sum())} adversarial images are {reason}, first: {first}")
