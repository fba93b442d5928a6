"""What one recorded forward pass shows about a model from elsewhere (`protocol.md` section 4)."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from harness.evaluation.handle import as_outputs
from harness.evaluation.provenance import Recorder
from harness.evaluation.relaxed import Relaxed
from harness.identity import Capabilities
from harness.outputs import Outputs

HIDDEN_HEADS = "hidden_heads"

SIGNS = {
    "bounded_logits": "logits of bounded size, answered by rescaled logits (A8) and dlr",
    "angular_logits": "logits are negative angles, answered by their cosines too (A8)",
    "softmax_output": "answers are probabilities, answered by the logits before softmax (A1, A8)",
    HIDDEN_HEADS: "hidden logits feed a choice, answered as auxiliary heads (A1 to A3, A5)",
    "several_networks": "several networks see the image, answered by attacks on each and transfer",
    "input_transformation": "images are transformed first, answered by straight_through (A11)",
    "inference_gradient": "it differentiates inside, answered by transfer and black-box attacks",
    "custom_gradient": "it replaces its own gradients, answered by transfer and black-box attacks",
    "label_input": "its forward pass accepts labels; it never gets any here",
    "changed_by_recording": "recording changes its bits, so nothing hidden could be opened",
}
"""What a recording can show besides hard operations, and which objective answers it."""

REPEATS = 8
"""Passes with other seeds; a model that tosses one fair coin repeats itself in 1 of 128 cases."""

_LABELS = {"y", "label", "labels", "target", "targets", "lbl", "y_true"}


@dataclass(frozen=True)
class Recording:
    """What one pass showed.

    Args:
        hard: operations whose gradient is zero or missing and that reach the answer, each once,
            in the order in which they run.
        heads: number of unexposed heads (`Watch.heads`).
        select: whether forcing the choice that they feed changes the answer.
        is_random: whether passes with other seeds differ.
        signs: keys of `SIGNS`, in that order.
    """

    hard: tuple[str, ...] = ()
    heads: int = 0
    select: bool = False
    is_random: bool = False
    signs: tuple[str, ...] = ()


def record(module: nn.Module, images: Tensor) -> Recording:
    """Run a model once in evaluation mode and say what standard attacks would not see.

    Args:
        module: images -> logits [N, K] or `Outputs`; it is frozen and put into evaluation mode.
        images: [N, C, H, W] in [0, 1], two or more that differ.
    """
    module.eval().requires_grad_(requires_grad=False)
    with torch.no_grad(), seeded(0):
        plain = as_outputs(module(images)).logits
    watch = Recorder(len(images))
    followed = images.clone().requires_grad_()
    with torch.enable_grad(), seeded(0):  # attention layers take other kernels with gradients
        unwatched = as_outputs(module(followed)).logits
    found = _recorded(module, followed, watch, plain.shape[1])
    silent = Recorder(len(images))
    with torch.no_grad(), seeded(0), silent:
        module(images)
    marks = watch.marks(found.logits)
    hard = tuple(name for name in watch.order if name in marks)
    heads = watch.heads(found.logits)
    is_random = _is_random(module, images, plain)
    signs = {
        "bounded_logits": watch.is_bounded(found.logits) or _has_one_norm(plain),
        "softmax_output": _sums_to_one(plain),
        "several_networks": watch.answers >= 2,
        "input_transformation": "input_transformation" in marks,
        "inference_gradient": watch.differentiates or silent.enables,
        "custom_gradient": _has_custom_gradient(found.logits),
        "label_input": bool(_LABELS & set(_parameters(module))),
    }
    if not _same(found.logits, unwatched):
        signs["changed_by_recording"] = not is_random
        return Recording(hard, 0, False, is_random, _true(signs))
    signs[HIDDEN_HEADS] = bool(heads)
    inside = signs["inference_gradient"]
    select = bool(heads) and _can_force(module, images, plain, len(heads), has_gradient=inside)
    return Recording(hard, len(heads), select, is_random, _true(signs))


def explained(capabilities: Capabilities) -> list[str]:
    """What a recording found, one line each, with the objective that answers it."""
    lines = []
    if capabilities.hard:
        lines.append(
            f"without a gradient: {', '.join(capabilities.hard)}; answered by straight_through(T) "
            "(A4, A11)"
        )
    if capabilities.is_random:
        lines.append("random: answered by means over 20 draws, judged by majority of 100")
    return [*lines, *(f"{sign}: {SIGNS.get(sign, sign)}" for sign in capabilities.signs)]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Every global generator starts from `seed` inside and goes on as before after it."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


@contextmanager
def drawing(module: nn.Module, seed: int) -> Iterator[None]:
    """`seeded`; a generator that the module keeps among its attributes starts from `seed` too."""
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Generator):
                value.manual_seed(seed)
    with seeded(seed):
        yield


def _recorded(module: nn.Module, images: Tensor, watch: Recorder, classes: int) -> Outputs:
    """One pass with gradients on, watched at every level."""
    watch.start(images, (*module.parameters(), *module.buffers()))
    hooks = _count_answers(module, watch, classes)
    try:
        with torch.enable_grad(), seeded(0), watch.below, watch:
            return as_outputs(module(images))
    finally:
        for remove in hooks:
            remove()


def _count_answers(module: nn.Module, watch: Recorder, classes: int) -> list[Callable[[], None]]:
    """Count the innermost calls that turn images into logits [N, K]; returns what undoes it."""
    before: list[int] = []

    def enter(_: nn.Module, __: object) -> None:
        before.append(watch.answers)

    def leave(_: nn.Module, given: tuple[Any, ...], found: object) -> None:
        entered = before.pop()
        logits = found.logits if isinstance(found, Outputs) else found
        is_answer = isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] == classes
        if is_answer and entered == watch.answers and given and watch.is_pixels(given[0]):
            watch.answers += 1

    return [
        hook.remove
        for part in module.modules()
        for hook in (part.register_forward_pre_hook(enter), part.register_forward_hook(leave))
    ]


def _is_random(module: nn.Module, images: Tensor, plain: Tensor) -> bool:
    for seed in range(1, REPEATS):
        with torch.no_grad(), seeded(seed):
            if not _same(as_outputs(module(images)).logits, plain):
                return True
    return False


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are equal, and NaN in the same places."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(
        one.nan_to_num(0.0), other.nan_to_num(0.0)
    )


def _can_force(
    module: nn.Module, images: Tensor, plain: Tensor, heads: int, *, has_gradient: bool
) -> bool:
    """Whether another class at every choice changes the answer."""
    others = (plain.argmax(1) + 1) % plain.shape[1]
    try:
        with torch.no_grad(), seeded(0):
            forced = Relaxed(module, heads, has_gradient=has_gradient)(images, select=others)
    except Exception:
        return False
    return forced.logits.shape == plain.shape and not torch.equal(forced.logits, plain)


def _sums_to_one(logits: Tensor) -> bool:
    return bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-4).all())


def _has_one_norm(logits: Tensor) -> bool:
    """Whether the logits of different images have one length, as normalised ones do."""
    norms = logits.double().norm(dim=1)
    is_equal = bool(((norms - norms[0]).abs() <= 1e-4 * norms[0]).all())
    return is_equal and not torch.allclose(logits, logits[:1])


def _has_custom_gradient(answer: Tensor) -> bool:
    """Whether a hand-written backward pass lies between answer and images."""
    waiting: list[Any] = [answer.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, BackwardCFunction):
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def _parameters(module: nn.Module) -> list[str]:
    return list(inspect.signature(module.forward).parameters)


def _true(signs: dict[str, bool]) -> tuple[str, ...]:
    return tuple(name for name in SIGNS if signs.get(name))
