"""Logits of images that differ from known ones in one window, from what the window reaches.

A convolution sees a few pixels, so a small change of an image changes a part of every map and
leaves the rest as it was. A `Neighbourhood` keeps the maps of its images and recomputes that part.
Every candidate has a window of its own: what all of them reach of a map has one size and a place
per candidate, so that they share each convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.graph import Step, steps_of
from harness.models.network import Network
from harness.models.regions import Span, Stretch
from harness.models.rows import rows_for

MOST_BYTES = 2**29
"""What the maps of a slice of a job may take; a larger network has no neighbourhood."""

_SLICE = 112
"""Images that `MOST_BYTES` is meant for: at least as many as a job has."""

_ENOUGH = 0.8
"""From this share of an axis on the whole axis is computed: nothing is left to gather."""

_SAME = 1e-3
"""Relative to the largest logit: above float32's rounding, far below what another graph gives."""


def neighbourhood(
    network: nn.Module, images: Tensor, *, most_bytes: int = MOST_BYTES
) -> Neighbourhood | None:
    """The maps of some images, from which windows are recomputed; None where that cannot be.

    It takes a `Network` without a hook, in evaluation mode, of local operations (`steps_of`);
    on the first of the images it must give the network's own logits.

    Args:
        network: best prepared by `folded`.
        images: [n, C, H, W] in [0, 1], at least one.
        most_bytes: that the maps of a whole slice may take; how many images there are does not
            matter, so that no image's way depends on its batch mates.
    """
    steps = steps_of(network) if isinstance(network, Network) else None
    if steps is None or not isinstance(network, Network):
        return None
    first = Neighbourhood(network, steps, images[:1])
    if first.bytes * _SLICE > most_bytes or not _agrees(network, first, images[:1]):
        return None
    return Neighbourhood(network, steps, images)


class Neighbourhood:
    """Known images, and logits of candidates that differ from one of them in one window.

    They differ from those of a whole pass by rounding alone.

    Args:
        network: without a hook, in evaluation mode.
        steps: its operations, from images to the maps that are pooled.
        images: [n, C, H, W], the known ones.

    Attributes:
        kept: which steps' maps are kept, and the zeros around each.
        sizes: height and width of every step's maps.
        device: of everything.
        bytes: what the maps take.
    """

    def __init__(self, network: Network, steps: tuple[Step, ...], images: Tensor) -> None:
        self._network, self.steps, self.kept = network, steps, _kept(steps)
        self.device = images.device
        self._plans: dict[int, tuple[_Axis, ...]] = {}
        self._known: dict[int, _Known] = {}
        self._start(images)
        self.bytes = sum(one.maps.numel() * one.maps.element_size() for one in self._known.values())

    @torch.no_grad()
    def logits(self, candidates: Tensor, of: Tensor, corners: Tensor, side: int) -> Tensor:
        """[r, K] of candidates [r, C, H, W], each a known image outside a square window.

        Args:
            candidates: at least one.
            of: [r] int64, which known image each one changes.
            corners: [r, 2] int64, top and left of each window.
            side: of all of them, in pixels.
        """
        count = len(candidates)
        self._of, (tops, lefts) = _filled(of), _filled(corners).T
        rows, columns = self._plan(side)
        self._boxes = _boxes(rows.boxes, columns.boxes, tops, lefts)
        reads = _boxes(rows.reads, columns.reads, tops, lefts)
        covers = [all(both) for both in zip(rows.covers, columns.covers, strict=True)]
        everyone = _filled(torch.arange(count, device=of.device))
        self._fresh = [_Known.of(candidates, 0).crop(everyone, self._boxes[0])]
        for number in range(1, len(self.steps)):
            self._fresh.append(self._computed(number, reads[number], covers[number]))
        logits: Tensor = self._network.head(self._network.trunk.pool(self._last()))
        return logits[:count].float()

    def known(self) -> dict[int, Tensor]:
        """The kept maps [n, C', h, w] of the known images, by number of the step."""
        return {number: one.inner() for number, one in self._known.items()}

    def accept(self, rows: Tensor) -> None:
        """Make candidates of the last call known, by row, at most one of an image."""
        if len(rows):
            for number, known in self._known.items():
                known.put(self._of[rows], self._boxes[number].take(rows), self._fresh[number][rows])

    def take(self, kept: Tensor) -> None:
        """Forget the images where `kept` [n] bool is false."""
        rows = kept.nonzero()[:, 0]
        self._known = {number: known.take(rows) for number, known in self._known.items()}
        self._fresh = []

    @torch.no_grad()
    def _start(self, images: Tensor) -> None:
        """A whole pass, of which no more is held than is kept or read again."""
        held = {0: _filled(images)}
        last_reader = {source: n for n, step in enumerate(self.steps) for source in step.sources}
        self.sizes: list[tuple[int, int]] = []
        for number, step in enumerate(self.steps):
            if step.sources:
                held[number] = step.apply(*(held[source] for source in step.sources))
            self.sizes.append((held[number].shape[2], held[number].shape[3]))
            if number in self.kept:
                self._known[number] = _Known.of(held[number][: len(images)], self.kept[number])
            held = {n: maps for n, maps in held.items() if last_reader.get(n, 0) > number}

    def _plan(self, side: int) -> tuple[_Axis, ...]:
        if side not in self._plans:
            self._plans[side] = tuple(_Axis.of(self, axis, side) for axis in (0, 1))
        return self._plans[side]

    def _computed(self, number: int, read: _Box, covers: bool) -> Tensor:
        """What all candidates reach of a step's maps, from what it reads of its sources."""
        step, convolution = self.steps[number], self.steps[number].convolution
        if convolution is None:
            return step.apply(*(self._values(source, read, covers) for source in step.sources))
        (source,) = step.sources
        if self._is_whole(source) and self._is_whole(number):
            return step.apply(self._fresh[source])
        return functional.conv2d(
            self._values(source, read, covers),
            convolution.weight,
            convolution.bias,
            convolution.stride,
            0,
            1,
            convolution.groups,
        )

    def _values(self, number: int, box: _Box, covers: bool) -> Tensor:
        """A step's maps of the candidates in a box, which may reach into the zeros around.

        `covers` says that the box holds all that was computed of them.
        """
        fresh = self._boxes[number]
        if number not in self._known or (self._is_whole(number) and box.size == fresh.size):
            return self._fresh[number]
        values = self._known[number].crop(self._of, box)
        return _laid_over(values, box, self._fresh[number], fresh, covers)

    def _last(self) -> Tensor:
        """The maps that are pooled, whole."""
        number = len(self.steps) - 1
        tops = torch.zeros_like(self._of)
        return self._values(number, _Box(tops, tops, self.sizes[number]), covers=True)

    def _is_whole(self, number: int) -> bool:
        return self._boxes[number].size == self.sizes[number]


@dataclass(frozen=True)
class _Box:
    """A part of a map of one size, at a place per candidate.

    Args:
        tops, lefts: [r] int64, negative where it begins in the zeros around the map.
        size: height and width.
    """

    tops: Tensor
    lefts: Tensor
    size: tuple[int, int]

    def take(self, rows: Tensor) -> _Box:
        return _Box(self.tops[rows], self.lefts[rows], self.size)

    def inside(self, height: int, width: int) -> Tensor:
        """[r * h * w] bool, which of its pixels lie in maps of this size."""
        rows, columns = (
            torch.arange(count, device=first.device) + first[:, None]
            for count, first in zip(self.size, (self.tops, self.lefts), strict=True)
        )
        down, across = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        return (down[:, :, None] & across[:, None]).flatten()

    def pixels(self, images: Tensor, height: int, width: int) -> Tensor:
        """[r * h * w] int64, numbers of its pixels in maps [n, height, width]; `images` [r]."""
        starts = (images * height + self.tops) * width + self.lefts
        return (starts[:, None] + _places(*self.size, width, images.device)).flatten()


@lru_cache(maxsize=1000)
def _places(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """[rows * columns] int64, numbers of the pixels of a box in a map, from its first one."""
    first = torch.arange(rows, device=device)[:, None] * width
    return (first + torch.arange(columns, device=device)).flatten()


class _Stretches(NamedTuple):
    """A stretch per step, for windows of one side at each of their places along an axis.

    Args:
        firsts: [steps, P] int64.
        lengths: [steps].
    """

    firsts: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, stretches: Sequence[Stretch]) -> _Stretches:
        return cls(
            torch.stack([one.first for one in stretches]), tuple(s.length for s in stretches)
        )


class _Axis(NamedTuple):
    """Along one axis what is computed, for windows of one side.

    Args:
        boxes: what every step computes.
        reads: what that reads of each of its sources.
        covers: per step, whether that holds all that was computed of them, at every place.
    """

    boxes: _Stretches
    reads: _Stretches
    covers: tuple[bool, ...]

    @classmethod
    def of(cls, known: Neighbourhood, axis: int, side: int) -> _Axis:
        steps, sizes = known.steps, [size[axis] for size in known.sizes]
        places = torch.arange(sizes[0] - side + 1, device=known.device)
        spans = [Span(places, places + side)]
        for number, step in enumerate(steps[1:], start=1):
            found = [spans[source] for source in step.sources]
            if step.geometry is not None:
                spans.append(step.geometry.reached(found[0], axis, sizes[number]))
            else:
                spans.append(found[0] if len(found) == 1 else found[0].union(found[1]))
        boxes = [
            Stretch.around(span, size, _ENOUGH) for span, size in zip(spans, sizes, strict=True)
        ]
        for number in range(len(steps) - 1, 0, -1):  # what is not kept is computed as it is read
            for source in steps[number].sources:
                boxes[source] = boxes[source] if source in known.kept else boxes[number]
        reads = [
            box if step.geometry is None else step.geometry.read(box, axis)
            for step, box in zip(steps, boxes, strict=True)
        ]
        covers = tuple(
            all(read.covers(boxes[source]) for source in step.sources)
            for step, read in zip(steps, reads, strict=True)
        )
        return cls(_Stretches.of(boxes), _Stretches.of(reads), covers)


def _boxes(rows: _Stretches, columns: _Stretches, tops: Tensor, lefts: Tensor) -> list[_Box]:
    """Per step, for windows at some of the places."""
    sizes = zip(rows.lengths, columns.lengths, strict=True)
    return [
        _Box(top, left, size)
        for top, left, size in zip(
            rows.firsts[:, tops], columns.firsts[:, lefts], sizes, strict=True
        )
    ]


@dataclass(frozen=True)
class _Known:
    """One step's maps of the known images inside a border of zeros, as convolutions read them.

    Args:
        maps: [n, h + 2 border, w + 2 border, C'], contiguous.
        border: pixels of zeros on every side.
    """

    maps: Tensor
    border: int

    @classmethod
    def of(cls, maps: Tensor, border: int) -> _Known:
        """From maps [n, C', h, w]."""
        padded = functional.pad(maps, (border,) * 4) if border else maps
        return cls(padded.permute(0, 2, 3, 1).contiguous(), border)

    def inner(self) -> Tensor:
        """[n, C', h, w], without the border."""
        _, height, width, _ = self.maps.shape
        rows, columns = (slice(self.border, size - self.border) for size in (height, width))
        return self.maps[:, rows, columns].permute(0, 3, 1, 2)

    def crop(self, images: Tensor, box: _Box) -> Tensor:
        """[r, C', h, w] of a box, for images by number."""
        _, height, width, channels = self.maps.shape
        if box.size == (height, width):
            return self.maps.index_select(0, images).permute(0, 3, 1, 2)
        chosen = self._flat().index_select(0, self._moved(box).pixels(images, height, width))
        return chosen.view(len(images), *box.size, channels).permute(0, 3, 1, 2)

    def put(self, images: Tensor, box: _Box, values: Tensor) -> None:
        """Write `values` [r, C', h, w] to a box, each image once."""
        _, height, width, channels = self.maps.shape
        rows = self._moved(box).pixels(images, height, width)
        self._flat().index_copy_(0, rows, values.permute(0, 2, 3, 1).reshape(-1, channels))

    def take(self, rows: Tensor) -> _Known:
        return _Known(self.maps[rows], self.border)

    def _moved(self, box: _Box) -> _Box:
        return _Box(box.tops + self.border, box.lefts + self.border, box.size)

    def _flat(self) -> Tensor:
        return self.maps.view(-1, self.maps.shape[3])


def _laid_over(values: Tensor, box: _Box, fresh: Tensor, inner: _Box, covers: bool) -> Tensor:
    """`values` [r, C', ...] of a box, with those of another one where that lies inside.

    `values` is written to, in the memory order channels last that both have.
    """
    (height, width), channels = box.size, values.shape[1]
    target = values.permute(0, 2, 3, 1).view(-1, channels)
    source = fresh.permute(0, 2, 3, 1).reshape(-1, channels)
    moved = _Box(inner.tops - box.tops, inner.lefts - box.lefts, inner.size)
    pixels = moved.pixels(torch.arange(len(values), device=moved.tops.device), height, width)
    if covers:
        target.index_copy_(0, pixels, source)
    else:
        inside = moved.inside(height, width)
        target[pixels[inside]] = source[inside]
    return values


def _filled(rows: Tensor) -> Tensor:
    """[n, ...] -> [m, ...], as many rows as a pass takes, the first one repeated.

    Without a gradient four would do for whole maps; windows of few were not measured.
    """
    if len(rows) == 0:
        return rows
    missing = rows_for(len(rows), torch.get_num_threads(), differentiated=True) - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def _kept(steps: tuple[Step, ...]) -> dict[int, int]:
    """Which steps' maps are kept, and the zeros around each that its convolutions read.

    What a convolution reads, the last maps, and what several steps read; anything else is
    computed where its only reader needs it.
    """
    found = {number: 0 for number, step in enumerate(steps) if step.readers > 1}
    found[len(steps) - 1] = 0
    for step in steps:
        if step.geometry is not None:
            (source,) = step.sources
            found[source] = max(found.get(source, 0), *step.geometry.padding)
    return dict(sorted(found.items()))


def _agrees(network: Network, known: Neighbourhood, images: Tensor) -> bool:
    side, corner = min(images.shape[2:]), torch.zeros(1, dtype=torch.int64, device=images.device)
    with torch.no_grad():
        truth = network(images).logits
    found = known.logits(images, corner, torch.stack([corner, corner], dim=1), side)
    return bool(((found - truth).abs() <= _SAME * truth.abs().max().clamp(min=1)).all())
