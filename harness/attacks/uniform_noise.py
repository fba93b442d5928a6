"""Random noise: the attack that any other must beat."""

from __future__ import annotations

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search


@attack(
    losses=("margin",),
    norms=("linf", "l2"),
    knowledge="none",
    source="our own sanity check; no paper",
    cost=lambda p: (1 + p["draws"] + p["vertices"], 0),
    limits={"draws": (0, 100_000), "vertices": (0, 100_000)},
)
def uniform_noise(
    search: Search, *, loss: AttackLoss, draws: int = 100, vertices: int = 100
) -> None:
    """Try the clean image, random points of the ball, and random points of its outermost part.

    Outermost are the vertices of the L-infinity cube and the whole sphere of the L2 ball. The box
    cuts both kinds of point.

    Args:
        search: what to attack.
        loss: recorded, never followed.
        draws: points uniform in the ball.
        vertices: points uniform on the vertices or the sphere.
    """
    search.judge_clean(loss)
    for draw in range(draws + vertices):
        active = search.standing()
        ball, streams = search.ball.take(active), search.streams
        shape, device = ball.images.shape[1:], ball.images.device
        normal = streams.normal(active, shape, restart=draw, purpose="directions").to(device)
        if draw < draws:
            uniform = streams.uniform(active, shape, restart=draw, purpose="points").to(device)
            candidate = ball.uniform_point(uniform, normal)
        else:
            candidate = ball.project(ball.images + ball.epsilon * ball.steepest(normal))
        search.judge(active, candidate, loss)
