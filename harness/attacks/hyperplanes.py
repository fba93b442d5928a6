"""Hyperplanes where a linearised model is undecided, and the shortest way to them in the box."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.search import Search

_FEW_CLASSES = 20
"""Up to here every wrong class is a contender; above it only the best few (`attacks.md` 4.1)."""


def contenders(search: Search, count: int) -> Tensor:
    """[N, T] int64, the classes whose planes are looked at, by clean logits, best first.

    All wrong classes where there are at most 20 classes, else the best `count`.
    """
    everyone = torch.arange(len(search.labels), device=search.labels.device)
    wrong_classes = 2**31  # more than there are: all of them
    ranked = search.rivals(everyone, wrong_classes)
    return ranked if ranked.shape[1] < _FEW_CLASSES else ranked[:, :count]


def dual_norm(gradients: Tensor, norm: str) -> Tensor:
    """[...] float64 of `gradients` [..., C, H, W]: how fast a step of unit length climbs."""
    flat = gradients.double().flatten(-3)
    return flat.abs().sum(-1) if norm == "linf" else flat.square().sum(-1).sqrt()


def nearest_plane(
    differences: Tensor, gradients: Tensor, norm: str, least: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The class whose plane is nearest: its difference [n] and gradient [n, C, H, W], float64.

    A class without a gradient, or whose difference is not finite, has no plane; where no class has
    one, both results are 0.

    Args:
        differences: [n, T], value of each class minus that of the true one.
        gradients: [n, T, C, H, W], their gradients, finite.
        norm: in which distances are measured.
        least: added to every difference in size, as DeepFool does.
    """
    slope = dual_norm(gradients, norm)
    distance = (differences.double().abs() + least) / slope
    distance = torch.where(torch.isfinite(distance), distance, torch.inf)
    chosen = distance.argmin(1)
    rows = torch.arange(len(chosen), device=chosen.device)
    exists = torch.isfinite(distance[rows, chosen])
    difference = torch.where(exists, differences[rows, chosen].double(), 0.0)
    gradient = torch.where(exists[:, None, None, None], gradients[rows, chosen].double(), 0.0)
    return difference, gradient


def way_to_plane(points: Tensor, normals: Tensor, gaps: Tensor, norm: str) -> Tensor:
    """The shortest displacement onto a hyperplane that does not leave the [0, 1] box.

    Where the plane misses the box it leads to the corner nearest to the plane. Every pixel moves
    against its weight, at most by its room to the box's face: in L-infinity all by the same
    level, in L2 by the level times the weight (Croce and Hein, 2020, arXiv:1907.02044, section
    2.2). The level is exact, by sorting where the pixels reach their faces.

    Args:
        points: [n, C, H, W] in [0, 1].
        normals: [n, C, H, W], `w`.
        gaps: [n], `<w, point> - b` for the plane `<w, v> = b`: by how much `<w, .>` must fall.
        norm: `linf` or `l2`.

    Returns:
        [n, C, H, W] float64; 0 where `w` is 0.
    """
    weights = normals.double() * torch.where(gaps >= 0, 1.0, -1.0)[:, None, None, None]
    size, points = weights.abs().flatten(1), points.double()
    room = torch.where(weights > 0, points, 1 - points).flatten(1).where(size > 0, 0.0)
    needed = gaps.double().abs()
    if norm == "linf":
        moved = torch.minimum(_level(size, room, needed), room)
    else:
        face = (room / size).where(size > 0, 0.0)
        moved = torch.minimum(_level(size.square(), face, needed) * size, room)
    return -weights.sign() * moved.reshape(weights.shape)


def _level(rates: Tensor, ends: Tensor, needed: Tensor) -> Tensor:
    """[n, 1], the smallest level with `sum of rates * min(level, ends) >= needed`.

    Beyond every end where even the ends are not enough; 0 where every rate is 0.

    Args:
        rates: [n, D], at least 0; `ends` likewise.
        ends: [n, D], where each term stops growing.
        needed: [n], at least 0.
    """
    ends, order = ends.sort(dim=1)
    rates = rates.gather(1, order)
    finished = (rates * ends).cumsum(1)  # terms up to here, all at their ends
    growing = rates.flip(1).cumsum(1).flip(1)  # rates from here on
    reached = finished - rates * ends + growing * ends  # the sum when the level is this end
    place = (reached < needed[:, None]).sum(1, keepdim=True).clamp(max=ends.shape[1] - 1)
    before = (finished - rates * ends).gather(1, place)
    level = (needed[:, None] - before) / growing.gather(1, place)
    return torch.where(torch.isfinite(level), level.clamp(min=0.0), 0.0)
