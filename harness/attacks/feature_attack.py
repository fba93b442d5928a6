"""Feature attack: steer an image's penultimate vector towards those of other classes' images."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Guides, Search
from harness.attacks.surfaces import Features, Repeated, Surface
from harness.errors import HarnessError

RIVALS = 3
"""Half of the guides come from so many best wrong classes; published code draws from all alike."""


@attack(
    losses=("cosine",),
    norms=("linf", "l2"),
    knowledge="white_box",
    source="Line290/FeatureAttack; Pang et al., 2020 (arXiv:2002.08619), table 2",
    cost=lambda p: (2 + p["guides"] * (p["steps"] + 2), p["guides"] * p["steps"]),
    surface="features",
    needs_guides=True,
    limits={"steps": (1, 10_000), "guides": (1, 1_000), "relative_step": (1e-6, 2)},
)
def feature_attack(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 20,
    guides: int = 100,
    relative_step: float = 0.125,
) -> None:
    """Bring the features close in angle to those of one guide image after another.

    `attacks.md` section 6. Guides are training images (labels of other test images are no part of
    the threat model), half of them from the three best wrong classes by the clean logits; every
    guide has a random start of its own. On a surface of logits the logits are matched instead.
    The clean image is the first candidate; published code starts without it.

    Args:
        search: what to attack; its `guides` are the images to draw from.
        loss: cosine similarity, (vector, labels, vectors to match) -> [n].
        steps: gradient steps per guide.
        guides: how many guides each image is steered to.
        relative_step: step size as a fraction of epsilon (1/8 is 1/255 at 8/255).

    Raises:
        HarnessError: there are no training images, or none of another class.
    """
    if search.guides is None:
        raise HarnessError("feature_attack needs training images to draw its guides from.")
    chosen = _choose(search, search.guides, search.standing(), guides)
    for number in range(guides):
        active = search.standing()
        if len(active) == 0:
            return
        vectors = _vectors(search, search.guides.images[chosen[active.cpu(), number]], active)
        if number == 0:
            look = search.judge(active, search.ball.images[active], loss, vectors)
            active, vectors = active[look.kept], vectors[look.kept]
        _steer(search, loss, vectors, active, number, steps, relative_step)


def _steer(
    search: Search,
    loss: AttackLoss,
    vectors: Tensor,
    active: Tensor,
    number: int,
    steps: int,
    relative_step: float,
) -> None:
    ball = search.ball.take(active)
    candidate = search.random_start(active, restart=number)
    for _ in range(steps):
        if len(active) == 0:
            return
        look = search.climb(active, candidate, loss, vectors)
        active, candidate, vectors = active[look.kept], candidate[look.kept], vectors[look.kept]
        ball = ball.take(look.kept)
        step = relative_step * ball.epsilon * ball.steepest(look.gradient[look.kept])
        candidate = ball.project(candidate + step)
    search.judge(active, candidate, loss, vectors)


def _vectors(search: Search, guides: Tensor, active: Tensor) -> Tensor:
    """[n, R], what the surface sees of each image's guide [n, C, H, W]; a mean if it draws."""
    surface, draws = search.surface, 1
    if isinstance(surface, Repeated):
        draws, surface = surface.draws, surface.surface
    images = guides.to(search.labels.device)
    search.forwards[active] += draws
    with torch.no_grad():
        return torch.stack([_view(surface, images) for _ in range(draws)]).mean(0)


def _view(surface: Surface, images: Tensor) -> Tensor:
    """[n, R], the vector that the surface's loss is given for these images."""
    if isinstance(surface, Features):
        return surface.view(surface.model(images))
    return surface.rank(images)


def _choose(search: Search, guides: Guides, active: Tensor, count: int) -> Tensor:
    """[N, count] int64 positions among the guides; rows of images not attacked are 0."""
    rivals = search.rivals(active, RIVALS).cpu()
    chosen = torch.zeros(len(search.labels), count, dtype=torch.int64)
    near = -(-count // 2)
    draws = search.streams.uniform(active, (2, count), restart=0, purpose="guides")
    for row, position in enumerate(active.tolist()):
        label = int(search.labels[position])
        others = (guides.labels != label).nonzero()[:, 0]
        if len(others) == 0:
            raise HarnessError("feature_attack found no training image of another class.")
        close = others[torch.isin(guides.labels[others], rivals[row])]
        pools = [close if len(close) else others, others]
        picked = [
            pool[(draw * len(pool)).long().clamp(max=len(pool) - 1)]
            for pool, draw in zip(pools, draws[row], strict=True)
        ]
        chosen[position] = torch.cat([picked[0][:near], picked[1][near:]])
    return chosen
