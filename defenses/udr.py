"""UDR: the training attack in a soft ball, as a defense and as an addition."""

from dataclasses import replace

from harness.catalogue import Paper, addition, by_name, defense
from harness.defense import Defense
from harness.errors import HarnessError
from harness.maximisers.pgd import Pgd
from harness.maximisers.soft_ball import SoftBallPgd
from harness.recipe import RECIPES

RECIPES["UDR"] = replace(
    RECIPES["A-R18"],
    epochs=200,
    learning_rate=0.1,
    drops="101,151",
    weight_decay=5e-4,
    relative_step=0.25,
    attack_bn="train",
    normalise=True,
)
UDR = Paper(
    "A Unified Wasserstein Distributional Robustness Framework for Adversarial Training",
    "2202.13437",
    "Bui et al.",
    2022,
)


@addition(paper=UDR)
@defense(paper=UDR, recipe="UDR")
def udr(
    base: Defense | str = "pgd_at", *, lambda_rate: float = 0.02, lambda_period: int = 10
) -> Defense:
    """A base whose PGD may leave the ball while it trains, by an amount that is learned.

    A base given by name is trained as the authors train theirs: from a uniform start where it
    has the choice, with normalised images (recipe UDR).

    Args:
        base: name of the defense whose attack is softened, or the defense itself.
        lambda_rate: how fast lambda follows the mean perturbation (UDR, eq. 19).
        lambda_period: batches between two updates of lambda (authors' code: 10).
    """
    plain = by_name(base) if isinstance(base, str) else base
    attack = plain.maximiser
    if type(attack) is not Pgd:
        raise HarnessError(
            "udr softens the ball of plain PGD, and the training attack here is "
            f"{plain.composition().get('maximiser', 'none')}. Choose pgd_at, trades or mart as "
            "the base."
        )
    soft = SoftBallPgd(
        climbs=attack.climbs,
        start=attack.start,
        noise=attack.noise,
        lambda_rate=lambda_rate,
        lambda_period=lambda_period,
    )
    return replace(plain, maximiser=soft)
