"""ZOO: one pixel's slope at a time, by queries alone."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.finite_differences import Adam
from harness.attacks.losses import AttackLoss
from harness.attacks.search import Search


@attack(
    losses=("margin",),
    norms=("linf", "l2"),
    knowledge="query",
    source="Chen et al., 2017 (arXiv:1708.03999), algorithms 1 and 2",
    cost=lambda p: (2 + 2 * ((p["queries"] - 2) // 2), 0),
    limits={"queries": (4, 1_000_000), "sigma": (1e-6, 1), "learning_rate": (1e-6, 1)},
)
def zoo(
    search: Search,
    *,
    loss: AttackLoss,
    queries: int = 20_000,
    sigma: float = 1e-4,
    learning_rate: float = 0.01,
) -> None:
    """Estimate the slope of one random pixel from two queries, follow it by Adam, and repeat.

    Differences from the paper: the threat model bounds the distance, so the penalty on it is
    dropped for a projection, and with it the weight of the margin, which Adam would divide out.
    The margin is not cut off at zero, since on some surfaces a positive value still decides right.
    Probes that lie in the ball are candidates, which saves a query per iterate.

    Models compute in float32, where differences over so short a distance often cancel:
    `search.notes["zero_differences"]` is the fraction of them that were exactly zero.

    Args:
        search: what to attack.
        loss: the margin, (logits, labels, targets) -> [n].
        queries: forward passes per image, at most: the clean image, two per update, the last.
        sigma: distance of a probe, on the [0, 1] pixel scale.
        learning_rate: of Adam, on the [0, 1] pixel scale.
    """
    search.judge_clean(loss)
    updates = (queries - 2) // 2
    active = search.standing()
    ball = search.ball.take(active)
    candidate, adam = ball.images, Adam.start(ball.images.flatten(1))
    pixels = _pixels(search, active, updates).to(candidate.device)
    zeros, seen = torch.zeros_like(search.looks), torch.zeros_like(search.looks)
    for update in range(updates):
        if len(active) == 0:
            break
        pixel = pixels[:, update, None]
        values, kept = search.probe(active, _probes(candidate, pixel, sigma), loss)
        difference = values[:, :1] - values[:, 1:]
        zeros[active] += difference[:, 0] == 0
        seen[active] += 1
        candidate, adam = _moved(candidate, adam, pixel, difference / (2 * sigma), learning_rate)
        candidate = ball.project(candidate)
        if not kept.all():
            active, candidate, pixels = active[kept], candidate[kept], pixels[kept]
            ball, adam = ball.take(kept), adam.take(kept)
    search.judge(active, candidate, loss)
    search.notes["zero_differences"] = zeros / seen


def _pixels(search: Search, active: Tensor, updates: int) -> Tensor:
    """[n, updates] int64, which coordinate each update of each image changes."""
    uniform = search.streams.uniform(active, (updates,), restart=0, purpose="pixels").double()
    return (uniform * search.ball.images[0].numel()).long()


def _probes(candidate: Tensor, pixel: Tensor, sigma: float) -> Tensor:
    """[n, 2, C, H, W], the candidate with one pixel up and down by sigma."""
    probes = candidate[:, None].repeat(1, 2, 1, 1, 1)
    flat, value = probes.flatten(2), candidate.flatten(1).gather(1, pixel)
    flat[:, 0].scatter_(1, pixel, value + sigma)
    flat[:, 1].scatter_(1, pixel, value - sigma)
    return flat.view_as(probes)


def _moved(
    candidate: Tensor, adam: Adam, pixel: Tensor, slope: Tensor, learning_rate: float
) -> tuple[Tensor, Adam]:
    """One step of coordinate-wise Adam: only this pixel moves, and only its moments change."""
    names = [field.name for field in fields(adam)]
    move, changed = Adam(**{n: getattr(adam, n).gather(1, pixel) for n in names}).step(
        slope.nan_to_num(0.0, 0.0, 0.0)
    )
    flat = candidate.flatten(1)
    value = flat.gather(1, pixel) + learning_rate * move
    moments = {n: getattr(adam, n).scatter(1, pixel, getattr(changed, n)) for n in names}
    return flat.scatter(1, pixel, value).view_as(candidate), Adam(**moments)
