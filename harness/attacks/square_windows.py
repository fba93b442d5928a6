"""What Square proposes in L-infinity: square windows of another colour."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.attacks.search import Search
from harness.attacks.square_bumps import window_share
from harness.attacks.windows import Tries


class Stretch(NamedTuple):
    """Queries `first` to `last`, the last excluded, whose windows have one side."""

    first: int
    last: int
    side: int


def window_side(query: int, p_init: float, height: int, width: int) -> int:
    """Side of the L-infinity window at a 0-based query (`attacks.md` 13.5)."""
    side = round(math.sqrt(window_share(query, p_init) * height * width))
    return min(max(side, 1), height, width)


@dataclass(frozen=True)
class Squares:
    """Proposals of the L-infinity variant: windows common to all images, colours of each alone.

    Args:
        stripes: [n, C, 1, W] of -1 and 1, the start.
        colours: [n, queries, C] of -1 and 1.
        corners: [queries, 2] in [0, 1), top and left.
        p_init: share of the image that the first windows cover.
    """

    stripes: Tensor
    colours: Tensor
    corners: Tensor
    p_init: float

    @classmethod
    def drawn(
        cls, search: Search, active: Tensor, queries: int, p_init: float, restart: int
    ) -> Squares:
        """All the random numbers of one run on the active images."""
        streams, device = search.streams, search.labels.device
        _, channels, _, width = search.ball.images.shape
        shared = streams.shared(restart=restart, purpose="windows")
        stripes = streams.signs(active, (channels, 1, width), restart=restart, purpose="stripes")
        colours = streams.signs(active, (queries, channels), restart=restart, purpose="colours")
        corners = torch.rand(queries, 2, generator=shared)
        return cls(stripes.to(device), colours.to(device), corners.to(device), p_init)

    def take(self, kept: Tensor) -> Squares:
        """The same for some of the images."""
        return replace(self, stripes=self.stripes[kept], colours=self.colours[kept])

    def start(self, ball: Ball) -> Tensor:
        """[n, C, H, W], vertical stripes."""
        return ball.project(ball.images + ball.epsilon * self.stripes)

    def stretches(self, queries: int, height: int, width: int) -> list[Stretch]:
        """The queries from 0 on, by the side of their windows."""
        found, first = [], 0
        for side, same in groupby(
            window_side(q, self.p_init, height, width) for q in range(queries)
        ):
            last = first + len([*same])
            found.append(Stretch(first, last, side))
            first = last
        return found

    def tries(
        self, ball: Ball, best: Tensor, images: Tensor, query: Tensor, stretch: Stretch, count: int
    ) -> Tries:
        """The next proposals of some images, each `best` with one window of another colour.

        Args:
            ball: of all n images.
            best: [n, C, H, W], in the ball.
            images: [r], which of the images.
            query: [r], the first query of each, within the stretch.
            stretch: where it ends no more is meant.
            count: proposals of each image.
        """
        queries = query[:, None] + torch.arange(count, device=query.device)
        queries = queries.clamp(max=stretch.last - 1)
        low, high, here = (one[images, None] for one in (ball.low, ball.high, best))
        colours = self.colours[images[:, None], queries]
        moved = here + 2 * ball.epsilon * colours[..., None, None]
        coloured = torch.minimum(torch.maximum(moved, low), high)
        room = torch.tensor(best.shape[2:], device=query.device) - stretch.side + 1
        corners = (self.corners[queries] * room).long()
        inside = _inside(corners, stretch.side, *best.shape[2:])
        most = (stretch.last - query).clamp(max=count)
        candidates = torch.where(inside, coloured, here)
        return Tries(images, candidates, most, corners, stretch.side)


def _inside(corners: Tensor, side: int, height: int, width: int) -> Tensor:
    """[r, m, 1, H, W] bool, the pixels of windows with these corners [r, m, 2]."""
    rows, columns = (
        torch.arange(size, device=corners.device) - corners[..., axis, None]
        for axis, size in enumerate((height, width))
    )
    rows, columns = ((one >= 0) & (one < side) for one in (rows, columns))
    return (rows[..., :, None] & columns[..., None, :])[:, :, None]
