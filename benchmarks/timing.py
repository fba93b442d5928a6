"""Clocks, turns and counters: what every comparison is measured with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from harness.models.network import Network
from harness.outputs import Outputs

Found = TypeVar("Found")
Turns = dict[str, list[tuple[float, Found]]]
"""Per side, seconds and result of every round."""


def clocked(work: Callable[[], Found], device: str) -> tuple[float, Found]:
    """Seconds of the work and what it returned; what a GPU was asked for is waited for."""
    wait(device)
    started = time.perf_counter()
    found = work()
    wait(device)
    return time.perf_counter() - started, found


def wait(device: str) -> None:
    """Until the device has done all that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """The names, each first once in as many rounds: nobody always follows the same one."""
    start = number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def interleaved(sides: Mapping[str, Callable[[], Found]], rounds: int, device: str) -> Turns[Found]:
    """Run every side once per round, in turns; a slow minute of the machine meets them all."""
    taken: Turns[Found] = {name: [] for name in sides}
    for number in range(rounds):
        for name in in_turn([*sides], number):
            taken[name].append(clocked(sides[name], device))
    return taken


class Passes:
    """How many images went through networks: forward, and back again for a gradient."""

    def __init__(self) -> None:
        self.forwards = self.backwards = 0

    def entered(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook before every forward pass; a gradient of the images is counted when it comes."""
        if not isinstance(module, Network):
            return
        self.forwards += len(inputs[0])
        if inputs[0].requires_grad:
            inputs[0].register_hook(self._gradient)  # type: ignore[no-untyped-call]

    def left(self, module: nn.Module, inputs: tuple[Tensor, ...], found: object) -> None:
        """A hook after every forward pass, for gradients of the weights alone."""
        if not isinstance(module, Network) or not isinstance(found, Outputs):
            return
        if found.logits.requires_grad and not inputs[0].requires_grad:
            found.logits.register_hook(self._gradient)  # type: ignore[no-untyped-call]

    def _gradient(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@contextmanager
def counted() -> Iterator[Passes]:
    """Count the passes of every network of the harness inside, copies included."""
    passes = Passes()
    hooks = (
        register_module_forward_pre_hook(passes.entered),
        register_module_forward_hook(passes.left),
    )
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()
