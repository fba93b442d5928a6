"""SAT: self-adaptive training, in its robust variant."""

from dataclasses import replace

from harness.catalogue import Paper, Variant, defense
from harness.defense import Defense
from harness.maximisers.pgd import Pgd
from harness.objectives.self_adaptive import SelfAdaptive
from harness.recipe import RECIPES

RECIPES["SAT"] = replace(RECIPES["F-main"], drops="75,90,100", teacher="")


@defense(
    paper=Paper(
        "Self-Adaptive Training: beyond Empirical Risk Minimization",
        "2002.10319",
        "Huang et al.",
        2020,
    ),
    variants=(Variant(architecture="wrn_34_10", recipe="SAT"),),
)
def sat(
    *, beta: float = 6.0, target_momentum: float = 0.9, target_first_epoch: int = 70
) -> Defense:
    """TRADES whose labels move, from epoch 70 on, towards what the network believes.

    The default recipe is that of ANCRA's table (A-R18); a WRN-34-10 takes the authors' own (SAT).

    Args:
        beta: weight of the agreement, as in TRADES.
        target_momentum: what a soft target keeps of itself at each step, in [0, 1] (algorithm 1).
        target_first_epoch: first epoch, of 100, in which targets move; a shorter run starts at the
            same fraction (SAT, code: 70).
    """
    return Defense(
        objective=SelfAdaptive(
            beta=beta, target_momentum=target_momentum, first_epoch=target_first_epoch
        ),
        maximiser=Pgd(climbs="kl"),
    )
