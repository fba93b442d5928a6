"""FGSM: one step of full length."""

from __future__ import annotations

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search


@attack(
    losses=("ce", "margin", "dlr"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source="Goodfellow et al., 2015 (arXiv:1412.6572), section 4",
    cost=lambda _: (2, 1),
)
def fgsm(search: Search, *, loss: AttackLoss) -> None:
    """One step of length epsilon along the gradient, from the clean image (not a random start).

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
    """
    active = search.standing()
    look = search.climb(active, search.ball.images[active], loss)
    active, gradient = active[look.kept], look.gradient[look.kept]
    ball = search.ball.take(active)
    candidate = ball.project(ball.images + ball.epsilon * ball.steepest(gradient))
    search.judge(active, candidate, loss)
