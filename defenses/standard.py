"""Standard training: the reference that every attack breaks."""

from harness.defense import Defense, Paper, defense
from harness.objectives.cross_entropy import CrossEntropy
from harness.recipe import STANDARD


@defense(
    paper=Paper("Deep Residual Learning for Image Recognition", "1512.03385", "He et al.", 2016),
    recipe=STANDARD,
)
def standard() -> Defense:
    """Cross-entropy on clean images, no attack in training."""
    return Defense(objective=CrossEntropy(on="clean"))
