"""The operations of one forward pass, seen from outside: what they are called, what they choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Function = Callable[..., Any]

CHOICES = {
    "argmax": 1, "argmin": 1, "max": 1, "min": 1, "topk": 2, "sort": 1, "argsort": 1,
    "kthvalue": 2, "median": 1, "nanmedian": 1, "mode": 1,
}  # fmt: skip
"""What returns indices into its input, and where its `dim` stands among its arguments."""

_LAST = {"topk", "sort", "argsort", "kthvalue", "mode"}
_READS_ROWS = {*CHOICES, "amax", "amin"}
_LOWEST = {"argmin", "min", "amin"}
_UNCHANGED = {"detach", "data", "clone", "contiguous", "softmax", "log_softmax"}

ROUNDINGS = {"round", "floor", "ceil", "trunc", "fix"}
SIGNS_OF_NUMBERS = {"sign", "sgn"}
REMAINDERS = {"remainder", "fmod", "frac", "mod", "imod"}
"""What rounding leaves: `x - x % 0.1` is a step function whose gradient is exactly zero."""

COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne", "heaviside"} | {
    "greater", "greater_equal", "less", "less_equal", "not_equal",
}  # fmt: skip
EXITS = {"numpy", "tolist", "array"}
"""What leaves PyTorch: whatever comes back carries no gradient."""

_FROM_OUTSIDE = {"tensor", "as_tensor", "asarray"}


def plain_name(function: Function) -> str:
    """One name for all spellings: `torch.round`, `Tensor.round_` and `x.__gt__` without dashes."""
    name = str(getattr(function, "__name__", type(function).__name__))
    if name == "__get__":
        name = str(getattr(getattr(function, "__self__", None), "__name__", name))
    return name.strip("_")


def is_in_place(function: Function) -> bool:
    """Whether a call changes its first argument."""
    name = str(getattr(function, "__name__", ""))
    if name.startswith("__"):
        return name == "__setitem__" or name in _IN_PLACE
    return name.endswith("_")


_IN_PLACE = {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "and", "or", "floordiv")}


def tensors_in(value: object) -> Iterator[Tensor]:
    """Every tensor in nested arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors_in(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors_in(one)


def axis(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Along which dimension a choice is made; None for one over all numbers."""
    place = CHOICES.get(name, 1)
    dim = kwargs.get("dim", args[place] if len(args) > place else None)
    if dim is None and name in _LAST:
        dim = -1
    return dim if type(dim) is int else None


def is_division(name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether it divides and rounds at once."""
    return name in {"floor_divide", "floordiv", "ifloordiv"} or bool(kwargs.get("rounding_mode"))


def indices_in(found: object) -> Tensor | None:
    """The indices among what a choice returned."""
    for tensor in tensors_in(found):
        if not tensor.is_floating_point() and tensor.dtype is not torch.bool:
            return tensor
    return None


class Watch(TorchFunctionMode):
    """Sees every operation of one pass and finds the rows that a choice inside it reads.

    `attacks.md` 9.2, A11: every [N, K] tensor that feeds an argmax or top-k is an unexposed head.

    Args:
        count: N, the images of this pass.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._rows: list[tuple[Tensor, bool]] = []
        self._origin: Any = WeakTensorKeyDictionary()
        self._softmax: Any = WeakTensorKeyDictionary()
        self._made: Any = WeakTensorKeyDictionary()
        self._row_of: Any = WeakTensorKeyDictionary()
        self._gone: list[Tensor] = []

    def perform(
        self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Do it; the mode is off inside."""
        del name
        return function(*args, **kwargs)

    def heads(self, logits: Tensor) -> tuple[Tensor, ...]:
        """The unexposed heads [N, K] in the order in which they were read.

        What a smallest number was chosen from (distances) counts with the other sign, and what
        softmax turned into the answer counts too: it keeps a gradient where softmax saturates.
        """
        rows, answer, was_softmax = [*self._rows], [logits], False
        while answer[-1] in self._origin:
            was_softmax |= answer[-1] in self._softmax
            answer.append(self._origin[answer[-1]])
        if was_softmax and not any(tensor is answer[-1] for tensor, _ in rows):
            rows.append((answer[-1], False))
        same = [] if was_softmax else answer
        return tuple(
            -tensor if is_lowest else tensor
            for tensor, is_lowest in rows
            if tensor.shape == logits.shape and not any(tensor is one for one in same)
        )

    def source(self, tensor: Tensor) -> Tensor | None:
        """What left PyTorch in the shape in which this one came back, if it did."""
        if not self._gone or tensor in self._made:
            return None
        same = (one for one in reversed(self._gone) if one.shape == tensor.shape)
        return next(same, None)

    def __torch_function__(
        self, func: Function, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = plain_name(func), kwargs or {}
        found = self.perform(name, func, args, kwargs)
        if name not in _FROM_OUTSIDE:
            for tensor in tensors_in(found):
                self._made[tensor] = True
        first = args[0] if args else kwargs.get("input")
        if isinstance(first, Tensor):
            self._follow(name, first, args, kwargs, found)
        return found

    def _follow(
        self, name: str, first: Tensor, args: Any, kwargs: dict[str, Any], found: Any
    ) -> None:
        if name in EXITS:
            self._gone.append(first)
        is_copy = name in _UNCHANGED and isinstance(found, Tensor) and found is not first
        if is_copy and first.is_floating_point() and tuple(found.shape) == tuple(first.shape):
            self._origin[found] = first
            if name == "softmax":
                self._softmax[found] = True
        is_cut = name == "unbind" or (name == "getitem" and type(args[1]) is int)
        if is_cut and self.is_row(first):
            for one in tensors_in(found):
                self._row_of[one] = first
        before = self._before(first)
        whole, dims = self._row_of.get(before), (1, -1)
        if whole is not None:  # one image's row at a time
            before, dims = self._before(whole), (0, -1)
        dim = axis(name, args, kwargs)
        is_choice = name in _READS_ROWS and (dim in dims or (whole is not None and dim is None))
        is_read = is_choice or name in EXITS  # outside, a choice is not seen
        is_new = not any(tensor is before for tensor, _ in self._rows)
        if is_read and is_new and self.is_row(before):
            self._rows.append((before, name in _LOWEST))

    def is_row(self, value: object) -> bool:
        """Whether it could be a head: floats [N, anything]."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return False
        return value.ndim == 2 and len(value) == self._count

    def _before(self, tensor: Tensor) -> Tensor:
        """Undo what keeps the order of a row: softmax, detaching, copies."""
        while tensor in self._origin:
            tensor = self._origin[tensor]
        return tensor
