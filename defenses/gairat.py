"""GAIRAT: adversarial training that weighs images by how long they withstand the attack."""

from dataclasses import replace

from harness.catalogue import Paper, defense
from harness.defense import Defense
from harness.maximisers.counting import CountingPgd
from harness.objectives.reweighted import Reweighted
from harness.recipe import RECIPES

RECIPES["GAIRAT"] = replace(
    RECIPES["F-main"], epochs=120, drops="60,90,110", factors="0.1,0.01,0.005", teacher=""
)


@defense(
    paper=Paper(
        "Geometry-aware Instance-reweighted Adversarial Training",
        "2010.01736",
        "Zhang et al.",
        2021,
    ),
    recipe="GAIRAT",
)
def gairat(
    *, concentration: float = 1.0, weighted_from: int = 60, weighted_epochs: int = 120
) -> Defense:
    """Cross-entropy under PGD, with more weight on images that fall early.

    The concentration is minus the paper's lambda. Weights begin at epoch 60 of 120. Known to be
    weak under attacks that do not depend on the logits' scale.

    Args:
        concentration: minus lambda of eq. 6; the higher, the more only the first to fall count
            (authors' code: 1).
        weighted_from: first epoch with weights, of `weighted_epochs` (authors' code).
        weighted_epochs: length of the authors' run; a shorter one starts at the same fraction.
    """
    return Defense(
        objective=Reweighted(
            shift=-concentration, first_epoch=weighted_from, run_length=weighted_epochs
        ),
        maximiser=CountingPgd(climbs="ce", start="uniform"),
    )
