"""The state of an unfinished run on disk: tensors and plain numbers, written whole."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from harness.defense import Players
from harness.errors import HarnessError
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
    """

    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    sum: float = 0.0


def state_file(folder: Path, digest: str) -> Path:
    """Where the state of the run with this digest is kept."""
    return folder / f"unfinished-{digest[:32]}.pt"


def save_state(
    path: Path, players: Players, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write everything that resuming needs."""
    buffer = io.BytesIO()
    networks = {role: network.state_dict() for role, network in players.modules().items()}
    torch.save(
        {"networks": networks, "optimiser": optimiser.state_dict(), "progress": asdict(progress)},
        buffer,
    )
    write_whole(path, buffer.getvalue())


def load_state(
    path: Path, players: Players, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Go on from a saved state; does nothing where there is none.

    Raises:
        HarnessError: the file is damaged or belongs to something else.
    """
    if not path.exists():
        return
    try:
        found: dict[str, Any] = read_weights(path)
        for role, network in players.modules().items():
            network.load_state_dict(found["networks"][role])
        optimiser.load_state_dict(found["optimiser"])
        for field in fields(progress):
            setattr(progress, field.name, found["progress"][field.name])
    except Exception as error:  # damaged bytes fail in every way
        raise HarnessError(
            f"the unfinished run in {path} cannot be read, it is probably damaged. Delete the file "
            "to start that training from the beginning."
        ) from error
