"""Backward pass differentiable approximation of a model that exposes nothing (A11).

Athalye et al., 2018 (arXiv:1802.00420), section 4: every hard operation keeps its forward value,
bit by bit, and its gradient becomes that of a smooth stand-in. Which stand-in is our choice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from harness.errors import ModelError
from harness.evaluation.handle import as_outputs
from harness.evaluation.operations import (
    CHOICES,
    COMPARISONS,
    EXITS,
    REMAINDERS,
    ROUNDINGS,
    SIGNS_OF_NUMBERS,
    Function,
    Watch,
    axis,
    indices_in,
    is_division,
    is_in_place,
    plain_name,
    tensors_in,
)
from harness.evaluation.stand_ins import CASTS, Call, Choice, by_odds, smooth, straight
from harness.outputs import Outputs, Select, SoftSelect

_LARGEST = 2**26
"""Numbers in one table of odds; above it a choice keeps its hard gradient."""

_HARD = {*ROUNDINGS, *REMAINDERS, *SIGNS_OF_NUMBERS, *COMPARISONS, *CHOICES, *CASTS}
_BARRIERS = {"set_grad_enabled", "detach", "data"}
_SAME_ODDS = {*CASTS, "detach", "clone", "contiguous", "cpu", "cuda", "data"}
_SHAPES = {
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "expand", "expand_as", "permute",
    "transpose", "t", "T", "repeat", "movedim", "getitem",
}  # fmt: skip


class Relaxed(nn.Module):
    """A foreign module with its unexposed heads, gates that can be forced and soft gradients.

    Args:
        module: images [N, C, H, W] -> logits [N, K] or `Outputs` without auxiliary ones.
        heads: how many unexposed heads its recording showed.
        has_gradient: whether it differentiates inside; it then keeps its own `detach` and
            `no_grad`, which an inner search needs.
    """

    def __init__(self, module: nn.Module, heads: int, *, has_gradient: bool = False) -> None:
        super().__init__()
        self.module = module
        self._heads = heads
        self._has_gradient = has_gradient

    def forward(self, images: Tensor, *, select: Select = None) -> Outputs:
        """One pass, its logits those of the plain module bit by bit unless a gate is forced.

        Args:
            images: [N, C, H, W] in [0, 1].
            select: labels [N] force the choices that the heads feed, `SoftSelect` softens every
                hard operation backwards.
        """
        labels = select if isinstance(select, Tensor) else None
        temperature = select.temperature if isinstance(select, SoftSelect) else None
        found, heads = self._pass(images, temperature, labels)
        wanted = torch.is_grad_enabled() and images.requires_grad
        if wanted and not all(head.requires_grad for head in heads):  # computed under no_grad
            _, heads = self._pass(images, 1.0, labels)
        if wanted and not found.logits.requires_grad:
            found = replace(found, logits=_flat(found.logits, images))
        return replace(found, auxiliary=heads)

    def _pass(
        self, images: Tensor, temperature: float | None, labels: Tensor | None
    ) -> tuple[Outputs, tuple[Tensor, ...]]:
        soften = Soften(len(images), temperature, labels, opens=not self._has_gradient)
        with soften:
            found = as_outputs(self.module(images))
        heads = soften.heads(found.logits)
        if len(heads) != self._heads:
            raise ModelError(
                "changed_heads",
                f"the model read {len(heads)} hidden heads but {self._heads} when it was added: "
                "its forward pass depends on the images. Return them in Outputs.auxiliary.",
            )
        return found, heads


def _flat(logits: Tensor, images: Tensor) -> Tensor:
    """The same logits with a gradient of zero, so that attacks on other surfaces get their turn."""
    nothing = 0.0 * images.flatten(1).sum(1, keepdim=True).to(logits.dtype)
    return straight(logits, nothing.expand_as(logits))


class Soften(Watch):
    """Runs a pass with the same values and other gradients, or with forced choices.

    Integers and truth values carry no gradient, so each of them that came from the images has a
    float stand-in (`_stand_in`), or odds where it is an index (`_choices`); both are used up
    where a float comes out again.

    Args:
        count: N of the pass.
        temperature: of the soft choices; None leaves every gradient as it is.
        labels: [N], what choices between the classes of a head become; None leaves them.
        opens: whether `detach` and `no_grad` let gradients through when softening.
    """

    def __init__(
        self, count: int, temperature: float | None, labels: Tensor | None, *, opens: bool
    ) -> None:
        super().__init__(count)
        self._temperature = temperature
        self._labels = labels
        self._opens = opens
        self._choices: Any = WeakTensorKeyDictionary()
        self._stand_in: Any = WeakTensorKeyDictionary()

    def perform(
        self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._temperature is not None and self._labels is None:
            is_barrier = self._opens and name in _BARRIERS
            run = self._passed if is_barrier else self._softened
            return run(name, function, args, kwargs)
        found = function(*args, **kwargs)
        return found if self._labels is None else self._forced(name, found, args, kwargs)

    def _forced(self, name: str, found: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Indices of a choice between a head's columns, replaced by the labels."""
        indices = indices_in(found) if name in CHOICES and self.is_row(args[0]) else None
        if indices is None or axis(name, args, kwargs) not in {1, -1}:
            return found
        if self._labels is None or indices.numel() != len(self._labels):
            return found
        forced = self._labels.clamp(max=args[0].shape[1] - 1).view(indices.shape)
        return forced if isinstance(found, Tensor) else type(found)((found[0], forced))

    def _passed(
        self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What would stop a gradient lets it through."""
        if name == "set_grad_enabled" and args == (False,):
            return None
        if name != "set_grad_enabled" and args[0].requires_grad:
            return args[0].view_as(args[0])
        return function(*args, **kwargs)

    def _softened(
        self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if name in EXITS:
            return function(args[0].detach(), *args[1:], **kwargs)
        args = tuple(self._returned(one) for one in args)
        if not torch.is_grad_enabled() or not self._concerns(name, args, kwargs):
            return function(*args, **kwargs)
        if name == "unbind" and args[1:] in {(), (0,)}:  # a loop over its rows
            return tuple(
                self._softened("getitem", Tensor.__getitem__, (args[0], row), {})
                for row in range(len(args[0]))
            )
        if is_in_place(function):
            return self._changed_in_place(name, function, args, kwargs)
        call = Call(name, function, args, kwargs, function(*args, **kwargs))
        return self._attach(call.found, self._soft(call))

    def _returned(self, value: Any) -> Any:
        """A tensor that came back from outside PyTorch, tied to what had left."""
        source = self.source(value) if isinstance(value, Tensor) else None
        if source is None or value in self._stand_in:
            return value
        soft = self._stand_in.get(source, source)
        return self._attach(value, soft if soft.is_floating_point() else None)

    def _concerns(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        tensors = [*tensors_in(args), *tensors_in(kwargs)]
        if any(one in self._stand_in or one in self._choices for one in tensors):
            return True
        is_hard = name in _HARD or is_division(name, kwargs)
        return is_hard and any(one.requires_grad for one in tensors)

    def _changed_in_place(
        self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        target, rest = args[0], args[1:]
        hard, before = target.clone(), target.clone()
        if target in self._stand_in:
            self._stand_in[before] = self._stand_in[target]
        function(hard, *rest, **kwargs)
        soft = self._soft(Call(name, function, (before, *rest), kwargs, hard))
        target.copy_(self._attach(hard, soft))
        if hard in self._stand_in:
            self._stand_in[target] = self._stand_in[hard]
        return None if plain_name(function) == "setitem" else target

    def _attach(self, found: Any, soft: Tensor | None) -> Any:
        """`found` with the gradient of `soft`, now or where a float is made of it."""
        if soft is None or not isinstance(found, Tensor) or soft.shape != found.shape:
            return found
        if not soft.requires_grad:
            return found
        if found.is_floating_point():
            return straight(found, soft)
        self._stand_in[found] = soft
        return found

    def _soft(self, call: Call) -> Tensor | None:
        """The smooth stand-in of what an operation returned; None where there is none."""
        if call.name in CHOICES and call.args[0].is_floating_point():
            self._remember(call)
        if not isinstance(call.found, Tensor) or call.name in CHOICES:
            return None
        heat = 1.0 if self._temperature is None else self._temperature
        chosen = [one for one in tensors_in(call.args) if one in self._choices]
        try:
            if not chosen:
                return smooth(replace(call, args=self._floats(call.args)), heat)
            if self._is_still_chosen(call, chosen[0]):
                return None
            return by_odds(call, chosen[0], self._choices[chosen[0]].odds(heat))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None  # an operation whose smooth form is not known keeps its own gradient

    def _floats(self, value: Any) -> Any:
        """Arguments with floats for integers and truth values: hard value, soft gradient."""
        if isinstance(value, Tensor):
            soft = self._stand_in.get(value)
            return value if soft is None else straight(value.to(soft.dtype), soft)
        if isinstance(value, (list, tuple)):
            return type(value)(self._floats(one) for one in value)
        return value

    def _remember(self, call: Call) -> None:
        """Keep what the indices of a choice were chosen by."""
        indices, scores = indices_in(call.found), call.args[0]
        if indices is None or indices.numel() == 0 or not scores.requires_grad:
            return
        dim, shape = axis(call.name, call.args, dict(call.kwargs)), indices.shape
        if dim is None:
            one = indices.reshape(1)
            choice = Choice(scores.flatten(), 0, one, (lambda odds: odds.reshape(shape),))
        else:
            choice = Choice(scores, dim, indices)
        if indices.numel() * choice.scores.shape[choice.dim] <= _LARGEST:
            self._choices[indices] = choice

    def _is_still_chosen(self, call: Call, indices: Tensor) -> bool:
        """Whether a call only changed the shape of indices; its result is then a choice too."""
        if call.args[0] is not indices or call.found.is_floating_point():
            return False
        choice = self._choices[indices]
        if call.name in _SAME_ODDS:
            self._choices[call.found] = choice
        elif call.name in _SHAPES:
            step = lambda odds: call.function(odds, *call.args[1:], **call.kwargs)  # noqa: E731
            self._choices[call.found] = replace(choice, steps=(*choice.steps, step))
        return call.name in _SAME_ODDS | _SHAPES
