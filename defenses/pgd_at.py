"""PGD adversarial training, also called Vanilla AT."""

from harness.catalogue import Paper, Variant, defense
from harness.defense import Defense
from harness.maximisers.pgd import Pgd
from harness.objectives.cross_entropy import CrossEntropy


@defense(
    paper=Paper(
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "1706.06083",
        "Madry et al.",
        2018,
    ),
    variants=(Variant(dataset="tiny_imagenet", recipe="A-TIN"),),
)
def pgd_at(*, start: str = "normal") -> Defense:
    """Cross-entropy on the images that PGD makes of the training images.

    Args:
        start: of the training attack: `normal` around the image with deviation 0.001 (ANCRA and HE,
            code), or `uniform` in the ball (AWP, code).
    """
    return Defense(
        objective=CrossEntropy(on="adversarial"), maximiser=Pgd(climbs="ce", start=start)
    )
