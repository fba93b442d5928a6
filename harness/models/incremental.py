"""Logits of images that differ from known ones in one window, from what the window reaches.

A convolution sees a few pixels, so a small change of an image changes a part of every map and
leaves the rest as it was. A `Neighbourhood` keeps the maps of a batch and recomputes that part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.graph import Step, steps_of
from harness.models.network import Network
from harness.models.regions import Region

MOST_BYTES = 2**29
"""What the maps of a batch may take; a larger batch has no neighbourhood."""

_ROWS = 16
"""Maps have a multiple of so many rows, some of them fillers: with a few images convolutions and
heads take other kernels on the CPU, and an image's bits would depend on its batch mates."""

_PADDINGS = 7
"""Times `_ROWS`: at least as many images as a job has."""

_SAME = 1e-3
"""Relative to the largest logit: above float32's rounding, far below what another graph gives."""


def neighbourhood(
    network: nn.Module, images: Tensor, *, most_bytes: int = MOST_BYTES
) -> Neighbourhood | None:
    """The maps of a batch, from which windows are recomputed; None where that cannot be.

    It takes a `Network` without a hook, in evaluation mode, of local operations (`steps_of`);
    on the first of the images it must give the network's own logits.

    Args:
        network: best prepared by `folded`.
        images: [n, C, H, W] in [0, 1], at least one.
        most_bytes: that the maps of 112 images may take, a slice of a job; how many there are does
            not matter, so that no image's way depends on its batch mates.
    """
    steps = steps_of(network) if isinstance(network, Network) else None
    if steps is None or not isinstance(network, Network):
        return None
    first = Neighbourhood(network, steps, images[:1])
    if first.bytes * _PADDINGS > most_bytes or not _agrees(network, first, images[:1]):
        return None
    return Neighbourhood(network, steps, images)


class Neighbourhood:
    """Known images, and logits of candidates that differ from them in one window.

    They differ from those of a whole pass by rounding alone.

    Args:
        network: without a hook, in evaluation mode.
        steps: its operations, from images to the maps that are pooled.
        images: [n, C, H, W], the known ones.

    Attributes:
        bytes: what the maps take.
    """

    def __init__(self, network: Network, steps: tuple[Step, ...], images: Tensor) -> None:
        self._network, self._steps, self._count = network, steps, len(images)
        self._kept = _kept(steps)
        self._known: dict[int, _Known] = {}
        self._whole: list[Region] = []
        self._fresh: list[Tensor] = []
        self._regions: list[Region] = []
        self._start(_filled(images))
        self.bytes = sum(
            one.padded.numel() * one.padded.element_size() for one in self._known.values()
        )

    @torch.no_grad()
    def logits(self, candidates: Tensor, window: tuple[int, int, int, int]) -> Tensor:
        """[n, K] of candidates [n, C, H, W], which are the known images outside the window.

        Args:
            candidates: as many as there are known images, in their order.
            window: top, left, bottom and right, the last two excluded.
        """
        self._regions = self._reached(Region(*window))
        rows, columns = self._regions[0].within(self._whole[0])
        self._fresh = [_filled(candidates[:, :, rows, columns])]
        for number in range(1, len(self._steps)):
            self._fresh.append(self._computed(number))
        last = len(self._steps) - 1
        return self._classified(self._values(last, self._whole[last]))

    def known(self) -> dict[int, Tensor]:
        """The kept maps [n, C', h, w] of the known images, by number of the step."""
        return {
            number: one.at(self._whole[number])[: self._count]
            for number, one in self._known.items()
        }

    def accept(self, accepted: Tensor) -> None:
        """Make the last candidates known where `accepted` [n] is true; the others stay."""
        chosen = accepted.nonzero()[:, 0]
        if len(chosen) == 0:
            return
        for number, known in self._known.items():
            if not self._regions[number].is_empty:
                known.at(self._regions[number])[chosen] = self._fresh[number][chosen]

    def take(self, kept: Tensor) -> None:
        """Forget the images where `kept` [n] bool is false."""
        rows = kept.nonzero()[:, 0]
        self._count, rows = len(rows), _filled(rows)
        self._known = {number: known.take(rows) for number, known in self._known.items()}
        self._fresh = []

    @torch.no_grad()
    def _start(self, images: Tensor) -> None:
        """A whole pass, of which no more is held than is kept or read again."""
        held = {0: images}
        last_reader = {source: n for n, step in enumerate(self._steps) for source in step.sources}
        self._whole = []
        for number, step in enumerate(self._steps):
            if step.sources:
                held[number] = step.apply(*(held[source] for source in step.sources))
            self._whole.append(Region(0, 0, *held[number].shape[2:]))
            if number in self._kept:
                self._known[number] = _Known.of(held[number], self._kept[number])
            held = {n: maps for n, maps in held.items() if last_reader.get(n, 0) > number}

    def _reached(self, window: Region) -> list[Region]:
        """Per step the region to compute for a window of the images."""
        found = [window]
        for number, step in enumerate(self._steps[1:], start=1):
            sources = [found[source] for source in step.sources]
            if step.geometry is not None:
                size = self._whole[number][2:]
                found.append(step.geometry.reached(sources[0], size))
            else:
                found.append(sources[0] if len(sources) == 1 else sources[0].union(sources[1]))
        for number in range(len(self._steps) - 1, 0, -1):  # what is not kept is computed as read
            for source in self._steps[number].sources:
                if source not in self._kept:
                    found[source] = found[source].union(found[number])
        return found

    def _computed(self, number: int) -> Tensor:
        step, region = self._steps[number], self._regions[number]
        if region.is_empty:
            return self._fresh[0][:, :, :0, :0]
        if step.convolution is not None and step.geometry is not None:
            source = step.sources[0]
            if self._regions[source] == self._whole[source]:
                return step.apply(self._fresh[source])
            read = self._values(source, step.geometry.read(region))
            return functional.conv2d(
                read,
                step.convolution.weight,
                step.convolution.bias,
                step.convolution.stride,
                0,
                1,
                step.convolution.groups,
            )
        return step.apply(*(self._values(source, region) for source in step.sources))

    def _values(self, number: int, region: Region) -> Tensor:
        """A step's maps of the candidates in a region, which may reach into the zeros around."""
        fresh = self._regions[number]
        if region == fresh:
            return self._fresh[number]
        shared = region.intersection(fresh)
        if shared == region:
            return self._fresh[number][:, :, *region.within(fresh)]
        values = self._known[number].at(region).clone(memory_format=torch.channels_last)
        if not shared.is_empty:
            changed = self._fresh[number][:, :, *shared.within(fresh)]
            values[:, :, *shared.within(region)] = changed
        return values

    def _classified(self, maps: Tensor) -> Tensor:
        logits: Tensor = self._network.head(self._network.trunk.pool(maps))
        return logits[: self._count].float()


def _filled(rows: Tensor) -> Tensor:
    """[n, ...] -> [m, ...], m the next multiple of `_ROWS`, the first row repeated."""
    missing = -len(rows) % _ROWS
    if missing == 0 or len(rows) == 0:
        return rows
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])


@dataclass(frozen=True)
class _Known:
    """One step's maps of the known images inside a border of zeros, as convolutions read them."""

    padded: Tensor
    border: int

    @classmethod
    def of(cls, maps: Tensor, border: int) -> _Known:
        padded = functional.pad(maps, (border,) * 4).contiguous(memory_format=torch.channels_last)
        return cls(padded, border)

    def at(self, region: Region) -> Tensor:
        """A view of the maps in a region, which may reach into the border."""
        top, left, bottom, right = (side + self.border for side in region)
        return self.padded[:, :, top:bottom, left:right]

    def take(self, rows: Tensor) -> _Known:
        return replace(self, padded=self.padded[rows].contiguous(memory_format=torch.channels_last))


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
    height, width = images.shape[2:]
    with torch.no_grad():
        truth = network(images).logits
    found = known.logits(images, (0, 0, height, width))
    return bool(((found - truth).abs() <= _SAME * truth.abs().max().clamp(min=1)).all())
