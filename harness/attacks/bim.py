"""BIM: PGD that starts at the clean image."""

from __future__ import annotations

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.pgd import LIMITS, ascend, clean_start
from harness.attacks.search import Search


@attack(
    losses=("ce", "margin", "dlr"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source="Kurakin et al., 2017 (arXiv:1607.02533), section 2.2",
    cost=lambda p: (p["steps"] + 2, p["steps"]),
    limits={key: LIMITS[key] for key in ("steps", "relative_step")},
)
def bim(search: Search, *, loss: AttackLoss, steps: int = 20, relative_step: float = 0.25) -> None:
    """PGD from the clean image, without chance; published numbers carry this name.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: gradient steps.
        relative_step: step size as a fraction of epsilon.
    """
    search.judge_clean(loss)
    ascend(search, loss, clean_start(search), steps, relative_step)
