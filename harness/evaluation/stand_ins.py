"""Smooth stand-ins of hard operations: what their gradient is taken from (`relaxed.Soften`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.evaluation.operations import (
    COMPARISONS,
    REMAINDERS,
    ROUNDINGS,
    SIGNS_OF_NUMBERS,
    Function,
    is_division,
    plain_name,
)

CASTS = {"to", "type", "type_as", "int", "long", "short", "byte", "char", "bool"}
"""What may turn numbers into integers or truth values."""


class _Straight(torch.autograd.Function):
    """Value of `hard`, gradient of `soft`; exact also for infinite numbers and -0."""

    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        del ctx, soft
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        del ctx
        return None, gradient


def straight(hard: Tensor, soft: Tensor) -> Tensor:
    """`hard` forward, `soft` backward, both of one shape."""
    found: Tensor = _Straight.apply(hard.detach(), soft)
    return found


@dataclass(frozen=True)
class Choice:
    """Indices that were chosen by scores, and how their shape was changed since.

    Args:
        scores: what was chosen from.
        dim: along which dimension.
        indices: as returned.
        steps: what was done to their shape since.
    """

    scores: Tensor
    dim: int
    indices: Tensor
    steps: tuple[Callable[[Tensor], Tensor], ...] = ()

    def odds(self, temperature: float) -> Tensor:
        """[*indices, K]: softmax over how near each score is to the chosen one.

        For an argmax this is `softmax(scores / temperature)`; for a sorted place it is SoftSort
        (Prillo and Eisenschlos, 2020, arXiv:2006.16038).
        """
        dim = self.dim % self.scores.ndim
        keeps = self.indices.ndim == self.scores.ndim
        indices = self.indices if keeps else self.indices.unsqueeze(dim)
        chosen = self.scores.gather(dim, indices).movedim(dim, -1)[..., None]
        apart = (self.scores.movedim(dim, -1)[..., None, :] - chosen).abs()
        odds = torch.softmax(-apart / temperature, dim=-1).movedim(-2, dim)
        odds = odds if keeps else odds.squeeze(dim)
        for step in self.steps:
            odds = torch.vmap(step, in_dims=-1, out_dims=-1)(odds)
        return odds


@dataclass(frozen=True)
class Call:
    """One operation with its arguments and what it returned."""

    name: str
    function: Function
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    found: Any


def smooth(call: Call, temperature: float) -> Tensor | None:
    """The stand-in of what a call returned; None where there is none.

    Args:
        call: with arguments in which every integer and truth value is a float already, so that
            the stand-in is differentiated at the hard values.
        temperature: of comparisons; those turn within about this distance.
    """
    name, args = call.name, call.args
    if name in COMPARISONS:
        soft = _compared(name, args[0], args[1], temperature)
    elif is_division(name, call.kwargs):
        soft = torch.true_divide(args[0], args[1])
    elif name in CASTS and not call.found.is_floating_point():
        soft = args[0]
    elif name in _SMOOTH:
        soft = _SMOOTH[name](args)
    else:
        soft = call.function(*args, **call.kwargs)
        soft = args[0] if soft is None else soft
    return soft if isinstance(soft, Tensor) and soft.is_floating_point() else None


def by_odds(call: Call, indices: Tensor, odds: Tensor) -> Tensor:
    """What a call returned, averaged over everything that `indices` could have been.

    Args:
        call: with `indices` among its arguments.
        indices: [*S].
        odds: [*S, K].
    """
    name, args = call.name, call.args
    if name == "one_hot":
        return odds
    if name == "embedding":
        return _mixed(odds, args[1])
    if name == "getitem" and args[1] is indices:
        return _mixed(odds, args[0])
    if name == "index_select":
        return _mixed(odds, args[0].movedim(args[1], 0)).movedim(0, args[1])
    if name == "scatter":
        return _scattered(odds, args, call.kwargs)
    return _averaged(call, indices, odds)


def _blended(mask: Any, yes: Any, no: Any) -> Any:
    return mask * _finite(yes) + (1 - mask) * _finite(no)


_SMOOTH: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(ROUNDINGS, lambda args: args[0]),
    **dict.fromkeys(REMAINDERS, lambda args: 0 * args[0]),
    **dict.fromkeys(SIGNS_OF_NUMBERS, lambda args: args[0].clamp(-1, 1)),
    "where": lambda args: _blended(*args),
    **dict.fromkeys(("masked_fill", "setitem"), lambda args: _blended(args[1], args[2], args[0])),
    **dict.fromkeys(("logical_not", "bitwise_not", "invert"), lambda args: 1 - args[0]),
    **dict.fromkeys(("logical_and", "bitwise_and", "and", "iand"), lambda args: args[0] * args[1]),
    **dict.fromkeys(
        ("logical_or", "bitwise_or", "or", "ior"), lambda args: 1 - (1 - args[0]) * (1 - args[1])
    ),
}


def _compared(name: str, left: Any, right: Any, temperature: float) -> Tensor:
    """How near a comparison is to turning: a sigmoid, for equality an exponential."""
    if name == "heaviside":  # its second argument is the value at zero
        return torch.sigmoid(torch.as_tensor(left) / temperature)
    difference: Tensor = (left - right) / temperature
    if name in {"eq", "ne", "not_equal"}:
        equal = torch.exp(-difference.abs())
        return equal if name == "eq" else 1 - equal
    return torch.sigmoid(difference if name.startswith("g") else -difference)


def _mixed(odds: Tensor, rows: Tensor) -> Tensor:
    """[*S, K], [M >= K, ...] -> [*S, ...]: the rows, weighted by their odds."""
    mixed: Tensor = torch.tensordot(odds, rows[: odds.shape[-1]], dims=([-1], [0]))
    return mixed


def _scattered(odds: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Each value written to every place by its odds: a soft mask of a top-k."""
    target, dim = args[0], args[1]
    value = kwargs.get("src", kwargs.get("value", args[3] if len(args) > 3 else 1.0))
    if isinstance(value, Tensor):
        value = value[..., None]
    weight = odds.sum(dim).movedim(-1, dim)
    written = (odds * value).sum(dim).movedim(-1, dim)
    return torch.as_tensor(target * (1 - weight) + written)


def _averaged(call: Call, indices: Tensor, odds: Tensor) -> Tensor:
    """Run the operation once per class; the leading slices of an index come before its shape."""
    rest = call.found.ndim - indices.ndim
    lead, tail = rest, 0  # elementwise: broadcast from the right
    if plain_name(call.function) == "getitem":
        lead = next(i for i, one in enumerate(call.args[1]) if isinstance(one, Tensor))
        tail = rest - lead
    total = torch.zeros((), device=odds.device)
    for number in range(odds.shape[-1]):
        swapped = _swapped(call.args, indices, torch.full_like(indices, number))
        share = odds[..., number].reshape((1,) * lead + indices.shape + (1,) * tail)
        total = total + share * call.function(*swapped, **call.kwargs).to(odds.dtype)
    return total


def _swapped(value: Any, old: Tensor, new: Tensor) -> Any:
    if value is old:
        return new
    if isinstance(value, (list, tuple)):
        return type(value)(_swapped(one, old, new) for one in value)
    return value


def _finite(value: Any) -> Any:
    """A number without infinities, which a weight of zero would turn into NaN."""
    if isinstance(value, Tensor):
        return torch.nan_to_num(value, 0.0, 0.0, 0.0)
    return value if math.isfinite(value) else 0.0
