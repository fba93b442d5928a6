"""DeepFool: repeated steps across the nearest linearised decision boundary."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.geometry import Ball
from harness.attacks.hyperplanes import contenders, dual_norm, nearest_plane
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search

_BEYOND = 1e-4
"""Added to every difference of logits, so that a step from the boundary itself still crosses it."""


@attack(
    losses=("margin",),
    norms=("linf", "l2"),
    knowledge="white_box",
    source="Moosavi-Dezfooli et al., 2016 (arXiv:1511.04599), algorithm 2 and section 3.3",
    cost=lambda p: (2 + p["steps"], 9 * p["steps"]),
    limits={"steps": (1, 100_000), "overshoot": (0, 1), "rivals": (1, 1_000)},
    compares_classes=True,
)
def deepfool(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    overshoot: float = 0.02,
    rivals: int = 10,
) -> None:
    """Step just across the nearest linearised boundary until the decision is wrong.

    An image stops at its first wrong decision, in the ball or not: only the distance decides
    whether it is broken. The overshoot lengthens every step in L-infinity and the whole
    perturbation in L2; published implementations do one or the other.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n]; recorded, not climbed.
        steps: at most so many; one forward pass each and one backward pass per rival class.
        overshoot: by which fraction a step goes beyond the boundary.
        rivals: classes looked at where there are more than 20 (by clean logits); else all.
    """
    classes = contenders(search, rivals)
    active = search.standing()
    ball = search.ball.take(active)
    candidate, moved = ball.images, torch.zeros_like(ball.images, dtype=torch.float64)
    for _ in range(steps):
        if len(active) == 0:
            return
        slopes = search.slopes(active, candidate, classes[active])
        going = slopes.kept & ~slopes.wrong
        active, ball = active[going], ball.take(going)
        step = _step(slopes.differences[going], slopes.gradients[going], ball)
        moved = moved[going] + step
        if ball.threat.norm == "l2":
            reached = ball.images + (1 + overshoot) * moved
        else:
            reached = candidate[going] + (1 + overshoot) * step
        candidate = reached.clamp(0.0, 1.0).to(ball.images.dtype)
    search.explore(active, candidate, loss, gradient=False)


def _step(differences: Tensor, gradients: Tensor, ball: Ball) -> Tensor:
    """The shortest step onto the nearest plane and `_BEYOND` across it; 0 without a gradient."""
    norm = ball.threat.norm
    difference, gradient = nearest_plane(differences, gradients, norm, _BEYOND)
    slope = dual_norm(gradient, norm)
    length = torch.where(slope > 0, (difference.abs() + _BEYOND) / slope, 0.0)
    direction = gradient.sign()
    if norm == "l2":
        direction = gradient / slope.clamp(min=1e-300)[:, None, None, None]
    return length[:, None, None, None] * direction
