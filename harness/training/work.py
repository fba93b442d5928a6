"""One training run as plain values, so that any process can do it without the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.data import dataset, load
from harness.identity import CheckpointRecord, Value
from harness.training.checkpoint import checkpoint_record
from harness.training.loop import discard_state, train
from harness.training.request import training_request


@dataclass(frozen=True)
class TrainingWork:
    """What to train, by name.

    Args:
        defense: registered name.
        dataset: registered name.
        folder: where weights and the state for resuming go.
        scale: of the recipe.
        seed: of the run.
        device: to train on.
        settings: as on the command line.
    """

    defense: str
    dataset: str
    folder: Path
    scale: str
    seed: int = 0
    device: str = "cpu"
    settings: dict[str, Value] = field(default_factory=dict)


def do(work: TrainingWork) -> CheckpointRecord:
    """Train and write the weights; whoever asked stores the record."""
    request = training_request(
        work.defense,
        dataset(work.dataset),
        scale=work.scale,
        seed=work.seed,
        settings=work.settings,
    )
    data = load(work.dataset, "train")
    trained = train(request, data, work.folder, device=work.device)
    record = checkpoint_record(request, trained, data, work.folder)
    discard_state(request, data, work.folder)
    return record
