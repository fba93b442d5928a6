"""NES: gradients from values alone, along Gaussian directions."""

from __future__ import annotations

from harness.attacks import finite_differences
from harness.attacks.attack import attack
from harness.attacks.finite_differences import Climb
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search


@attack(
    losses=("margin", "ce", "dlr"),
    norms=("linf", "l2"),
    knowledge="query",
    source="Ilyas et al., 2018 (arXiv:1804.08598), section 2; settings: Pang et al., 2020 "
    "(arXiv:2002.08619)",
    cost=finite_differences.cost,
    limits=finite_differences.LIMITS,
    choices={"optimiser": finite_differences.OPTIMISERS},
)
def nes(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 20,
    pairs: int = 128,
    sigma: float = 0.001,
    optimiser: str = "sign",
    relative_step: float = 0.25,
    learning_rate: float = 0.01,
) -> None:
    """Climb gradients estimated from symmetric differences along Gaussian directions.

    Each image has its own directions and its own differences. The clean image and every iterate
    are candidates, `steps` queries more than in the paper, and so are probes that lie in the ball;
    the other probes may leave the ball and the box by a few sigma.

    The strong tier is `optimiser=adam, sigma=0.01, pairs=1024, steps=100`.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: moves of the candidate.
        pairs: directions per step, two queries each.
        sigma: standard deviation of a probe's distance per pixel, on the [0, 1] pixel scale.
        optimiser: `sign` for steps of fixed length, or `adam`.
        relative_step: length of a fixed step as a fraction of epsilon (1/4 is 2/255 at 8/255).
        learning_rate: of Adam, on the [0, 1] pixel scale.
    """
    Climb(search.streams.normal, steps, pairs, sigma, optimiser, relative_step, learning_rate).run(
        search, loss
    )
