"""SPSA: gradients from values alone, along random sign vectors."""

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
    source="Uesato et al., 2018 (arXiv:1802.05666); settings: Pang et al., 2020 (arXiv:2002.08619)",
    cost=finite_differences.cost,
    limits=finite_differences.LIMITS,
    choices={"optimiser": finite_differences.OPTIMISERS},
)
def spsa(
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
    """Climb gradients estimated from symmetric differences along random sign vectors.

    As `nes` in everything but the directions, whose estimates vary less: by the squared slopes
    of the other pixels alone.

    The strong tier is `optimiser=adam, sigma=0.01, pairs=1024, steps=100`.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: moves of the candidate.
        pairs: directions per step, two queries each.
        sigma: distance of a probe in every pixel, on the [0, 1] pixel scale.
        optimiser: `sign` for steps of fixed length, or `adam`.
        relative_step: length of a fixed step as a fraction of epsilon (1/4 is 2/255 at 8/255).
        learning_rate: of Adam, on the [0, 1] pixel scale.
    """
    Climb(search.streams.signs, steps, pairs, sigma, optimiser, relative_step, learning_rate).run(
        search, loss
    )
