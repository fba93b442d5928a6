"""AWP: adversarial weight perturbation, as a defense and as an addition."""

from dataclasses import replace

from harness.catalogue import Paper, Variant, addition, by_name, defense
from harness.defense import Defense
from harness.errors import HarnessError
from harness.recipe import RECIPES
from harness.steps.weight_perturbation import WeightPerturbation

AWP = Paper(
    "Adversarial Weight Perturbation Helps Robust Generalization",
    "2004.05884",
    "Wu et al.",
    2020,
)

RECIPES["AWP"] = replace(
    RECIPES["A-WRN"], epochs=200, drops="100,150", weight_decay=5e-4, relative_step=0.25
)
RECIPES["AWP-AT"] = replace(
    RECIPES["AWP"],
    architecture="preactresnet18",
    drops="101,151",
    attack_bn="train",
    normalise=True,
)


@addition(paper=AWP)
@defense(
    paper=AWP,
    recipe="AWP",
    variants=(
        Variant(base="pgd_at", recipe="AWP-AT", settings={"awp_gamma": 0.01, "awp_first_epoch": 0}),
    ),
)
def awp(
    base: Defense | str = "trades", *, awp_gamma: float = 0.005, awp_first_epoch: int = 10
) -> Defense:
    """Take the gradient where the weights are worst, within a share of their norm (gamma).

    ANCRA's row does not name its base; its clean accuracy, below that of TRADES, suggests TRADES.
    With `base=pgd_at` the paper has gamma 0.01 from the first epoch on. A base given by name
    is trained as the authors train theirs: from a uniform start where it has the choice, PGD-AT
    with normalised images (recipe AWP-AT). The first epoch is counted in a run of 200; a shorter
    one starts at the same fraction. A second network is left alone.

    Args:
        base: name of the defense that it is put on, or the defense itself.
        awp_gamma: length of the move relative to each tensor's norm (AWP, section 3): 0.005 on
            TRADES, 0.01 on PGD-AT (authors' code).
        awp_first_epoch: first epoch with a perturbation, of 200; 10 on TRADES, 0 on PGD-AT
            (authors' code).
    """
    plain = by_name(base) if isinstance(base, str) else base
    if plain.perturbation is not None:
        raise HarnessError("this defense perturbs its weights already: choose a base without awp.")
    if getattr(plain.head, "projects", False):
        raise HarnessError(
            "awp moves weights by a share of their norm, and this head puts its own back to norm "
            "1 in every pass, which undoes the move: choose weight_norm=divide."
        )
    moved = WeightPerturbation(gamma=awp_gamma, first_epoch=awp_first_epoch)
    return replace(plain, perturbation=moved)
