"""The registry of exhibits: what is wrong with each, and which diagnostics must say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.diagnostics.examination import Examination
from harness.museum.hall import Hall
from harness.registry import Registry

Build = Callable[[Hall], Examination]


@dataclass(frozen=True)
class Exhibit:
    """One model that pretends, or an honest one.

    Args:
        name: the function's name.
        description: first line of the function's docstring: what is wrong with it.
        catches: diagnostic id -> the state that it must reach (`amber` means at least amber);
            `green` means that it must stay green. What is not named is not run.
        build: hall -> the examination of the model.
    """

    name: str
    description: str
    catches: Mapping[str, str]
    build: Build


EXHIBITS: Registry[Exhibit] = Registry("exhibit", "harness.museum", "robust_harness.exhibits")


def exhibit(**catches: str) -> Callable[[Build], Build]:
    """Register a function as an exhibit: `@exhibit(D10="red", I1="red")`."""

    def register(build: Build) -> Build:
        name = getattr(build, "__name__", "")
        description = (build.__doc__ or name).strip().partition("\n")[0]
        EXHIBITS.add(name, Exhibit(name, description, catches, build))
        return build

    return register
