"""TRADES with hypersphere embedding."""

from harness.defense import Defense, Paper, defense
from harness.heads.hypersphere import Hypersphere
from harness.maximisers.pgd import Pgd
from harness.objectives.trades import Trades
from harness.recipe import HYPERSPHERE


@defense(
    paper=Paper(
        "Boosting Adversarial Training with Hypersphere Embedding",
        "2002.08619",
        "Pang et al.",
        2020,
    ),
    recipe=HYPERSPHERE,
)
def trades_he(
    *, beta: float = 6.0, scale: float = 15.0, margin: float = 0.2, normalised: bool = True
) -> Defense:
    """TRADES on cosine logits: unit features, unit class weights, a margin on the true class.

    Deployed logits are bare cosines, on which cross-entropy attacks are weak; the adaptive
    protocol attacks them at the scale of training.
    """
    return Defense(
        objective=Trades(beta=beta),
        maximiser=Pgd(climbs="kl"),
        head=Hypersphere(scale=scale, margin=margin),
        normalised=normalised,
    )
