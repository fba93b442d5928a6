"""TRADES with FRPAT's flexible relation preserving."""

from harness.defense import Companion, Defense, Paper, defense
from harness.maximisers.pgd import Pgd
from harness.objectives.trades import Trades
from harness.recipe import FRPAT
from harness.regularisers.flexible_relations import FlexibleRelations


@defense(
    paper=Paper("Flexible Relation Preserving Adversarial Training"),
    recipe=FRPAT,
)
def trades_frpat(*, beta: float = 6.0, weight: float = 5.0, ramp: bool = False) -> Defense:
    """TRADES whose adversarial features keep the neighbourhoods of a clean teacher's.

    The weight is CIFAR-10's; on CIFAR-100 the paper uses 20 and `ramp=true`.
    """
    return Defense(
        objective=Trades(beta=beta),
        maximiser=Pgd(climbs="kl"),
        regularisers=(FlexibleRelations(weight=weight, ramp=ramp),),
        companion=Companion(),
    )
