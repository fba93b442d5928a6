"""MIM: steps of fixed length along an average of all gradients so far."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.pgd import LIMITS, clean_start
from harness.attacks.search import Search


@attack(
    losses=("ce", "margin", "dlr"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source="Dong et al., 2018 (arXiv:1710.06081), algorithm 1",
    cost=lambda p: (p["steps"] + 2, p["steps"]),
    limits={
        "steps": LIMITS["steps"],
        "relative_step": LIMITS["relative_step"],
        "momentum": (0, 10),
    },
)
def mim(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 20,
    relative_step: float = 0.25,
    momentum: float = 1.0,
) -> None:
    """PGD from the clean image along a running sum of L1-normalised gradients.

    For L2 each step goes along the sum divided by its own L2 norm.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: gradient steps.
        relative_step: step size as a fraction of epsilon.
        momentum: weight (mu) of the sum before each new gradient; 0 is BIM.
    """
    search.judge_clean(loss)
    active = search.standing()
    candidate, ball = clean_start(search), search.ball.take(active)
    direction = torch.zeros_like(candidate)
    for _ in range(steps):
        if len(active) == 0:
            return
        look = search.climb(active, candidate, loss)
        kept = look.kept
        active, candidate, ball = active[kept], candidate[kept], ball.take(kept)
        direction = accumulated(direction[kept], look.gradient[kept], momentum)
        step = relative_step * ball.epsilon * ball.steepest(direction)
        candidate = ball.project(candidate + step)
    search.judge(active, candidate, loss)


def accumulated(direction: Tensor, gradient: Tensor, momentum: float) -> Tensor:
    """`momentum * direction + gradient / ||gradient||_1` per image; a zero gradient adds zero.

    The sum runs in float64: nothing overflows, and gradients of 1e-40 keep their direction.
    """
    length = gradient.abs().sum(dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
    share = torch.where(length > 0, gradient / length, 0.0)
    return momentum * direction + share.to(gradient.dtype)
