"""FGSM: one step, of full length from the clean image or after a random start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.pgd import ascend, clean_start, uniform_start
from harness.attacks.search import Search


def _cost(parameters: Mapping[str, Any]) -> tuple[int, int]:
    return (3 if parameters["random_start"] else 2), 1


@attack(
    losses=("ce", "margin", "dlr"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source="Goodfellow et al., 2015 (arXiv:1412.6572), section 4; random start: "
    "Tramer et al., 2018 (arXiv:1705.07204), section 4.1",
    cost=_cost,
    limits={"relative_step": (1e-6, 2)},
)
def fgsm(
    search: Search, *, loss: AttackLoss, random_start: bool = False, relative_step: float = 1.0
) -> None:
    """One step along the gradient, of length epsilon, from the clean image.

    With `random_start` it is R+FGSM with a uniform start and the step then projected, as ANCRA's
    script does; the two are never the same number.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        random_start: whether to start at a uniform point of the ball.
        relative_step: length of the step as a fraction of epsilon.
    """
    if random_start:
        search.judge_clean(loss)
        start = uniform_start(search, restart=0)
    else:
        start = clean_start(search)  # the look that differentiates it judges it as well
    ascend(search, loss, start, 1, relative_step)
