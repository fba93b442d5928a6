"""TRADES: trade clean accuracy against agreement under attack."""

from harness.defense import Defense, Paper, defense
from harness.maximisers.pgd import Pgd
from harness.objectives.trades import Trades
from harness.recipe import TRADES


@defense(
    paper=Paper(
        "Theoretically Principled Trade-off between Robustness and Accuracy",
        "1901.08573",
        "Zhang et al.",
        2019,
    ),
    recipe=TRADES,
)
def trades(*, beta: float = 6.0, inner: str = "kl") -> Defense:
    """Clean cross-entropy plus beta times the divergence between clean and adversarial output.

    ANCRA's TRADES rows climb the cross-entropy instead (`inner=ce`).
    """
    return Defense(objective=Trades(beta=beta), maximiser=Pgd(climbs=inner))
