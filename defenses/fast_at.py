"""Fast adversarial training: a single step from a random point."""

from dataclasses import replace

from harness.catalogue import Paper, defense
from harness.defense import Defense
from harness.maximisers.fast import RandomFgsm
from harness.objectives.cross_entropy import CrossEntropy
from harness.recipe import RECIPES

RECIPES["FastAT"] = replace(RECIPES["H-Fast"], epochs=15)


@defense(
    paper=Paper(
        "Fast is better than free: Revisiting adversarial training",
        "2001.03994",
        "Wong et al.",
        2020,
    ),
    recipe="FastAT",
)
def fast_at(*, fast_step: float = 1.25, inner_margin: bool = False) -> Defense:
    """Cross-entropy on the images that one signed step from a random point makes.

    The step is a fraction of epsilon. Hypersphere embedding's published run has 30 epochs
    (recipe H-Fast) and leaves the margin out of the attack, unless `inner_margin=true`. Robustness
    can collapse within an epoch, which the training probe shows.

    Args:
        fast_step: length of the one step as a fraction of epsilon (FastAT: 10/255 at 8/255).
        inner_margin: whether the attack sees a head's margin, as the update does; HE's table 1
            leaves it out.
    """
    return Defense(
        objective=CrossEntropy(on="adversarial"),
        maximiser=RandomFgsm(relative_step=fast_step, margin=inner_margin),
    )
