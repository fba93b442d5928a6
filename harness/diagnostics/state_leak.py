"""D19: a forward pass that changes the model, or that reads the label."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnostics.diagnostic import AMBER, GREEN, RED, Reading, diagnostic
from harness.diagnostics.examination import Examination, NotRun
from harness.diagnostics.inside import look_inside
from harness.diagnostics.raw_pass import raw_logits

_LABEL_NAMES = ("y", "label", "labels", "target", "targets")


@diagnostic(
    "D19",
    title="State or label leak",
    amber="a forward pass flips train or eval mode, or takes labels that change nothing",
    red="it changes a parameter or buffer, or labels change the logits",
)
def state_leak(examination: Examination) -> Reading:
    """State before and after one pass, and what happens when labels are handed over."""
    effects = effects_of_a_pass(examination.module, images=examination.images)
    changed, flipped = effects["changed"], effects["flipped"]
    keyword, used = _label_use(examination)
    said = [f"a pass changes {name}" for name in changed[:3]]
    said += [f"a pass switches the mode of {name or 'the model'}" for name in flipped[:3]]
    if keyword:
        said.append(
            f"forward takes '{keyword}'" + (", and it changes logits" if used.any() else "")
        )
    is_red = bool(changed) or bool(used.any())
    return Reading(
        RED if is_red else AMBER if said else GREEN,
        float(len(changed) + len(flipped)),
        ("; ".join(said) or "a pass changes nothing and takes no labels") + ".",
        used,
    )


@look_inside(changed=[str], flipped=[str])
def effects_of_a_pass(module: nn.Module, *, images: Tensor) -> dict[str, Any]:
    """Which parameters and buffers one pass changes, and whose mode it switches; undone again."""
    with _restored(module):
        modes, state = _modes(module), _state(module)
        raw_logits(module, images)
        flipped = [name for name, mode in _modes(module).items() if mode != modes.get(name)]
        after = _state(module)
        changed = [name for name in state | after if state.get(name) != after.get(name)]
    return {"changed": changed, "flipped": flipped}


def _label_use(examination: Examination) -> tuple[str, Tensor]:
    """The keyword that takes labels, empty if none, and the images [N] whose logits they change."""
    found = use_of_labels(
        examination.module,
        images=examination.images,
        labels=examination.labels,
        shifted=(examination.labels + 1) % examination.capabilities.classes,
    )
    used = torch.zeros(len(examination.labels), dtype=torch.bool)
    used[: len(found["used"])] = torch.tensor(found["used"], dtype=torch.bool)[: len(used)]
    return found["keyword"], used


@look_inside(keyword=str, used=[bool])
def use_of_labels(
    module: nn.Module, *, images: Tensor, labels: Tensor, shifted: Tensor
) -> dict[str, Any]:
    """The keyword that takes labels, and per image whether they change the logits."""
    keywords = inspect.signature(module.forward).parameters
    keyword = next((name for name in _LABEL_NAMES if name in keywords), "")
    unused: dict[str, Any] = {"keyword": keyword, "used": []}
    if not keyword:
        return unused
    try:
        plain, again = _answer(module, images), _answer(module, images)
        given = [_answer(module, images, **{keyword: each}) for each in (labels, shifted)]
    except NotRun:  # labels cannot be left out, or cannot be given in evaluation
        return unused
    if not _alike(plain, again).all():
        return unused  # it does not answer twice alike (D16): no telling what labels do
    same = _alike(given[0], plain) & _alike(given[1], plain)
    return {"keyword": keyword, "used": (~same).tolist()}


def _answer(module: nn.Module, images: Tensor, **more: Tensor) -> Tensor:
    with _restored(module):
        return raw_logits(module, images, **more)


def _alike(first: Tensor, second: Tensor) -> Tensor:
    return torch.isclose(first, second, atol=1e-5, equal_nan=True).all(1).cpu()


def _modes(module: nn.Module) -> dict[str, bool]:
    return {name: child.training for name, child in module.named_modules()}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, those that are not saved included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _state(module: nn.Module) -> dict[str, str]:
    return {name: _digest(value) for name, value in _tensors(module).items()}


def _digest(value: Tensor) -> str:
    plain = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(plain.numpy().tobytes()).hexdigest()


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    """Leave the model as it was found, for the diagnostics that follow."""
    modes = _modes(module)
    kept = {name: value.detach().clone() for name, value in _tensors(module).items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in _tensors(module).items():
                if name in kept and kept[name].shape == value.shape:
                    value.copy_(kept[name])
        for name, child in module.named_modules():
            child.training = modes.get(name, child.training)
