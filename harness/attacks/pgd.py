"""PGD: projected gradient ascent with a fixed step, untargeted or towards each best rival."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.pooling import pooled
from harness.attacks.search import Search
from harness.attacks.streams import Restart

_SOURCE = "Madry et al., 2018 (arXiv:1706.06083), section 2.1"
LIMITS = {
    "steps": (1.0, 100_000.0),
    "restarts": (1.0, 1_000.0),
    "relative_step": (1e-6, 2.0),
    "targets": (1.0, 1_000.0),
}
"""What attacks of a fixed step allow."""


@attack(
    losses=("ce", "margin", "dlr"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE,
    cost=lambda p: (1 + p["restarts"] * (p["steps"] + 1), p["restarts"] * p["steps"]),
    limits=LIMITS,
    tolerates_bfloat16=True,
)
def pgd(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 40,
    relative_step: float = 0.25,
    restarts: int = 1,
    random_start: bool = True,
) -> None:
    """Climb the loss with steps of fixed length, from a random point of the ball.

    The clean image and every iterate are candidates and a broken image leaves at once; both are
    our changes, and both can only strengthen the attack.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: gradient steps; one forward and one backward pass each, and one last look.
        relative_step: step size as a fraction of epsilon (1/4 is 2/255 at 8/255).
        restarts: independent random starts; only images still standing are attacked again.
        random_start: whether to start at a uniform point of the ball or at the clean image.
    """
    search.judge_clean(loss)
    for runs in pooled(search, restarts):
        rows = runs.search
        start = uniform_start(rows, runs.numbers) if random_start else clean_start(rows)
        ascend(rows, loss, start, steps, relative_step)


@attack(
    losses=("margin_targeted", "ce_targeted", "dlr_targeted"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE + "; targets: Croce and Hein, 2020 (arXiv:2003.01690), section 4.2",
    cost=lambda p: (
        2 + min(p["targets"], 9) * p["restarts"] * (p["steps"] + 1),
        min(p["targets"], 9) * p["restarts"] * p["steps"],
    ),
    limits=LIMITS,
    tolerates_bfloat16=True,
)
def pgd_t(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 40,
    relative_step: float = 0.25,
    targets: int = 9,
    restarts: int = 1,
) -> None:
    """PGD towards each of the best rivals in turn, from random points of the ball.

    An image is broken whenever it is misclassified, not only as the target.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: gradient steps per target and restart.
        relative_step: step size as a fraction of epsilon.
        targets: how many rivals, ranked by the clean logits; at most classes - 1 are used.
        restarts: independent random starts per target.
    """
    everyone = torch.arange(len(search.labels), device=search.labels.device)
    rivals = search.rivals(everyone, targets)
    search.judge_clean(loss, rivals[:, 0])
    for runs in pooled(search, rivals.shape[1] * restarts):
        start = uniform_start(runs.search, runs.numbers)
        ascend(runs.search, loss, start, steps, relative_step, runs.towards(rivals, restarts))


def uniform_start(search: Search, restart: Restart) -> Tensor:
    """[n, C, H, W], a random point of the ball of every image still standing."""
    return search.random_start(search.standing(), restart=restart)


def clean_start(search: Search) -> Tensor:
    """[n, C, H, W], the clean images still standing."""
    return search.ball.images[search.standing()]


def ascend(
    search: Search,
    loss: AttackLoss,
    candidate: Tensor,
    steps: int,
    relative_step: float,
    targets: Tensor | None = None,
) -> None:
    """Climb from given points.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        candidate: [n, C, H, W], one per image still standing.
        steps: gradient steps, and one last look.
        relative_step: step size as a fraction of epsilon.
        targets: [N], of the whole batch, for a targeted loss.
    """
    active = search.standing()
    ball = search.around(active)
    for _ in range(steps):
        if len(active) == 0:
            return
        look = search.climb(active, candidate, loss, None if targets is None else targets[active])
        gradient = look.gradient
        if not look.kept.all():
            active, candidate, gradient = (one[look.kept] for one in (active, candidate, gradient))
            ball = search.around(active)
        candidate = ball.project(candidate + relative_step * ball.epsilon * ball.steepest(gradient))
    search.judge(active, candidate, loss, None if targets is None else targets[active])
