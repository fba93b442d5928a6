"""How long a model may take: a limit per piece of work, and one per pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from harness.errors import ModelError

LONGEST_PASS = 600.0
"""Seconds; a pass of at most a few hundred images that takes longer hangs."""

_DEADLINE: ContextVar[tuple[float, float] | None] = ContextVar("deadline", default=None)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Let models answer for so many seconds, all passes inside together; None for any time."""
    limit = None if seconds is None else (time.monotonic() + seconds, seconds)
    token = _DEADLINE.set(limit)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def deadline() -> float:
    """Until when the pass that begins now must have answered, as `time.monotonic` counts."""
    latest = time.monotonic() + LONGEST_PASS
    limit = _DEADLINE.get()
    return latest if limit is None else min(latest, limit[0])


def check_time() -> None:
    """Refuse one more pass when the time is over.

    Raises:
        ModelError: it is.
    """
    limit = _DEADLINE.get()
    if limit is not None and time.monotonic() >= limit[0]:
        raise too_slow()


def too_slow() -> ModelError:
    """What a model is recorded with that did not answer in time."""
    limit = _DEADLINE.get()
    if limit is None or time.monotonic() < limit[0]:
        return ModelError("timed_out", f"one pass took longer than {LONGEST_PASS:.0f} s: it hangs.")
    return ModelError(
        "timed_out",
        f"it was not done within {limit[1]:g} s: it hangs, or needs a larger --time-limit.",
    )
