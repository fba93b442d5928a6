"""Architectures by name: `@architecture` on a function that builds a trunk for a shape."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import HarnessError, unknown_name
from harness.identity import Value
from harness.models.trunk import Shape, Trunk
from harness.registry import Registry

LARGEST_SIZE = 1024
"""Whole-number settings are widths and depths; above this a typing error is likelier than a net."""


@dataclass(frozen=True)
class Architecture:
    """A trunk by name.

    Args:
        name: as in the column `architecture` of the published claims.
        function: (shape, **settings) -> trunk, with random weights.
        settings: every keyword of the function with its default.
        source: the paper that proposed it.
        description: one sentence.
    """

    name: str
    function: Callable[..., Trunk]
    settings: Mapping[str, Value]
    source: str
    description: str

    def build(self, shape: Shape, **settings: Value) -> Trunk:
        """A new trunk for images of `shape` (C, H, W), with random weights.

        Raises:
            HarnessError: a setting is unknown, of another type than its default, or a whole
                number outside 1 to 1024; or the shape is not three positive whole numbers.
        """
        if len(shape) != 3 or any(type(side) is not int or side < 1 for side in shape):
            raise HarnessError(
                f"the shape of an image is (channels, height, width), all at least 1, not {shape}."
            )
        for name, value in settings.items():
            self._check(name, value)
        return self.function(shape, **settings)

    def _check(self, name: str, value: Value) -> None:
        if name not in self.settings:
            raise unknown_name(f"setting of {self.name}", name, self.settings)
        default = self.settings[name]
        if type(value) is not type(default):
            raise HarnessError(
                f"{name} of {self.name} must be of type {type(default).__name__}, like its default "
                f"{default!r}, but is {value!r}."
            )
        if type(value) is int and not 1 <= value <= LARGEST_SIZE:
            raise HarnessError(
                f"{name} of {self.name} must be between 1 and {LARGEST_SIZE} but is {value}. "
                f"Default: {default}."
            )


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture", "harness.models", "robust_harness.architectures"
)


def architecture(*, source: str) -> Callable[[Callable[..., Trunk]], Callable[..., Trunk]]:
    """Register the function under its own name; its keywords and their defaults are settings."""

    def register(function: Callable[..., Trunk]) -> Callable[..., Trunk]:
        name = function.__name__
        description = (inspect.getdoc(function) or "").partition("\n")[0]
        ARCHITECTURES.add(
            name, Architecture(name, function, _settings(function), source, description)
        )
        return function

    return register


def _settings(function: Callable[..., Trunk]) -> dict[str, Value]:
    _, *keywords = inspect.signature(function).parameters.values()
    for keyword in keywords:
        if not isinstance(keyword.default, Value):
            raise HarnessError(
                f"'{keyword.name}' of {function.__name__} needs a default that is text, "
                "a number or a truth value: it is recorded with every result."
            )
    return {keyword.name: keyword.default for keyword in keywords}
