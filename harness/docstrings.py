"""What a docstring says about each argument, for commands that print it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

_ARGUMENT = re.compile(r"    (?P<names>\w+(?:, \w+)*): (?P<text>.*)")


def argument_texts(function: Callable[..., Any]) -> dict[str, str]:
    """The `Args:` section of a docstring in Google style: one text per name, in one line each.

    A line `a, b: text` speaks of both. Without the section nothing is said.
    """
    _, _, section = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        start = _ARGUMENT.fullmatch(line)
        if start is not None:
            names = start["names"].split(", ")
        text = start["text"] if start else line
        for name in names:
            found[name] = f"{found.get(name, '')} {text.strip()}".strip()
    return found
