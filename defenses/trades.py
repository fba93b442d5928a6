"""TRADES: trade clean accuracy against agreement under attack."""

from dataclasses import replace

from harness.catalogue import Paper, Variant, defense
from harness.defense import Defense
from harness.maximisers.pgd import Pgd
from harness.objectives.trades import Trades
from harness.recipe import RECIPES

RECIPES["TRADES"] = replace(RECIPES["F-main"], epochs=76, drops="75", teacher="")


@defense(
    paper=Paper(
        "Theoretically Principled Trade-off between Robustness and Accuracy",
        "1901.08573",
        "Zhang et al.",
        2019,
    ),
    recipe="TRADES",
    variants=(Variant(dataset="tiny_imagenet", recipe="A-TIN", settings={"inner": "ce"}),),
)
def trades(*, beta: float = 6.0, inner: str = "kl", detach_clean: bool = False) -> Defense:
    """Clean cross-entropy plus beta times the divergence between clean and adversarial output.

    ANCRA's TRADES rows climb the cross-entropy instead (`inner=ce`).

    Args:
        beta: weight of the agreement (TRADES, eq. 5: 1/lambda).
        inner: what the training attack climbs: `kl` against the clean prediction, or `ce` against
            the label as in ANCRA's code.
        detach_clean: whether to cut the gradient of the agreement's clean side; the authors' code
            keeps it.
    """
    return Defense(
        objective=Trades(beta=beta, detach_clean=detach_clean), maximiser=Pgd(climbs=inner)
    )
