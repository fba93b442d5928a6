"""Spans along an axis of maps: what a change reaches through a convolution, what that reads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Span(NamedTuple):
    """Pixels `first` to `last` of an axis, the last excluded, for several places of a window.

    Args:
        first: [P] int64.
        last: [P] int64; where it equals `first` the span is empty: a stride can step over a change.
    """

    first: Tensor
    last: Tensor

    def union(self, other: Span) -> Span:
        """The shortest span around both, place by place."""
        first = torch.minimum(self.first, other.first)
        last = torch.maximum(self.last, other.last)
        return Span(first, last)._or(self, other)._or(other, self)

    def _or(self, one: Span, other: Span) -> Span:
        """`one` where the other is empty."""
        empty = other.first >= other.last
        return Span(*(torch.where(empty, a, b) for a, b in zip(one, self, strict=True)))


class Stretch(NamedTuple):
    """Spans of one length, so that rows with different places of the window share a batch.

    Args:
        first: [P] int64.
        length: the same for every place.
    """

    first: Tensor
    length: int

    def covers(self, other: Stretch) -> bool:
        """Whether the other one lies inside, at every place."""
        before = self.first <= other.first
        return bool((before & (other.first + other.length <= self.first + self.length)).all())

    @classmethod
    def around(cls, span: Span, size: int, enough: float) -> Stretch:
        """Every span of the axis lengthened to the longest one, within 0 and `size`.

        Args:
            span: what has to be inside.
            size: of the axis.
            enough: from this share of the axis on it is the whole axis.
        """
        longest = max(1, int((span.last - span.first).max()))
        length = size if longest >= enough * size else longest
        return cls(span.first.clamp(0, size - length), length)


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

    def reached(self, changed: Span, axis: int, size: int) -> Span:
        """What a change of the input reaches of an output of so many pixels.

        An output at `o` reads from `o * stride - padding` on, `kernel` pixels.
        """
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]
        first = -((kernel - 1 - padding - changed.first) // stride)
        last = (changed.last - 1 + padding) // stride + 1
        first, last = first.clamp(min=0), last.clamp(max=size)
        is_empty = (first >= last) | (changed.first >= changed.last)
        first = first.clamp(max=size)
        return Span(first, torch.where(is_empty, first, last))

    def read(self, stretch: Stretch, axis: int) -> Stretch:
        """What of the input a stretch of the output reads, into the padding where that counts."""
        stride = self.stride[axis]
        first = stretch.first * stride - self.padding[axis]
        return Stretch(first, (stretch.length - 1) * stride + self.kernel[axis])
