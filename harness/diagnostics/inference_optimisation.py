"""D17: a forward pass that differentiates, such as a purifier or a test-time adaptation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.diagnostics.diagnostic import AMBER, GREEN, RED, Reading, diagnostic
from harness.diagnostics.examination import Examination
from harness.diagnostics.inside import look_inside
from harness.diagnostics.raw_pass import raw_logits

_IMAGES = 16
_ENGINE = "_engine_run_backward"
_ENTRIES: tuple[tuple[Any, str], ...] = (
    (torch.autograd, "grad"),
    (torch.autograd, "backward"),
    (torch.Tensor, "backward"),
    (torch.func, "grad"),
    # what all of them call in the end, and names that a model imported before do too
    (torch.autograd, _ENGINE),
)


@diagnostic(
    "D17",
    title="Optimisation at inference",
    amber="the forward pass differentiates, or enables gradients",
    red="and does so more than once",
)
def inference_optimisation(examination: Examination) -> Reading:
    """Whether one forward pass calls autograd or turns gradients on.

    Its seconds are only told: on small models they say more about the machine than about the
    operations, so the third clause of the definition (5 times the FLOP estimate) decides nothing.
    """
    found = autograd_in_a_pass(examination.module, images=examination.images[:_IMAGES])
    backwards = found["backwards"]
    is_hit = found["is_called"] or found["enabled"]
    return Reading(
        RED if backwards > 1 else AMBER if is_hit else GREEN,
        float(backwards),
        _sentence(found),
        None,
        {"seconds": (found["seconds"],)},
    )


@look_inside(is_called=bool, enabled=bool, backwards=int, seconds=float)
def autograd_in_a_pass(module: nn.Module, *, images: Tensor) -> dict[str, Any]:
    """What one forward pass does with autograd, and its seconds."""
    with _watched() as watch:
        started = time.perf_counter()
        raw_logits(module, images)
        seconds = time.perf_counter() - started
    return {
        "is_called": watch.is_called,
        "enabled": watch.enabled,
        "backwards": watch.backwards,
        "seconds": seconds,
    }


class _Watch(TorchFunctionMode):
    """Counts what a forward pass does with autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.is_called = False
        self.backwards = 0
        self.enabled = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.enabled |= torch.is_grad_enabled()
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Counted:
    """An entry point that says that it was called."""

    original: Callable[..., Any]
    watch: _Watch
    is_engine: bool

    def __call__(self, *args: Any, **more: Any) -> Any:
        self.watch.is_called = True
        self.watch.backwards += self.is_engine
        return self.original(*args, **more)

    def __get__(self, instance: Any, owner: Any = None) -> Callable[..., Any]:
        """Stay a method where the original was one."""
        return self if instance is None else lambda *args, **more: self(instance, *args, **more)


@contextmanager
def _watched() -> Iterator[_Watch]:
    """Replace autograd's entry points, and put them back whatever happens."""
    watch = _Watch()
    originals = [(owner, name, getattr(owner, name)) for owner, name in _ENTRIES]
    try:
        for owner, name, original in originals:
            setattr(owner, name, _Counted(original, watch, name == _ENGINE))
        with torch.no_grad(), watch:  # in this order: turning them off is not turning them on
            yield watch
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _sentence(found: Mapping[str, Any]) -> str:
    if found["backwards"]:
        return f"backward passes within one forward pass: {found['backwards']}."
    if found["is_called"]:
        return "the forward pass calls autograd."
    if found["enabled"]:
        return "the forward pass turns gradients on where they are off."
    return "the forward pass leaves autograd alone."
