"""Looks inside a module, which happen in the process that holds it.

A look takes the module and tensors and returns plain values of announced kinds. Asked about a
module whose code runs elsewhere, it is handed over by its name, and what comes back is checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from harness.diagnostics.examination import NotRun
from harness.errors import ModelError

Look = Callable[..., dict[str, Any]]

QUESTIONS: dict[str, Look] = {}

_LONGEST = 80


class Elsewhere(nn.Module):
    """A module whose code runs in another process."""

    def look(self, question: str, **tensors: Tensor) -> dict[str, Any]:
        """Answer a key of `QUESTIONS` over there."""
        raise NotImplementedError


def look_inside(**kinds: type | list[type]) -> Callable[[Look], Look]:
    """Register a look; its tensors are given by keyword.

    Args:
        kinds: what it returns by name, such as `int`, or `[str]` for a list of texts.

    Raises:
        NotRun: the module raised over there, or answered something else.
    """

    def register(function: Look) -> Look:
        QUESTIONS[function.__name__] = function

        @functools.wraps(function)
        def looked(module: nn.Module, **tensors: Tensor) -> dict[str, Any]:
            if not isinstance(module, Elsewhere):
                return function(module, **tensors)
            try:
                found = module.look(function.__name__, **tensors)
            except ModelError as error:
                raise NotRun(str(error)) from error
            return {name: _checked(found.get(name), kind) for name, kind in kinds.items()}

        return looked

    return register


def _checked(value: Any, kind: type | list[type]) -> Any:
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise NotRun("the model's process said what is no answer.")
        return [_checked(one, kind[0]) for one in value]
    if type(value) is not kind:
        raise NotRun("the model's process said what is no answer.")
    if isinstance(value, str):
        return "".join(one for one in value[:_LONGEST] if one.isprintable())
    return value
