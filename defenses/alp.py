"""ALP: adversarial logit pairing."""

from harness.catalogue import Paper, defense
from harness.defense import Defense
from harness.maximisers.pgd import Pgd
from harness.objectives.alp import Alp


@defense(
    paper=Paper("Adversarial Logit Pairing", "1803.06373", "Kannan et al.", 2018),
    recipe="H-C10",
)
def alp(
    *,
    clean_share: float = 0.5,
    pairing_weight: float = 0.5,
    distance: str = "mean_square",
) -> Defense:
    """Cross-entropy on clean and adversarial images, whose logits are pulled together.

    Weights, recipe and input normalisation are those of the hypersphere-embedding paper, which
    trained the rows that are quoted; `distance=l2` is the pairing of its text.

    Args:
        clean_share: the clean images' share of the cross-entropy, in [0, 1] (HE, table 1).
        pairing_weight: of the distance between clean and adversarial logits (HE, table 1).
        distance: `mean_square` over the classes (HE, code) or `l2`, the Euclidean norm per image
            (HE, text).
    """
    return Defense(
        objective=Alp(clean_share=clean_share, pairing_weight=pairing_weight, distance=distance),
        maximiser=Pgd(climbs="ce"),
    )
