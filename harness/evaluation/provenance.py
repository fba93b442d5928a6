"""Which tensors of a recorded pass come from the image, and through what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from harness.evaluation.operations import (
    COMPARISONS,
    EXITS,
    REMAINDERS,
    ROUNDINGS,
    SIGNS_OF_NUMBERS,
    Function,
    Watch,
    indices_in,
    is_division,
    is_in_place,
    tensors_in,
)

_HARD = ROUNDINGS | REMAINDERS | SIGNS_OF_NUMBERS | COMPARISONS | {
    "argmax", "argmin", "topk", "sort", "argsort", "msort", "kthvalue", "median", "nanmedian",
    "mode", "quantize_per_tensor", "quantize_per_channel",
    "fake_quantize_per_tensor_affine", "bucketize", "searchsorted", "one_hot", "signbit",
}  # fmt: skip
_HIDDEN = {"argmax", "argmin", "topk", "sort", "kthvalue", "median", "mode", "bucketize"} | (
    ROUNDINGS | SIGNS_OF_NUMBERS
)
"""What counts when it runs inside another operation or compiled code, without its arguments."""

_DIFFERENTIATES = {"grad", "backward"}
_ANSWERS_NOTHING = {"isnan", "isinf", "isfinite", "any", "all", "bool", "shape", "is_nonzero"}
_FRESH = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros",
    "randint_like", "new_ones", "new_full", "new_empty", "new_tensor", "arange",
}  # fmt: skip
"""What takes a tensor's shape, not its numbers."""

_PRODUCTS = {
    "linear", "matmul", "mm", "bmm", "addmm", "einsum", "conv1d", "conv2d", "conv3d", "tensordot",
    "conv_transpose2d", "bilinear", "rmatmul",
}  # fmt: skip
_TRANSFORMATIONS = {
    "interpolate", "upsample", "grid_sample", "avg_pool2d", "max_pool2d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d", "lp_pool2d", "roll", "flip", "rot90", "fft_fft2", "fft_rfft2", "fft_fft",
}  # fmt: skip
_BOUNDED = {"cosine_similarity", "tanh", "sigmoid", "hardtanh", "hardsigmoid", "softsign", "erf"}
_SCALINGS = {
    "mul", "rmul", "imul", "div", "truediv", "itruediv", "neg", "view", "reshape", "flatten",
    "squeeze", "getitem", "float", "to", "contiguous", "clone", "detach", "T", "t", "dropout",
}  # fmt: skip
_SHIFTS = {"add", "radd", "iadd", "sub", "isub", "rsub"}


@dataclass(frozen=True)
class Trace:
    """Where a tensor came from.

    Args:
        marks: hard operations, and `input_transformation`, that it depends on.
        is_pixels: it is the image, nothing learned was applied yet.
        is_unit: its rows have norm one, or a common multiple of it.
        is_bounded: its numbers cannot grow with the weights.
    """

    marks: frozenset[str] = frozenset()
    is_pixels: bool = False
    is_unit: bool = False
    is_bounded: bool = False


class Below(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names of the operations below Python, where compiled code and composed functions show."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping it imports the compiler, which takes five seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func.name()).partition("::")[2].partition(".")[0].strip("_"))
        with torch._C.DisableTorchFunction():  # else the recorder sees it as a call of its own
            return func(*args, **(kwargs or {}))


class Recorder(Watch):
    """Follows what depends on the images."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.below = Below()
        self.order: dict[str, None] = {}
        self.answers = 0
        self.differentiates = self.enables = False
        self._traces: Any = WeakTensorKeyDictionary()
        self._learned: Any = WeakTensorKeyDictionary()
        self._always: set[str] = set()
        self._accounted = 0
        self._left: frozenset[str] | None = None

    def start(self, images: Tensor, state: Iterable[Tensor] = ()) -> None:
        """The images that everything is followed from, and what the model holds by itself."""
        self._traces[images] = Trace(is_pixels=True)
        for one in state:
            self._made[one] = True

    def marks(self, answer: Tensor) -> set[str]:
        """Everything that the answer depends on."""
        self._note(self._unaccounted(), self._always)
        trace = self._traces.get(answer, Trace())
        return {*trace.marks, *self._always}

    def is_bounded(self, answer: Tensor) -> bool:
        """Whether the answer's size is bounded by how it is computed."""
        trace = self._traces.get(answer, Trace())
        return bool(trace.is_bounded or trace.is_unit)

    def is_pixels(self, value: object) -> bool:
        """Whether it is the image, perhaps normalised or transformed."""
        return isinstance(value, Tensor) and self._traces.get(value, Trace()).is_pixels

    def perform(
        self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._note(self._unaccounted(), self._always)
        self.differentiates |= name in _DIFFERENTIATES
        if name == "set_grad_enabled" and args and args[0] and not torch.is_grad_enabled():
            self.enables = True
        given = [*tensors_in(args), *tensors_in(kwargs)]
        needed = any(one.requires_grad for one in given)
        found = function(*args, **kwargs)
        below = self._unaccounted()
        traces = [trace for one in given if (trace := self._trace(one)) is not None]
        results = [args[0]] if is_in_place(function) else [*tensors_in(found)]
        if not traces or name in _FRESH:
            if not traces and any(self._is_learned(one) for one in given):
                for one in results:
                    self._learned[one] = True
            return found
        self._leave(name, given, traces)
        marks = frozenset().union(*(trace.marks for trace in traces))
        if name in _HARD or is_division(name, kwargs):
            marks |= {name if name in _HARD else "floor_divide"}
        elif name not in _DIFFERENTIATES:
            marks |= {each for each in below if each in _HIDDEN}
        for one in results:
            self._put(name, one, marks, given, traces, was_needed=needed)
        return found

    def _put(
        self,
        name: str,
        one: Tensor,
        marks: frozenset[str],
        given: list[Tensor],
        traces: list[Trace],
        *,
        was_needed: bool,
    ) -> None:
        marks = marks | self._break(name, one, given, was_needed=was_needed)
        learned = name in _PRODUCTS and any(self._is_learned(other) for other in given)
        is_pixels = all(trace.is_pixels for trace in traces) and not learned
        new = marks - frozenset().union(*(trace.marks for trace in traces))
        if is_pixels and (new or name in _TRANSFORMATIONS | _PRODUCTS):
            marks |= {"input_transformation"}
        self._note(sorted(new - {"input_transformation"}), set())
        trace = traces[0]
        is_scaled = name in _SCALINGS and len(traces) == 1
        is_common = all(other.numel() == 1 for other in given if self._trace(other) is None)
        is_row = one.is_floating_point() and len(traces) > 0
        unit = (is_row and self._has_unit_rows(one)) or (trace.is_unit and is_scaled and is_common)
        bounded = name in _BOUNDED or (name in _PRODUCTS and any(t.is_unit for t in traces))
        bounded |= name == "clamp" and not is_pixels
        kept = len(traces) == 1 and name in _SCALINGS | _SHIFTS and trace.is_bounded
        self._set(one, Trace(marks, is_pixels, bool(unit), bool(bounded or kept)))

    def _set(self, tensor: Tensor, trace: Trace) -> None:
        self._traces[tensor] = trace
        base = tensor._base  # a write through a view changes what it is a view of
        if base is not None and trace.marks and base in self._traces:
            old = self._traces[base]
            if trace.marks - old.marks and not base.requires_grad:
                self._traces[base] = Trace(old.marks | trace.marks, old.is_pixels)

    def _trace(self, tensor: Tensor) -> Trace | None:
        """Where it came from; None for what does not depend on the images."""
        if tensor in self._traces:
            found: Trace = self._traces[tensor]
            return found
        source = self.source(tensor)
        if source is not None and source in self._traces:
            old = self._traces[source]
            return Trace(old.marks | {"numpy"}, old.is_pixels)
        if self._left is not None and tensor not in self._made:
            return Trace(self._left)  # nobody saw what was made of the numbers outside
        is_hidden = tensor.requires_grad and not isinstance(tensor, nn.Parameter)
        return Trace() if is_hidden else None  # compiled code returned it

    def _break(self, name: str, one: Tensor, given: list[Tensor], *, was_needed: bool) -> set[str]:
        """Why this result has no gradient although its arguments had one."""
        if name in _HARD | _DIFFERENTIATES | _ANSWERS_NOTHING:
            return set()
        if not one.is_floating_point():
            floats = any(other.is_floating_point() and other in self._traces for other in given)
            if not floats:
                return set()
            return {name} if indices_in(one) is None or name in {"max", "min"} else {"integer_cast"}
        if not was_needed or one.requires_grad:
            return set()
        if name in {"detach", "data"}:
            return {"detach"}
        return {name if torch.is_grad_enabled() else "no_grad"}

    def _leave(self, name: str, given: list[Tensor], traces: list[Trace]) -> None:
        """What leaves PyTorch as numbers may come back as an index of a list."""
        if name in EXITS:
            self._note(["numpy"], set())
            self._left = (self._left or frozenset()) | traces[0].marks | {"numpy"}
        if name in EXITS | {"item", "int", "index"} and not given[0].is_floating_point():
            self._note([], self._always)
            self._always |= traces[0].marks

    def _note(self, names: list[str], marks: set[str]) -> None:
        self.order.update(dict.fromkeys(names))
        marks.update(names)

    def _unaccounted(self) -> list[str]:
        """Hard operations below Python since the last look."""
        fresh = [name for name in self.below.seen[self._accounted :] if name in _HIDDEN]
        self._accounted = len(self.below.seen)
        return fresh

    def _is_learned(self, tensor: Tensor) -> bool:
        return isinstance(tensor, nn.Parameter) or tensor in self._learned

    def _has_unit_rows(self, tensor: Tensor) -> bool:
        if tensor.ndim < 2 or len(tensor) != self._count or tensor[0].numel() < 2:
            return False
        norms = tensor.detach().flatten(1).double().norm(dim=1)
        return bool(((norms - 1).abs() < 1e-4).all())
