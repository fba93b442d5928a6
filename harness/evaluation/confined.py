"""Foreign models in a process of their own, which is told neither the store nor any label.

The attack, its labels and its verdict stay here; the other process only answers images with logits
and gradients. What it says is read as data, within limits of size and time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import harness
from harness.diagnostics.inside import Elsewhere
from harness.errors import HarnessError, ModelError
from harness.evaluation.channel import BadMessageError, Channel, Message
from harness.evaluation.messages import heard_outputs, spoken_select
from harness.evaluation.patience import deadline, too_slow
from harness.identity import Capabilities
from harness.outputs import Outputs, Select

_CODE = "import sys; from harness.evaluation.guest import main; main(int(sys.argv[1]))"
_KEPT = re.compile(
    r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|USER|LD_LIBRARY_PATH|VIRTUAL_ENV|XDG_CACHE_HOME|TORCH_HOME"
    r"|(OMP|MKL|KMP|CUDA|CUBLAS|NVIDIA|TORCHINDUCTOR)_\w+|CUDA_VISIBLE_DEVICES"
)
"""Variables that the process of a model may see: nothing of the harness, no password."""

_LARGEST_ANSWER = 2**30
"""Bytes of tensors that one pass may return."""

_MOST_TENSORS = 20_000
_LOADING = 300.0
"""Seconds within which PyTorch is loaded, on a disk that is slow."""

_PATIENCE = 10.0
"""Seconds within which a process that only forks must answer."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_STATUS = re.compile(r"[a-z][a-z_]{0,39}")


class Zygote:
    """A process with PyTorch loaded that turns into the process of a model, again and again.

    Raises:
        HarnessError: it cannot be started.
    """

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, str(theirs.fileno())],
                cwd=tempfile.gettempdir(),
                env=_environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            self._control.close()
            raise HarnessError(
                f"no process can be started for the model: {error.strerror or error}."
            ) from error
        finally:
            theirs.close()
        self.end = weakref.finalize(self, _end, self._process, self._control)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def start(self, theirs: socket.socket) -> int:
        """Start the process of a model that serves on a socket; its id.

        Raises:
            HarnessError: it cannot be started.
        """
        with contextlib.suppress(OSError, EOFError):
            words = f"start {torch.get_num_threads()}".encode()
            self._control.settimeout(_LOADING)
            socket.send_fds(self._control, [words], [theirs.fileno()])
            return self._answer()
        self.end()
        raise HarnessError("no process can be started for the model: is there memory left?")

    def exit_code(self, child: int) -> int:
        """How a process ended: minus the signal that ended it; 0 where nobody knows."""
        with contextlib.suppress(OSError, EOFError):
            self._control.settimeout(_PATIENCE)
            self._control.sendall(f"ended {child}".encode())
            return self._answer()
        self.end()  # a model has stopped or ended it
        return 0

    def _answer(self) -> int:
        found = self._control.recv(4, socket.MSG_WAITALL)
        if len(found) < 4:
            raise EOFError
        return int.from_bytes(found, signed=True)


@functools.lru_cache(maxsize=1)
def _zygote() -> Zygote:
    return Zygote()


def _living_zygote() -> Zygote:
    if not _zygote().is_alive:  # somebody ended it
        _zygote.cache_clear()
    return _zygote()


class Link:
    """The process of one model, and what is said to it.

    Raises:
        HarnessError: it cannot be started.
    """

    def __init__(self) -> None:
        self._zygote = _living_zygote()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = self._zygote.start(theirs)
        except BaseException:
            ours.close()
            raise
        handle = os.pidfd_open(self.process) if hasattr(os, "pidfd_open") else None
        self._channel = Channel(ours)
        self._ended: ModelError | None = None
        self._unused: list[int] = []
        self.close = weakref.finalize(self, _hang_up, self._channel, self.process, handle)

    def ask(
        self,
        words: Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        *,
        most: int = _LARGEST_ANSWER,
    ) -> Message:
        """Say something and wait for the answer.

        Args:
            words: plain values.
            tensors: by name.
            most: bytes of the tensors that may come back.

        Raises:
            ModelError: the model misbehaved, was too slow, or ended its process.
            HarnessError: what the other side refused with a sentence.
        """
        if self._ended is not None:
            raise self._ended
        until = deadline()
        forget, self._unused = self._unused, []
        try:
            self._channel.send({**words, "forget": forget}, tensors, deadline=until)
            answer = self._channel.receive(deadline=until, most=most)
        except TimeoutError as error:
            raise self._over(too_slow()) from error
        except (EOFError, OSError) as error:
            raise self._over(self._crash()) from error
        except BadMessageError as error:
            said = f"the model's process sent {error}."
            raise self._over(ModelError("bad_answer", said)) from error
        except BaseException:  # interrupted half way: nobody knows what comes next
            self._over(ModelError("crashed", "the model's process was interrupted."))
            raise
        _check(answer.header)
        return answer

    def forget(self, number: int) -> None:
        """Say with the next question that a pass will not be differentiated any more."""
        self._unused.append(number)

    def _over(self, error: ModelError) -> ModelError:
        self._ended = error
        self.close()
        return error

    def _crash(self) -> ModelError:
        code = self._zygote.exit_code(self.process)
        how = f"was ended by signal {-code}" if code < 0 else "ended"
        return ModelError(
            "crashed", f"the process of the model {how}: out of memory, or the model left it."
        )


class RemoteModule(Elsewhere):
    """A module whose code runs elsewhere; it takes and gives what that module does.

    It has no parameters here. Two passes of one graph may each be differentiated once or more, but
    not twice in a row (no second derivatives).

    Args:
        link: to its process, which has built the model.
    """

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.link = link
        self._seed: int | None = None
        self._is_wide = False
        self._must_reset = False
        self._size = 0

    @classmethod
    def built(cls, reference: str, sha256: str, place: Path, device: str) -> tuple[Self, str, int]:
        """Start a process and import a model there.

        Returns:
            module: the model, with random weights.
            sha256: over its files.
            parameters: how many.

        Args:
            reference: `FILE.py:CALLABLE` with an absolute path, or `package.module:CALLABLE`.
            sha256: what its files' content must be, or empty.
            place: where a package may lie that is not installed; not told for a file.
            device: where it computes.

        Raises:
            HarnessError: as `third_party.import_model`.
        """
        module = cls(Link())
        words = {"do": "build", "reference": reference, "sha256": sha256, "device": device}
        is_file = reference.rpartition(":")[0].endswith(".py")
        said = module.say({**words, "place": "" if is_file else str(place)}).header
        found, parameters = said.get("sha256"), said.get("parameters")
        if not (isinstance(found, str) and _SHA256.fullmatch(found)):
            raise ModelError("bad_answer", "the model's process said no digest of its files.")
        if type(parameters) is not int or not 0 <= parameters < 2**63:
            raise ModelError("bad_answer", "the model's process said no number of parameters.")
        return module, found, parameters

    def say(self, words: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> Message:
        """Ask its process something.

        Raises:
            ModelError: it misbehaved before its first pass, which no row is recorded for yet.
        """
        return self.link.ask(words, tensors)

    def fit(self, weights: Mapping[str, Tensor], name: str) -> None:
        """Put weights into it.

        Raises:
            HarnessError: as `third_party.load_foreign_weights`.
        """
        self._size = sum(one.numel() * one.element_size() for one in weights.values())
        self.say({"do": "fit", "name": name}, weights)

    def probe(self, images: Tensor, classes: int) -> Capabilities:
        """`third_party.probe` over there; what it says is checked.

        Raises:
            HarnessError: as `third_party.probe`.
            ModelError: what it says is no description of a model.
        """
        from harness.store import untrusted  # noqa: PLC0415 - the other process needs none of it

        said = self.say({"do": "probe", "classes": classes}, {"images": images}).header
        try:
            found = untrusted.capabilities(said.get("capabilities"))
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError("bad_answer", f"the model is described as {error}.") from error
        is_foreign = not found.strip and not found.training_loss
        if found.classes != classes or not 1e-4 <= found.scale < 1e6 or not is_foreign:
            raise ModelError("bad_answer", "the model is described as what it cannot be.")
        return found

    def open(self, capabilities: Capabilities) -> None:
        """`third_party.opened` over there."""
        self.say({"do": "open", "capabilities": capabilities.to_json()})

    def forward(self, images: Tensor, *, select: Select = None, **given: Tensor) -> Outputs:
        """One pass over there."""
        wanted = torch.is_grad_enabled() and images.requires_grad
        words, tensors = spoken_select(select)
        words |= {
            "do": "pass",
            "given": list(given),
            "gradient": wanted,
            "seed": self._seed,
            "is_wide": self._is_wide,
            "reset": self._must_reset,
        }
        self._must_reset = False
        call = _Call(self.link, words, {**tensors, **given}, images.device)
        found: tuple[Tensor, ...] = _Pass.apply(images, call)
        self.training = call.said.get("training") is True
        return heard_outputs(call.said, dict(zip(call.names, found, strict=True)))

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Random numbers of passes inside start from `seed` over there."""
        self._seed = seed
        try:
            yield
        finally:
            self._seed = None

    def look(self, question: str, **tensors: Tensor) -> dict[str, Any]:
        answer = self.say({"do": "look", "question": question}, tensors)
        found = answer.header.get("found")
        if not isinstance(found, dict):
            raise ModelError("bad_answer", "the model's process said what is no answer.")
        return found

    def state_dict(  # type: ignore[override]
        self, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Its parameters and buffers, fetched."""
        del args, kwargs
        return self.link.ask({"do": "state"}, most=2 * self._size + _LARGEST_ANSWER).tensors

    def train(self, mode: bool = True) -> Self:
        """Training mode is refused in silence; evaluation mode is restored with the next pass."""
        del mode
        self.training = False
        self._must_reset = True
        return self

    def double(self) -> Self:
        """The same model in float64, as another module on the same process."""
        wide = type(self)(self.link)
        wide._is_wide = True
        return wide

    def __deepcopy__(self, memo: object) -> Self:
        """There is one process; copies share it."""
        del memo
        return self


class _Call:
    """One pass: what is asked, and what was said."""

    def __init__(
        self, link: Link, words: Mapping[str, Any], tensors: dict[str, Tensor], device: torch.device
    ) -> None:
        self._link, self._words, self._tensors, self._device = link, words, tensors, device
        self.said: Mapping[str, Any] = {}
        self.names: tuple[str, ...] = ()
        self._number = 0

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], list[str]]:
        """The answer, and which parts of it can be differentiated."""
        answer = self._link.ask(self._words, {**self._tensors, "images": images})
        self.said = answer.header
        self.names = tuple(answer.tensors)
        if len(answer.tensors) > _MOST_TENSORS:
            raise ModelError("bad_answer", f"the model returned {len(answer.tensors)} tensors.")
        listed = answer.header.get("differentiable")
        named = set(listed) if _is_words(listed) else set()
        able = [name for name in answer.tensors if name in named]
        number = answer.header.get("id")
        self._number = number if able and isinstance(number, int) else 0
        return {name: one.to(self._device) for name, one in answer.tensors.items()}, able

    def backward(self, gradients: dict[str, Tensor]) -> Tensor:
        """Gradient with respect to the images."""
        answer = self._link.ask({"do": "backward", "id": self._number}, gradients)
        return answer.tensors.get("images", torch.empty(0))

    def __del__(self) -> None:
        if self._number:
            self._link.forget(self._number)


class _Pass(torch.autograd.Function):
    """A pass that another process differentiates."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, call: _Call) -> tuple[Tensor, ...]:
        found, able = call.forward(images)
        ctx.call, ctx.like = call, (images.shape, images.dtype, images.device)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(one for name, one in found.items() if name not in able))
        return tuple(found.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        given = {
            name: one
            for name, one in zip(ctx.call.names, gradients, strict=True)
            if one is not None
        }
        if not given:
            return None, None
        found = ctx.call.backward(given)
        shape, dtype, device = ctx.like
        if found.shape != shape or not found.is_floating_point():
            raise ModelError("bad_answer", "the model's process returned what is no gradient.")
        return found.to(device, dtype), None


def _check(header: Mapping[str, Any]) -> None:
    """Raise what the other side raised, in words of a sane length."""
    kind = header.get("error")
    if kind is None:
        return
    if kind == "memory":
        raise torch.OutOfMemoryError("the process of the model ran out of memory")
    message = "".join(one for one in str(header.get("message")) if one.isprintable())
    if kind == "harness":
        raise HarnessError(message[:4000])
    status = str(header.get("status"))
    raise ModelError(status if _STATUS.fullmatch(status) else "raised", message[:1000])


def _is_words(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _environment() -> dict[str, str]:
    """What the process of a model inherits; it imports the harness from where this one did."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    root = str(Path(harness.__file__).resolve().parent.parent)
    return {**kept, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}


def _hang_up(channel: Channel, process: int, handle: int | None) -> None:
    """End the process of a model and whatever it has started.

    Args:
        channel: to it.
        process: its id, and that of its process group.
        handle: means this very process even when its id is somebody else's by now.
    """
    channel.close()
    with contextlib.suppress(ProcessLookupError):
        if handle is not None:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.killpg(process, signal.SIGKILL)
    if handle is not None:
        os.close(handle)


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    """It ends its processes first, then itself; one that a model has stopped is ended."""
    control.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
