"""How many images a pass on the CPU takes, so that the bits of one do not depend on the others.

Kernels follow the number of rows: a linear layer takes rows by fours and the rest with another
kernel, its gradient needs 12, and threads cut rows into pieces of their own. Measured on every
trunk, with 2 to 200 classes and 1 to 16 threads, for networks of our own parts whose features come
by fours, as all do at their own widths. With 6, 10 or 14 features the last digit of a logit follows
the place in the batch, in passes of any size.
"""

from __future__ import annotations

_LEAST = 16
"""From so many images on, one or two threads give an image the same bits in any company."""

_UNDIFFERENTIATED = 4
"""Fewer images need only be a multiple of this where no gradient is taken."""

_FEW_THREADS = 2


def rows_for(count: int, threads: int, *, differentiated: bool) -> int:
    """At least `count`: the fewest images that may pass at once.

    Args:
        count: images that are asked about.
        threads: of PyTorch on the CPU; 1 where the pass is made elsewhere.
        differentiated: whether a gradient will be taken.
    """
    if count < _LEAST:
        return up_to(count, _LEAST if differentiated else _UNDIFFERENTIATED)
    return count if threads <= _FEW_THREADS else up_to(count, _LEAST)


def up_to(count: int, multiple: int) -> int:
    """The next multiple that is not below `count`."""
    return -(-count // multiple) * multiple
