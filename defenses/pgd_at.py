"""PGD adversarial training, also called Vanilla AT."""

from harness.defense import Defense, Paper, defense
from harness.maximisers.pgd import Pgd
from harness.objectives.cross_entropy import CrossEntropy


@defense(
    paper=Paper(
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "1706.06083",
        "Madry et al.",
        2018,
    )
)
def pgd_at() -> Defense:
    """Cross-entropy on the images that PGD makes of the training images."""
    return Defense(objective=CrossEntropy(on="adversarial"), maximiser=Pgd(climbs="ce"))
