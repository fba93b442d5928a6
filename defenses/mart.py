"""MART: misclassified images weigh more."""

from dataclasses import replace

from harness.catalogue import Paper, Variant, defense
from harness.defense import Defense
from harness.maximisers.pgd import Pgd
from harness.objectives.mart import Mart
from harness.recipe import RECIPES

RECIPES["MART-R18"] = replace(
    RECIPES["A-R18"], weight_decay=3.5e-3, epsilon="0.031", relative_step=0.007 / 0.031
)
RECIPES["MART-WRN"] = replace(
    RECIPES["MART-R18"],
    architecture="wrn_34_10",
    epochs=90,
    learning_rate=0.1,
    drops="75,90",
    weight_decay=7e-4,
)


@defense(
    paper=Paper(
        "Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
        "",
        "Wang et al.",
        2020,
    ),
    variants=(
        Variant(dataset="tiny_imagenet", recipe="A-TIN"),
        Variant(architecture="wrn_34_10", recipe="MART-WRN", settings={"beta": 6.0}),
    ),
)
def mart(*, beta: float = 5.0) -> Defense:
    """Boosted cross-entropy under attack, and agreement where the clean image is doubtful.

    The default recipe is that of ANCRA's tables (A-R18, beta 5). `--recipe MART-R18` is the
    authors' own ResNet-18 script; a WRN-34-10 takes their WRN script with beta 6.

    Args:
        beta: weight of the agreement (MART, eq. 11): 5 in the authors' ResNet-18 script and in
            ANCRA, 6 in their WRN script.
    """
    return Defense(objective=Mart(beta=beta), maximiser=Pgd(climbs="ce"))
