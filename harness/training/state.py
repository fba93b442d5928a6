"""The state of an unfinished run on disk: tensors and plain numbers, written whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.batch import Memory
from harness.defense import Players
from harness.errors import HarnessError
from harness.files import lock_file
from harness.models.weights import read_weights, write_whole


@dataclass
class Progress:
    """Where a run stands; everything else follows from this and the request.

    Args:
        steps: steps done, over all epochs.
        seconds: of training so far.
        losses: mean loss per finished epoch.
        epoch_seconds: per finished epoch.
        sum: of the losses of the running epoch.
        probe_clean, probe_pgd: accuracies of the training probe per finished epoch.
        measures: what parts of the defense measured, mean per finished epoch; NaN where not.
        sums: of the running epoch's measures, each with how often it was taken.
    """

    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    sum: float = 0.0
    probe_clean: list[float] = field(default_factory=list)
    probe_pgd: list[float] = field(default_factory=list)
    measures: dict[str, list[float]] = field(default_factory=dict)
    sums: dict[str, list[float]] = field(default_factory=dict)


def state_file(folder: Path, digest: str) -> Path:
    """Where the state of the run with this digest is kept."""
    return folder / f"unfinished-{digest[:32]}.pt"


@contextmanager
def only_one(folder: Path, key: str, what: str) -> Iterator[None]:
    """Let one process at a time train something; a lock beside the state ends with its process.

    Args:
        folder: where the state for resuming is kept.
        key: what only one may train, as part of a file's name.
        what: the same in words, for the error.

    Raises:
        HarnessError: another process trains it, or the folder cannot be written.
    """
    path = folder / f"unfinished-{key}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_file(path, wait=False)
    except BlockingIOError as error:
        raise HarnessError(
            f"{what} is being trained by another process: let that finish, or choose another "
            "--name or --seed."
        ) from error
    except OSError as error:
        raise HarnessError(
            f"cannot write {path}: {error.strerror or error}. Free some space or choose another "
            "folder with HARNESS_CHECKPOINTS."
        ) from error
    try:
        yield
    finally:
        if lock is not None:
            with lock:
                path.unlink(missing_ok=True)  # while it is still ours


@dataclass
class Resumable:
    """Everything of a run that a kill must not lose.

    Args:
        players: the networks, and trainable modules of losses.
        optimiser: of all of them.
        memory: what stateful parts remember.
        progress: where the run stands.
        best: weights of the student after its best epoch by the probe; empty before the first.
    """

    players: Players
    optimiser: torch.optim.Optimizer
    memory: Memory
    progress: Progress
    best: dict[str, Tensor] = field(default_factory=dict)

    def modules(self) -> dict[str, nn.Module]:
        """By role: networks first, then extras."""
        return {**self.players.modules(), **self.players.extras}


def save_state(path: Path, run: Resumable) -> None:
    """Write everything that resuming needs."""
    buffer = io.BytesIO()
    networks = {role: module.state_dict() for role, module in run.modules().items()}
    torch.save(
        {
            "networks": networks,
            "optimiser": run.optimiser.state_dict(),
            "memory": run.memory.values,
            "best": run.best,
            "progress": asdict(run.progress),
        },
        buffer,
    )
    write_whole(path, buffer.getvalue())


def load_state(path: Path, run: Resumable) -> None:
    """Go on from a saved state; does nothing where there is none.

    Raises:
        HarnessError: the file is damaged or belongs to something else.
    """
    if not path.exists():
        return
    try:
        found: dict[str, Any] = read_weights(path)
        for role, module in run.modules().items():
            module.load_state_dict(found["networks"][role])
        run.optimiser.load_state_dict(found["optimiser"])
        device = run.memory.labels.device
        run.memory.values = {name: value.to(device) for name, value in found["memory"].items()}
        run.best = found["best"]
        for one in fields(run.progress):
            setattr(run.progress, one.name, found["progress"][one.name])
    except Exception as error:  # damaged bytes fail in every way
        raise HarnessError(
            f"the unfinished run in {path} cannot be read, it is probably damaged. Delete the file "
            "to start that training from the beginning."
        ) from error
