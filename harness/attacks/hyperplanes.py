"""Hyperplanes where a linearised model is undecided, and the shortest way to them in the box."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.search import Search

_FEW_CLASSES = 20
"""Up to here every wrong class is a contender; above it only the best few (`attacks.md` 4.1)."""

_STEPS = 50
"""Newton steps before sorting: never met but by rates and ends made for it."""


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
    if differences.shape[1] == 1:  # nothing to choose from: no distance is needed
        difference, gradient = differences[:, 0], gradients[:, 0]
        exists = torch.isfinite(difference) & (gradient.abs().amax((1, 2, 3)) != 0)
    else:
        slope = dual_norm(gradients, norm)
        distance = (differences.double().abs() + least) / slope
        distance = torch.where(torch.isfinite(distance), distance, torch.inf)
        chosen = distance.argmin(1)
        rows = torch.arange(len(chosen), device=chosen.device)
        exists = torch.isfinite(distance[rows, chosen])
        difference, gradient = differences[rows, chosen], gradients[rows, chosen]
    if exists.all():
        return difference.double(), gradient.double()
    wide = exists[:, None, None, None]
    return difference.double().where(exists, 0.0), gradient.double().where(wide, 0.0)


def way_to_plane(points: Tensor, normals: Tensor, gaps: Tensor, norm: str) -> Tensor:
    """The shortest displacement onto a hyperplane that does not leave the [0, 1] box.

    Where the plane misses the box it leads to the corner nearest to the plane. Every pixel moves
    against its weight, at most by its room to the box's face: in L-infinity all by the same
    level, in L2 by the level times the weight (Croce and Hein, 2020, arXiv:1907.02044, section
    2.2). The reference sorts the pixels by where they reach their faces; we search for the level
    by Newton's method, which ends at the same one.

    Args:
        points: [n, C, H, W] in [0, 1].
        normals: [n, C, H, W], `w`.
        gaps: [n], `<w, point> - b` for the plane `<w, v> = b`: by how much `<w, .>` must fall.
        norm: `linf` or `l2`.

    Returns:
        [n, C, H, W] float64; 0 where `w` is 0.
    """
    weights = normals.double() * torch.where(gaps >= 0, 1.0, -1.0)[:, None, None, None]
    size, direction, needed = weights.abs(), weights.sign(), gaps.double().abs()
    # a point moves down by at most itself and up by the rest of 1; a choice by sign is slower
    room = torch.addcmul(direction.clamp(max=0.0).neg(), direction, points.double())
    if norm == "linf":
        reach = _level(size, room, needed)
    else:
        face = torch.nan_to_num(room / size)  # 0 / 0 is 0: what has no weight has no room
        reach = _level(size.square(), face, needed) * size
    return direction * -torch.minimum(reach, room)


def _level(rates: Tensor, ends: Tensor, needed: Tensor) -> Tensor:
    """[n, 1, ...], the smallest level with `sum of rates * min(level, ends) >= needed`.

    At or beyond every end that counts where even the ends are not enough; 0 where every rate is 0.

    The sum is concave, linear between ends and 0 at 0. A Newton step from the left therefore never
    passes the level sought, and from within its linear piece it meets it: random gradients take
    2 to 5 steps of a few passes each, where sorting took most of FAB's own time. Steps are
    repeated until no term ends between the last two levels, so that no image's level depends on
    the others. What is unfinished after `_STEPS` is sorted.

    Args:
        rates: [n, ...], at least 0; `ends` likewise.
        ends: [n, ...], where each term stops growing.
        needed: [n], at least 0.
    """
    terms = tuple(range(1, rates.ndim))  # flattened, images that lie channels last would be copied
    needed = needed.reshape(-1, *(1 for _ in terms))
    level, whole = torch.zeros_like(needed), rates * ends
    growing = _growing(ends, level)
    before = count = growing.sum(terms)
    for _ in range(_STEPS):
        rate = (rates * growing).sum(terms, keepdim=True)
        reached = torch.addcmul(whole, whole, growing, value=-1).sum(terms, keepdim=True)
        step = torch.where(rate > 0, (needed - reached) / rate, level)
        level = torch.maximum(level, step)  # rounding at an end must not lead back and forth
        growing = _growing(ends, level)
        before, count = count, growing.sum(terms)  # levels only rise: no fewer are the same ones
        if torch.equal(before, count):
            break
    left = (before != count).nonzero()[:, 0]
    if len(left):
        level[left] = sorted_level(rates[left], ends[left], needed[left].flatten())
    return torch.nan_to_num(level, 0.0)  # an infinite level times a weight of 0 must stay 0


def _growing(ends: Tensor, level: Tensor) -> Tensor:
    """1 where a term still grows at its image's level, else 0: products with it choose.

    In float64, whose products are several times faster than choices by a mask.
    """
    return torch.gt(ends, level, out=torch.empty_like(ends))


def sorted_level(rates: Tensor, ends: Tensor, needed: Tensor) -> Tensor:
    """The level that `_level` seeks, from the sorted ends: exact, and slow on many pixels."""
    shape = (len(needed), *(1 for _ in rates.shape[1:]))
    rates, ends = rates.flatten(1), ends.flatten(1)
    ends, order = ends.where(rates > 0, 0.0).sort(dim=1)  # no end of a rate of 0 comes last
    rates = rates.gather(1, order)
    finished = (rates * ends).cumsum(1)  # terms up to here, all at their ends
    growing = rates.flip(1).cumsum(1).flip(1)  # rates from here on
    reached = finished - rates * ends + growing * ends  # the sum when the level is this end
    place = (reached < needed[:, None]).sum(1, keepdim=True).clamp(max=ends.shape[1] - 1)
    before = (finished - rates * ends).gather(1, place)
    level = (needed[:, None] - before) / growing.gather(1, place)
    return torch.where(torch.isfinite(level), level.clamp(min=0.0), 0.0).reshape(shape)
