"""Square: random search by queries alone, blind to masked gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@attack(
    losses=("margin",),
    norms=("linf",),
    knowledge="query",
    source="Andriushchenko et al., 2020 (arXiv:1912.00049), algorithms 1 and 2",
    cost=lambda p: (p["restarts"] * p["queries"], 0),
    limits={"queries": (1, 100_000), "p_init": (1e-3, 1), "restarts": (1, 1_000)},
)
def square(
    search: Search,
    *,
    loss: AttackLoss,
    queries: int = 5000,
    p_init: float = 0.8,
    restarts: int = 1,
) -> None:
    """Recolour random square windows to +-epsilon and keep what lowers the margin.

    Differences from AutoAttack's code: every image draws its own colours, so that its result
    does not depend on its batch mates; the window may touch the last row and column; a positive
    value is no reason to accept, since on other surfaces it does not mean misclassified.

    Args:
        search: what to attack.
        loss: the margin, (logits, labels, targets) -> [n].
        queries: forward passes per image and restart.
        p_init: share of the image that the first windows cover.
        restarts: independent runs on the images still standing.
    """
    for restart in range(restarts):
        _run(search, loss, queries, p_init, restart)


def _run(search: Search, loss: AttackLoss, queries: int, p_init: float, restart: int) -> None:
    active = search.standing()
    if len(active) == 0:
        return
    _, channels, height, width = search.ball.images.shape
    device = search.labels.device
    colours = search.streams.signs(
        active, (queries, channels), restart=restart, purpose="colours"
    ).to(device)
    stripes = search.streams.signs(
        active, (channels, 1, width), restart=restart, purpose="stripes"
    ).to(device)
    corners = torch.rand(
        queries, 2, generator=search.streams.shared(restart=restart, purpose="windows")
    )
    ball = search.ball.take(active)
    best = ball.project(ball.images + ball.epsilon * stripes)
    look = search.judge(active, best, loss)
    value = look.value
    kept = look.kept
    for query in range(queries - 1):
        if not kept.all():
            active, best, value = active[kept], best[kept], value[kept]
            ball, colours = ball.take(kept), colours[kept]
        if len(active) == 0:
            return
        side = window_side(query, p_init, height, width)
        top, left = (
            int(corners[query, axis] * (size - side + 1))
            for axis, size in enumerate((height, width))
        )
        candidate = _recolour(best, ball, colours[:, query], top, left, side)
        look = search.judge(active, candidate, loss)
        accepted = look.value > value
        best = torch.where(accepted[:, None, None, None], candidate, best)
        value = torch.where(accepted, look.value, value)
        kept = look.kept


def window_side(query: int, p_init: float, height: int, width: int) -> int:
    """Side of the window at a 0-based query; the schedule is not rescaled (`attacks.md` 13.5)."""
    halvings = sum(query > bound for bound in _HALVINGS)
    side = round(math.sqrt(p_init / 2**halvings * height * width))
    return min(max(side, 1), height, width)


def _recolour(best: Tensor, ball: Ball, colours: Tensor, top: int, left: int, side: int) -> Tensor:
    candidate = best.clone()
    window = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
    candidate[window] += 2 * ball.epsilon * colours[:, :, None, None]
    return ball.project(candidate)
