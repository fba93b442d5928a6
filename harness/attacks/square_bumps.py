"""What Square proposes in L2: bumps, paid for with mass taken from elsewhere in the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.attacks.geometry import Ball, per_image_norm
from harness.attacks.search import Search

_GUARD = 1e-12
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def window_share(query: int, p_init: float) -> float:
    """Share of the image that a 0-based query's window covers, in either norm; not rescaled."""
    return float(p_init / 2 ** sum(query > bound for bound in _HALVINGS))


@dataclass(frozen=True)
class Bumps:
    """Proposals of the L2 variant (Andriushchenko et al., 2020, algorithm 3).

    Windows and the way bumps face are common to all images; colours are each image's own. Where
    we differ from AutoAttack's code: windows reach the last row and column, and the grid of the
    start is centred and complete on images of any size and shape.

    Args:
        grid: [n, T, C] of -1 and 1, colours of the start's tiles.
        grid_turns: [T] in [0, 1), from 1/2 on that tile's bump is turned by a right angle.
        colours: [n, queries, C] of -1 and 1.
        places: [queries, 5] in [0, 1): corners of two windows, and whether the bump is turned.
        p_init: share of the image that the first windows cover.
    """

    grid: Tensor
    grid_turns: Tensor
    colours: Tensor
    places: Tensor
    p_init: float

    @classmethod
    def drawn(
        cls, search: Search, active: Tensor, queries: int, p_init: float, restart: int
    ) -> Bumps:
        """All the random numbers of one run on the active images."""
        streams, device = search.streams, search.labels.device
        _, channels, height, width = search.ball.images.shape
        tiles = len(_tiles(height, width))
        shared = streams.shared(restart=restart, purpose="windows")
        return cls(
            streams.signs(active, (tiles, channels), restart=restart, purpose="grid").to(device),
            torch.rand(tiles, generator=shared),
            streams.signs(active, (queries, channels), restart=restart, purpose="colours").to(
                device
            ),
            torch.rand(queries, 5, generator=shared),
            p_init,
        )

    def take(self, kept: Tensor) -> Bumps:
        """The same for some of the images."""
        return replace(self, grid=self.grid[kept], colours=self.colours[kept])

    def start(self, ball: Ball) -> Tensor:
        """[n, C, H, W], a grid of bumps at the distance epsilon."""
        difference = torch.zeros_like(ball.images, dtype=torch.float64)
        for number, (top, left, side) in enumerate(_tiles(*ball.images.shape[2:])):
            shape = bump(side, is_turned=bool(self.grid_turns[number] >= 0.5)).to(difference)
            tile = difference[:, :, top : top + side, left : left + side]
            tile += shape * self.grid[:, number, :, None, None]
        return _at_epsilon(ball, difference)

    def candidate(self, ball: Ball, best: Tensor, query: int) -> Tensor:
        """[n, C, H, W], `best` with the mass of a second window moved into a bump in the first."""
        height, width = best.shape[2:]
        side = bump_side(query, self.p_init, height, width)
        tops = (self.places[query, :2] * (height - side + 1)).long().tolist()
        lefts = (self.places[query, 2:4] * (width - side + 1)).long().tolist()
        shape = bump(side, is_turned=bool(self.places[query, 4] >= 0.5))
        difference = best.double() - ball.images.double()
        moved = move_mass(
            difference,
            shape.to(difference) * self.colours[:, query, :, None, None],
            corners=((tops[0], lefts[0]), (tops[1], lefts[1])),
            epsilon=ball.epsilon,
        )
        return _at_epsilon(ball, moved)


def bump(side: int, *, is_turned: bool) -> Tensor:
    """[side, side] float64 of norm 1: a hill in the upper half and a pit in the lower.

    A point's height is a sum of inverse squares that loses a term per
    step (of a king at chess) away from the top.

    Args:
        side: of the window.
        is_turned: hill and pit left and right instead.
    """
    shape = torch.cat([_hill(side // 2, side), -_hill(side - side // 2, side)])
    shape = shape / shape.square().sum().sqrt()
    return shape.T if is_turned else shape


def bump_side(query: int, p_init: float, height: int, width: int) -> int:
    """Side of the window at a 0-based query: odd and at least 3, if there is room."""
    side = max(round(math.sqrt(window_share(query, p_init) * height * width)), 3)
    return min(side + (side + 1) % 2, height, width)


def move_mass(
    difference: Tensor,
    bumps: Tensor,
    *,
    corners: tuple[tuple[int, int], tuple[int, int]],
    epsilon: float,
) -> Tensor:
    """Empty the second window and put what it held, and all that is unspent, into the first.

    Args:
        difference: [n, C, H, W], candidate minus clean image.
        bumps: [n, C, s, s], each channel of norm 1.
        corners: top and left of the first window and of the second.
        epsilon: budget; what `difference` leaves of it is shared equally by the channels.
    """
    side, channels = bumps.shape[2], difference.shape[1]
    first, second = (
        (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
        for top, left in corners
    )
    either = torch.zeros_like(difference[:1, :1])
    either[first], either[second] = 1, 1
    held = (difference * either).square().sum(dim=(2, 3), keepdim=True)
    unspent = (epsilon**2 - per_image_norm(difference).square()).clamp(min=0) / channels
    old = difference[first]
    shape = bumps + old / (_channel_norm(old) + _GUARD)
    shape = shape / (_channel_norm(shape) + _GUARD)
    moved = difference.clone()
    moved[second] = 0
    moved[first] = shape * (held + unspent).sqrt()
    return moved


def _hill(height: int, width: int) -> Tensor:
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    furthest = max(height // 2, width // 2)
    terms = 1 / torch.arange(1, furthest + 2, dtype=torch.float64).square()
    sums = terms.flip(0).cumsum(0).flip(0)
    hill = sums[torch.maximum(rows[:, None], columns[None])]
    return hill / hill.square().sum().sqrt()


def _tiles(height: int, width: int) -> list[tuple[int, int, int]]:
    """Top, left and side of the start's tiles: five along the shorter axis, centred."""
    side = max(min(height, width) // 5, 1)
    return [
        (height % side // 2 + row * side, width % side // 2 + column * side, side)
        for row in range(height // side)
        for column in range(width // side)
    ]


def _at_epsilon(ball: Ball, difference: Tensor) -> Tensor:
    unit = difference / (per_image_norm(difference) + _GUARD)
    return ball.project((ball.images.double() + ball.epsilon * unit).float())


def _channel_norm(window: Tensor) -> Tensor:
    return window.square().sum(dim=(2, 3), keepdim=True).sqrt()
