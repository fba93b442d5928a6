"""PGD on Carlini and Wagner's margin, as robustness papers report it for L-infinity."""

from __future__ import annotations

from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.pgd import LIMITS, ascend, uniform_start
from harness.attacks.pooling import pooled
from harness.attacks.search import Search

_UNREACHED = 1e30
"""A confidence that no logits reach: the margin is climbed as it is."""


@attack(
    losses=("margin",),
    norms=("linf",),
    knowledge="white_box",
    source="Carlini and Wagner, 2017 (arXiv:1608.04644), section V-A (f6), by the steps of "
    "Madry et al., 2018 (arXiv:1706.06083)",
    cost=lambda p: (1 + p["restarts"] * (p["steps"] + 1), p["restarts"] * p["steps"]),
    limits={
        **{key: LIMITS[key] for key in ("steps", "relative_step", "restarts")},
        "confidence": (0, _UNREACHED),
    },
)
def cw_linf(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    relative_step: float = 0.25,
    restarts: int = 1,
    confidence: float = _UNREACHED,
) -> None:
    """PGD on the margin between best rival and true logit, up to a confidence.

    Args:
        search: what to attack.
        loss: the margin, (logits, labels, targets) -> [n].
        steps: gradient steps per restart.
        relative_step: step size as a fraction of epsilon.
        restarts: independent random starts.
        confidence: margin (kappa) at which the climb ends; the default is never reached, so that
            the final margin is as large as the steps make it. Papers use 0.
    """

    def rectified(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
        return loss(logits, labels, targets).clamp(max=confidence)

    search.judge_clean(rectified)
    for runs in pooled(search, restarts):
        start = uniform_start(runs.search, runs.numbers)
        ascend(runs.search, rectified, start, steps, relative_step)
