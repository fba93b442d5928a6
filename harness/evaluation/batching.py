"""In which batches a job is done: as many images as fit into memory, fewer where they did not."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from harness.evaluation.handle import PADDING, pad
from harness.identity import SHARD
from harness.outputs import Model

Done = TypeVar("Done")

AUTOMATIC = 0
"""As a batch size: what the memory of the GPU holds."""

_MOST = 8 * SHARD
"""Rows of a pass: runs of one attack on the images of a slice share passes (`attacks.pooling`)."""

_SHARE = 0.5
"""Of the memory that is free. A search holds losses, steps and copies of the images besides."""


def in_batches(
    positions: Tensor,
    size: int,
    attempt: Callable[[Tensor, int], Done],
    *,
    smallest: int = PADDING,
) -> Iterator[tuple[Tensor, Done]]:
    """Do every position once, in order; where memory runs out, in smaller batches from there.

    Args:
        positions: [n].
        size: most positions of a batch, and most rows of a pass of it.
        attempt: does one batch, given the most rows that a pass of it may have, and returns what
            came of it. What it raises for want of memory must leave nothing behind, since the
            same positions are attempted again.
        smallest: never split; below a whole padding nothing would be saved.

    Yields:
        Positions, and what came of them.

    Raises:
        torch.OutOfMemoryError: not even `smallest` positions fit.
    """
    first = 0
    while first < len(positions):
        chosen = positions[first : first + size]
        done = _unless_full(partial(attempt, chosen, size), last=size <= smallest)
        if done is None:
            size = max(smallest, min(len(chosen), size // 2) // PADDING * PADDING)
            _forget()
            continue
        yield chosen, done[0]
        first += len(chosen)


def _unless_full(attempt: Callable[[], Done], *, last: bool) -> tuple[Done] | None:
    """What came of it; None where memory ran out, once its traceback holds no tensor any more."""
    try:
        return (attempt(),)
    except torch.OutOfMemoryError:
        if last:
            raise
        return None


def _forget() -> None:
    """Give back what the batch that broke off held."""
    gc.collect()
    torch.cuda.empty_cache()


def fitting(model: Model, images: Tensor, workers: int = 1) -> int:
    """How many rows one pass can have, from the memory that one padding of images takes.

    Args:
        model: what is attacked.
        images: [n, C, H, W] on the device; the first ones are passed through it and back.
        workers: processes that share the device.

    Returns:
        A multiple of the padding, at most what shared passes of a whole slice can use.
    """
    if images.device.type != "cuda":
        return SHARD
    try:
        taken = _taken(model, pad(images[:PADDING]))
    except torch.OutOfMemoryError:
        return PADDING
    return most_that_fit(_free(images.device), taken, workers)


def most_that_fit(free: int, taken: int, workers: int = 1) -> int:
    """The same from bytes that are free, and bytes that one padding of images took."""
    paddings = int(_SHARE * free / workers / max(1, taken))
    return min(_MOST, PADDING * max(1, paddings))


def _taken(model: Model, images: Tensor) -> int:
    """Bytes at the peak of one pass forward and back."""
    before = torch.cuda.memory_allocated(images.device)
    torch.cuda.reset_peak_memory_stats(images.device)
    candidate = images.clone().requires_grad_()
    total = model(candidate).logits.sum()
    if total.requires_grad:  # a model may have no gradient at all
        torch.autograd.grad(total, candidate, allow_unused=True)
    return torch.cuda.max_memory_allocated(images.device) - before


def _free(device: torch.device) -> int:
    """Bytes that nobody holds, and those that PyTorch holds and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
