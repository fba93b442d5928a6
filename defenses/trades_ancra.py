"""TRADES with ANCRA's reverse attention and asymmetric negative contrast."""

from harness.batch import PerHead
from harness.defense import Defense, Paper, defense
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.negatives import TargetedNegatives
from harness.maximisers.pgd import Pgd
from harness.objectives.trades import Trades
from harness.recipe import ANCRA
from harness.regularisers.negative_contrast import NegativeContrast


@defense(
    paper=Paper(
        "Enhancing Robust Representation in Adversarial Training: Alignment and Exclusion Criteria",
        "2310.03358",
        "Zhou et al.",
        2023,
    ),
    recipe=ANCRA,
)
def trades_ancra(
    *,
    beta: float = 6.0,
    zeta: float = 3.0,
    alpha: float = 1.0,
    auxiliary_weight: float = 2.0,
    hooked_blocks: int = 2,
) -> Defense:
    """Push classes apart (zeta) and reweight channels by class, on top of TRADES (beta).

    Defaults are those of the authors' CIFAR-10 script. The decision is the first auxiliary
    output's, so only the adaptive protocol measures this defense fairly. Without contrast
    (zeta 0) no negatives are made: that is TRADES-RA, at two thirds of the cost.
    """
    return Defense(
        objective=Trades(beta=beta),
        maximiser=Pgd(climbs="ce"),
        hook=ReverseAttention(blocks=hooked_blocks),
        combine=PerHead(auxiliary_weight=auxiliary_weight),
        regularisers=(NegativeContrast(weight=zeta, alpha=alpha),) if zeta else (),
        negatives=TargetedNegatives() if zeta else None,
    )
