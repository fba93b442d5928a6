"""PGD: projected gradient ascent with a fixed step."""

from __future__ import annotations

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search


@attack(
    losses=("ce", "margin", "dlr"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source="Madry et al., 2018 (arXiv:1706.06083), section 2.1",
    cost=lambda p: (1 + p["restarts"] * (p["steps"] + 1), p["restarts"] * p["steps"]),
    limits={"steps": (1, 100_000), "restarts": (1, 1_000), "relative_step": (1e-6, 2)},
)
def pgd(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 40,
    relative_step: float = 0.25,
    restarts: int = 1,
    random_start: bool = True,
) -> None:
    """Climb the loss with steps of fixed length, from a random point of the ball.

    The clean image and every iterate are candidates and a broken image leaves at once; both are
    our changes, and both can only strengthen the attack.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: gradient steps; one forward and one backward pass each, and one last look.
        relative_step: step size as a fraction of epsilon (1/4 is 2/255 at 8/255).
        restarts: independent random starts; only images still standing are attacked again.
        random_start: whether to start at a uniform point of the ball or at the clean image.
    """
    search.judge_clean(loss)
    for restart in range(restarts):
        active = search.standing()
        ball = search.ball.take(active)
        candidate = ball.images
        if random_start:
            shape = candidate.shape[1:]
            uniform = search.streams.uniform(active, shape, restart=restart, purpose="start")
            candidate = ball.random_start(uniform.to(candidate.device))
        for _ in range(steps):
            look = search.climb(active, candidate, loss)
            active, candidate = active[look.kept], candidate[look.kept]
            if len(active) == 0:
                break
            ball = ball.take(look.kept)
            step = relative_step * ball.epsilon * ball.steepest(look.gradient[look.kept])
            candidate = ball.project(candidate + step)
        search.judge(active, candidate, loss)
