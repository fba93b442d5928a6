"""FAB: the fast adaptive boundary attack, which looks for the nearest wrong decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.geometry import Ball, per_image_norm
from harness.attacks.hyperplanes import contenders, nearest_plane, way_to_plane
from harness.attacks.losses import AttackLoss
from harness.attacks.pooling import pooled
from harness.attacks.search import Search, Slopes

_SOURCE = "Croce and Hein, 2020 (arXiv:1907.02044), algorithm 1"
_LIMITS = {
    "steps": (1.0, 100_000.0),
    "restarts": (1.0, 1_000.0),
    "alpha_max": (0.0, 1.0),
    "overshoot": (1.0, 2.0),
    "pull_back": (0.0, 1.0),
}
_WRONG_CLASSES = 9
"""Of the ten-class problem that costs are stated for."""


def _cost(parameters: Mapping[str, Any]) -> tuple[int, int]:
    looks = parameters["restarts"] * parameters["steps"]
    return 1 + 2 * looks, _WRONG_CLASSES * looks


def _cost_targeted(parameters: Mapping[str, Any]) -> tuple[int, int]:
    runs = min(parameters["targets"], _WRONG_CLASSES) * parameters["restarts"]
    return 1 + 2 * runs * parameters["steps"], runs * parameters["steps"]


@attack(
    losses=("margin",),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE,
    cost=_cost,
    limits=_LIMITS | {"rivals": (1.0, 1_000.0)},
    compares_classes=True,
)
def fab(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: float = 0.1,
    overshoot: float = 1.05,
    pull_back: float = 0.9,
    rivals: int = 10,
) -> None:
    """Step to the nearest linearised decision boundary, biased towards the clean image.

    Candidates may leave the ball; only those inside it break an image. A point that is pulled
    back is judged too, which can only strengthen the attack.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n]; recorded, not climbed.
        steps: iterations; two forward passes each and one backward pass per rival class.
        restarts: runs; the first starts at the clean image, later ones around it.
        alpha_max: the largest share of the step that starts at the clean image.
        overshoot: eta, by how much a step goes beyond the boundary; 1 ends on it.
        pull_back: beta, the share of its way that a misclassified point keeps.
        rivals: classes looked at where there are more than 20 (by clean logits); else all.
    """
    classes = contenders(search, rivals)
    path = _Path(loss, False, steps, alpha_max, overshoot, pull_back)
    for restart in range(restarts):
        _approach(search, classes, path, restart if restart else None)


@attack(
    losses=("margin_targeted",),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE + "; targets: Croce and Hein, 2020 (arXiv:2003.01690), section 5",
    cost=_cost_targeted,
    limits=_LIMITS | {"targets": (1.0, 1_000.0)},
    compares_classes=True,
)
def fab_t(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    alpha_max: float = 0.1,
    overshoot: float = 1.05,
    pull_back: float = 0.9,
) -> None:
    """FAB towards the boundary to each of the best rivals in turn.

    Any wrong decision counts, not only the target class.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n]; recorded, not climbed.
        steps: iterations per target; two forward passes and one backward pass each.
        targets: how many rivals, ranked by the clean logits; at most classes - 1 are used.
        restarts: runs per target; the first starts at the clean image, later ones around it.
        alpha_max: the largest share of the step that starts at the clean image.
        overshoot: eta, by how much a step goes beyond the boundary; 1 ends on it.
        pull_back: beta, the share of its way that a misclassified point keeps.
    """
    everyone = torch.arange(len(search.labels), device=search.labels.device)
    ranked = search.rivals(everyone, targets)
    path = _Path(loss, True, steps, alpha_max, overshoot, pull_back)
    if restarts == 1:  # later ones start at a distance that earlier runs found
        for runs in pooled(search, ranked.shape[1]):
            _approach(runs.search, runs.towards(ranked)[:, None], path, None)
        return
    for number in range(ranked.shape[1]):
        for restart in range(restarts):
            stream = number * restarts + restart if restart else None
            _approach(search, ranked[:, number : number + 1], path, stream)


@dataclass(frozen=True)
class _Path:
    """How a run walks; the last four are those of the attacks."""

    loss: AttackLoss
    is_targeted: bool
    steps: int
    alpha_max: float
    overshoot: float
    pull_back: float


def _approach(search: Search, classes: Tensor, path: _Path, stream: int | None) -> None:
    """One run towards the nearest of `classes` [N, T]; `stream` draws its start, None is clean."""
    active = search.standing()
    candidate = search.ball.images[active]
    if stream is not None:
        candidate = _start(search, active, stream)
    for _ in range(path.steps):
        if len(active) == 0:
            return
        slopes = search.slopes(active, candidate, classes[active])
        if not slopes.kept.all():
            active, candidate = active[slopes.kept], candidate[slopes.kept]
            slopes = slopes.take(slopes.kept)
        ball = search.around(active)
        candidate = _step(candidate, ball, slopes, path)
        targets = classes[active, 0] if path.is_targeted else None
        look = search.explore(active, candidate, path.loss, targets, gradient=False)
        back = ball.images + path.pull_back * (candidate - ball.images)
        candidate = torch.where(look.wrong[:, None, None, None], back, candidate)
        if not look.kept.all():
            active, candidate = active[look.kept], candidate[look.kept]


def _start(search: Search, active: Tensor, stream: int) -> Tensor:
    """At half of epsilon, or of the smallest distance found so far, in a uniform direction.

    The direction is uniform in the cube for both norms; the reference's is Gaussian for L2.
    """
    ball = search.around(active)
    shape = ball.images.shape[1:]
    uniform = search.streams.uniform(active, shape, restart=stream, purpose="start")
    direction = uniform.to(ball.images.device) * 2 - 1
    radius = 0.5 * search.nearest[active].clamp(max=ball.epsilon)[:, None, None, None]
    unit = direction / _length(direction, ball).clamp(min=1e-12)
    return (ball.images + radius * unit).clamp(0.0, 1.0).to(ball.images.dtype)


def _step(candidate: Tensor, ball: Ball, slopes: Slopes, path: _Path) -> Tensor:
    """Steps 1 to 4 of `attacks.md` 4.2, in float64."""
    norm, clean, point = ball.threat.norm, ball.images.double(), candidate.double()
    difference, normal = nearest_plane(slopes.differences, slopes.gradients, norm)
    from_here = way_to_plane(point, normal, difference, norm)
    gap = difference + (normal * (clean - point)).sum((1, 2, 3))
    from_clean = way_to_plane(clean, normal, gap, norm)
    here, home = (_length(way, ball).clamp(min=1e-8) for way in (from_here, from_clean))
    share = (here / (here + home)).clamp(max=path.alpha_max)
    mixed = (point + path.overshoot * from_here) * (1 - share)
    mixed = mixed + (clean + path.overshoot * from_clean) * share
    return mixed.clamp(0.0, 1.0).to(candidate.dtype)


def _length(difference: Tensor, ball: Ball) -> Tensor:
    """[n, 1, 1, 1], in the norm of the threat model."""
    if ball.threat.norm == "l2":
        return per_image_norm(difference)
    return difference.abs().amax(dim=(1, 2, 3), keepdim=True)
