"""The process of one foreign model: it gets the model's file, its weights and images, no more.

It knows no database, no label of an evaluation and no other model. It answers questions on a socket
until the other side hangs up; what it says is taken as data there.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnostics.diagnostic import DIAGNOSTICS
from harness.diagnostics.examination import NotRun
from harness.diagnostics.inside import QUESTIONS
from harness.errors import HarnessError, ModelError, first_line
from harness.evaluation.channel import Channel, Message
from harness.evaluation.exact import compute_exactly
from harness.evaluation.handle import as_outputs
from harness.evaluation.messages import heard_select, spoken_outputs
from harness.evaluation.recording import drawing
from harness.evaluation.third_party import import_model, load_foreign_weights, opened, probe
from harness.identity import Capabilities
from harness.models.network import parameter_count
from harness.outputs import Outputs

Answer = tuple[Mapping[str, Any], Mapping[str, Tensor]]
NOTHING: dict[str, Tensor] = {}

_PATIENCE = 100
_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Wait with PyTorch loaded, and become the process of a model as often as is asked.

    On the control socket come `start THREADS` with the socket to serve on, and `ended PID`; the
    answers are a number each. When it is closed every process started ends with this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side decides when to stop
    control = socket.socket(fileno=descriptor)
    children: dict[int, int | None] = {}
    while True:
        said, sockets, *_ = socket.recv_fds(control, 64, 1)
        if not said:
            break
        word, number = said.decode().split()
        if word == "start":
            child = os.fork()
            if child == 0:
                os.setsid()  # whatever the model starts is ended with it
                _end_with_parent()
                control.close()
                _serve(sockets[0], int(number))
            os.close(sockets[0])
            children[child], answer = None, child
        else:
            answer = _exit_code(children, int(number))
        control.sendall(struct.pack("!i", answer))
    for child, code in children.items():
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
    os._exit(0)


def _exit_code(children: dict[int, int | None], child: int) -> int:
    """Exit code of a child that has hung up, minus the signal that ended it; 0 while it runs."""
    for _ in range(_PATIENCE):
        if children[child] is not None:
            break
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            children[child] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.01)
    return children[child] or 0


def _end_with_parent() -> None:
    """Have Linux kill this process when its parent ends, by whatever hand."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(descriptor: int, threads: int) -> None:
    """Answer on a socket until it is closed."""
    channel = Channel(socket.socket(fileno=descriptor))
    torch.set_num_threads(threads)
    guest = Guest()
    while True:
        try:
            message = channel.receive()
        except (EOFError, OSError):
            os._exit(0)
        channel.send(*_answered(guest, message))


def _answered(guest: Guest, message: Message) -> Answer:
    try:
        return guest.answer(message)
    except ModelError as error:
        return {"error": "model", "status": error.status, "message": str(error)[:1000]}, NOTHING
    except HarnessError as error:
        return {"error": "harness", "message": str(error)[:4000]}, NOTHING
    except NotRun as error:
        return {"error": "model", "status": "raised", "message": str(error)[:1000]}, NOTHING
    except torch.OutOfMemoryError:
        return {"error": "memory"}, NOTHING
    except (Exception, SystemExit) as error:
        said = f"the model raised {type(error).__name__}: {first_line(error)}"
        return {"error": "model", "status": "raised", "message": said[:1000]}, NOTHING


class Guest:
    """A model and what is asked about it."""

    def __init__(self) -> None:
        self._module: nn.Module = nn.Identity()
        self._wide: nn.Module | None = None
        self._device = "cpu"
        self._graphs: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}
        self._passes = 0
        self._actions: dict[str, Callable[[Message], Answer]] = {
            "build": self._build,
            "fit": self._fit,
            "probe": self._probe,
            "open": self._open,
            "pass": self._pass,
            "backward": self._backward,
            "state": self._state,
            "look": self._look,
        }

    def answer(self, message: Message) -> Answer:
        """Do what is asked."""
        for number in message.header.get("forget", ()):
            self._graphs.pop(number, None)
        return self._actions[message.header["do"]](message)

    def _build(self, message: Message) -> Answer:
        """Import the model; its weights are random."""
        header = message.header
        place = Path(header["place"]) if header["place"] else None
        found = import_model(header["reference"], header["sha256"], place)
        compute_exactly()  # its file may have said otherwise
        self._device = header["device"]
        self._module = found.module.to(self._device).eval().requires_grad_(requires_grad=False)
        return {"sha256": found.sha256, "parameters": parameter_count(self._module)}, NOTHING

    def _fit(self, message: Message) -> Answer:
        load_foreign_weights(self._module, message.tensors, message.header["name"])
        return {}, NOTHING

    def _probe(self, message: Message) -> Answer:
        images = message.tensors["images"].to(self._device)
        found = probe(self._module, images, message.header["classes"])
        return {"capabilities": found.to_json()}, NOTHING

    def _open(self, message: Message) -> Answer:
        capabilities = Capabilities.from_json(message.header["capabilities"])
        self._module = opened(self._module, capabilities)
        self._module.eval().requires_grad_(requires_grad=False)
        return {}, NOTHING

    def _pass(self, message: Message) -> Answer:
        """One forward pass, kept for its backward pass where gradients are wanted."""
        header = message.header
        images = message.tensors["images"].to(self._device)
        given: dict[str, Any] = {
            name: message.tensors[name].to(self._device) for name in header["given"]
        }
        if header["select"]:
            chosen = heard_select(header, message.tensors)
            given["select"] = chosen.to(self._device) if isinstance(chosen, Tensor) else chosen
        wanted = header["gradient"]
        module = self._wider() if header["is_wide"] else self._module
        if header["reset"]:
            module.eval()
        candidate = images.clone().requires_grad_(wanted)
        seed = header["seed"]
        with (
            torch.set_grad_enabled(wanted),
            contextlib.nullcontext() if seed is None else drawing(module, seed),
        ):
            found = _passed(module, candidate, given)
        if not torch.equal(candidate.detach(), images):
            raise ModelError("changed_input", "the model changed the images that it was given.")
        words, tensors = spoken_outputs(found)
        differentiable = [name for name, value in tensors.items() if value.requires_grad]
        if differentiable:
            self._passes += 1
            kept = {name: tensors[name] for name in differentiable}
            self._graphs[self._passes] = (candidate, kept)
        is_training = any(part.training for part in module.modules())
        said = {"id": self._passes, "differentiable": differentiable, "training": is_training}
        return {**words, **said}, tensors

    def _backward(self, message: Message) -> Answer:
        candidate, outputs = self._graphs[message.header["id"]]
        names = list(message.tensors)
        (gradient,) = torch.autograd.grad(
            [outputs[name] for name in names],
            candidate,
            [message.tensors[name].to(outputs[name]) for name in names],
            retain_graph=True,
            allow_unused=True,
        )
        return {}, {"images": torch.zeros_like(candidate) if gradient is None else gradient}

    def _state(self, message: Message) -> Answer:
        del message
        state = self._module.state_dict()
        return {}, {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def _look(self, message: Message) -> Answer:
        """A look inside that a diagnostic asks for."""
        tensors = {name: value.to(self._device) for name, value in message.tensors.items()}
        list(DIAGNOSTICS)  # loads them, and their questions
        question = QUESTIONS[message.header["question"]]
        return {"found": dict(question(self._module, **tensors))}, NOTHING

    def _wider(self) -> nn.Module:
        """A copy in float64."""
        if self._wide is None:
            self._wide = copy.deepcopy(self._module).double().eval()
        return self._wide


def _passed(module: nn.Module, images: Tensor, given: Mapping[str, Any]) -> Outputs:
    try:
        return as_outputs(module(images, **given))
    except (torch.OutOfMemoryError, ModelError):
        raise
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        if "does not require grad" in said:
            raise ModelError(
                "needs_gradient",
                "the model differentiates in its forward pass, where gradients are off: let it "
                f"use torch.enable_grad() ({said}).",
            ) from error
        raise ModelError("raised", f"the model raised {said}") from error
