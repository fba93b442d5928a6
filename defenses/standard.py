"""Standard training: the reference that every attack breaks."""

from harness.catalogue import Paper, defense
from harness.defense import Defense
from harness.objectives.cross_entropy import CrossEntropy


@defense(
    paper=Paper("Deep Residual Learning for Image Recognition", "1512.03385", "He et al.", 2016),
    recipe="F-teacher",
)
def standard() -> Defense:
    """Cross-entropy on clean images, no attack in training."""
    return Defense(objective=CrossEntropy(on="clean"))
