"""From a record back to the network: what training and evaluation both need of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from harness.catalogue import DEFENSES
from harness.data import Dataset
from harness.defense import Build, Defense
from harness.errors import HarnessError
from harness.identity import CheckpointRecord
from harness.models.network import Network
from harness.models.weights import read_weights


def weights_file(record: CheckpointRecord, folder: Path) -> Path:
    """Where the weights of a checkpoint lie.

    Raises:
        HarnessError: they are not there.
    """
    path = folder / record.weights
    if not path.exists():
        raise HarnessError(
            f"the weights of '{record.name}' are not here ({record.weights[:20]}... in {folder}): "
            "they stayed on another machine, or HARNESS_CHECKPOINTS points elsewhere."
        )
    return path


def composed(record: CheckpointRecord) -> Defense:
    """The defense of a checkpoint that was trained here."""
    return DEFENSES[record.defense].compose(record.settings)[0]


def load_network(
    record: CheckpointRecord, folder: Path, dataset: Dataset, *, weights: tuple[str, str] = ("", "")
) -> Network:
    """The deployed network of a checkpoint that was trained here, on the CPU.

    Args:
        record: as stored.
        folder: of the weights.
        dataset: what it decides on.
        weights: file and SHA-256 of other weights of the same run, such as the best epoch's.

    Raises:
        HarnessError: the weights are missing, changed, or do not fit the recipe.
    """
    build = Build(
        dataset.shape,
        record.capabilities.classes,
        record.architecture,
        record.architecture_settings,
        str(record.recipe.get("teacher", "")),
        normalise=bool(record.recipe.get("normalise", False)),
    )
    network = composed(record).build(build).network
    name, sha256 = weights
    path = folder / name if name else weights_file(record, folder)
    found = read_weights(path, sha256 or record.weights_sha256)
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise HarnessError(
            f"the weights of '{record.name}' do not fit its recipe: {reason}"
        ) from error
    return network
