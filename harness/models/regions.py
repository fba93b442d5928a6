"""Rectangles of maps: what a change reaches through a convolution, and what that reads."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Region(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right` of a map, the last ones excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixel: a stride can step over a change."""
        return self.top >= self.bottom or self.left >= self.right

    def union(self, other: Region) -> Region:
        """The smallest region around both, of which one may be empty."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return Region(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def intersection(self, other: Region) -> Region:
        """What both have, which may be empty."""
        return Region(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def within(self, outer: Region) -> tuple[slice, slice]:
        """Rows and columns of this region in a tensor that holds `outer`."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


class Geometry(NamedTuple):
    """Side of the kernel, stride and padding of a convolution, per axis."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> Geometry | None:
        """None where what an output pixel reads is no dense window inside zeros."""
        padding = convolution.padding
        if (
            isinstance(padding, str)
            or convolution.padding_mode != "zeros"
            or tuple(convolution.dilation) != (1, 1)
        ):
            return None
        (height, width), (down, across) = convolution.kernel_size, convolution.stride
        return cls((height, width), (down, across), (padding[0], padding[1]))

    def reached(self, changed: Region, size: tuple[int, int]) -> Region:
        """What a change of the input reaches of an output of the given height and width."""
        rows, columns = (
            _reached(changed[axis], changed[axis + 2], *self._axis(axis), size[axis])
            for axis in (0, 1)
        )
        return Region(rows[0], columns[0], rows[1], columns[1])

    def read(self, region: Region) -> Region:
        """What of the input a region of the output reads, into the padding where that counts."""
        rows, columns = (
            _read(region[axis], region[axis + 2], *self._axis(axis)) for axis in (0, 1)
        )
        return Region(rows[0], columns[0], rows[1], columns[1])

    def _axis(self, axis: int) -> tuple[int, int, int]:
        return self.kernel[axis], self.stride[axis], self.padding[axis]


def _reached(
    first: int, last: int, kernel: int, stride: int, padding: int, size: int
) -> tuple[int, int]:
    """An output at `o` reads from `o * stride - padding` on, `kernel` pixels."""
    low = -((kernel - 1 - padding - first) // stride)
    high = (last - 1 + padding) // stride + 1
    low, high = max(low, 0), min(high, size)
    return (low, high) if low < high else (0, 0)


def _read(first: int, last: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    return first * stride - padding, (last - 1) * stride - padding + kernel
