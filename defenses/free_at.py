"""Free adversarial training: one gradient moves weights and images at once."""

from harness.catalogue import Paper, defense
from harness.defense import Defense
from harness.objectives.cross_entropy import CrossEntropy
from harness.steps.free_replay import FreeReplay


@defense(
    paper=Paper("Adversarial Training for Free!", "1904.12843", "Shafahi et al.", 2019),
    recipe="H-Free",
)
def free_at(*, replays: int = 8, free_step: float = 1.0) -> Defense:
    """Cross-entropy on batches that are replayed while their perturbation climbs.

    Defaults are those of CIFAR-10; on ImageNet the authors replay 4 times at epsilon 4/255. The
    perturbation climbs the loss of the update itself, a head's margin included.

    Args:
        replays: m, updates per batch, in [1, 1000] (algorithm 1).
        free_step: step of the perturbation as a fraction of epsilon (FastAT's code: 1).
    """
    return Defense(
        objective=CrossEntropy(on="adversarial"),
        policy=FreeReplay(replays=replays, relative_step=free_step),
    )
