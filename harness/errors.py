"""Errors that a person can fix, and the nearest-name hint that many of them carry."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 120
"""Characters of a name that nothing has; no name that anything has is longer."""


class HarnessError(Exception):
    """Something the person can fix: printed as one sentence without traceback, exit code 2."""


class ModelError(Exception):
    """A model under evaluation misbehaved: its row is recorded as failed, the campaign goes on.

    Args:
        status: one word for the store, such as `non_finite` or `wrong_shape`.
        message: what was seen, for the person.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def first_line(error: BaseException) -> str:
    """What an error of somebody else's code says first; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> HarnessError:
    """The error for a name that nothing has, with the nearest one or else all of them."""
    choices = sorted(allowed)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(choices) or 'none'}."
    return HarnessError(f"no {kind} named '{_on_one_line(name)}'. {hint}")


def _on_one_line(name: str) -> str:
    """At most `_LONGEST` characters of a name, what cannot be printed written out."""
    cut = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in cut)
