"""The subject of an evaluation: a loaded checkpoint with everything an attacker may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.attacks.surfaces import Points, TrainingLoss
from harness.batch import Batch, InnerBudget
from harness.data import Dataset
from harness.defense import DEFENSES, Build, Defense
from harness.errors import HarnessError
from harness.evaluation.handle import Handle, pad
from harness.evaluation.randomised import RandomHandle
from harness.evaluation.relaxed import Relaxed
from harness.evaluation.third_party import foreign_model, load_foreign_weights, opened
from harness.identity import Capabilities, CheckpointRecord
from harness.models.network import Network
from harness.models.weights import read_weights


@dataclass(frozen=True)
class Subject:
    """A loaded checkpoint.

    Args:
        model: the handle that attacks use.
        capabilities: what it exposes.
        training_loss: the defense's own, where there is one.
        state: digest of parameters and buffers as they were loaded.
    """

    model: Handle
    capabilities: Capabilities
    training_loss: TrainingLoss | None = None
    state: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", self.model.state_digest())


def load_subject(
    record: CheckpointRecord, folder: Path, dataset: Dataset, *, device: str = "cpu"
) -> Subject:
    """Load a checkpoint from its record.

    Args:
        record: as stored.
        folder: of the weights.
        dataset: what it decides on.
        device: where to put it.

    Raises:
        HarnessError: weights or model file missing, changed, or not fitting.
    """
    path = folder / record.weights
    if not path.exists():
        raise HarnessError(
            f"the weights of '{record.name}' are not here ({record.weights[:20]}... in {folder}): "
            "they stayed on another machine, or HARNESS_CHECKPOINTS points elsewhere."
        )
    weights = read_weights(path, record.weights_sha256)
    if record.kind == "added":
        module, _ = foreign_model(record.model, dataset, record.model_sha256)
        load_foreign_weights(module, weights, record.name)
        module = opened(module.to(device), record.capabilities)
        return _subject(module, record.capabilities, None)
    defense, network = build_trained(record, dataset)
    _load(network, weights, record.name)
    network = network.to(device)
    loss = None
    if record.capabilities.training_loss:
        loss = TrainingLoss(_Climb(defense, network, record), len(defense.objective.needs))
    return _subject(network, record.capabilities, loss)


def build_trained(record: CheckpointRecord, dataset: Dataset) -> tuple[Defense, Network]:
    """The defense and the deployed network of a checkpoint that was trained here."""
    defense, _ = DEFENSES[record.defense].compose(record.settings)
    build = Build(
        dataset.shape,
        record.capabilities.classes,
        record.architecture,
        record.architecture_settings,
        str(record.recipe.get("teacher", "")),
    )
    return defense, defense.build(build).network


def _subject(
    module: nn.Module, capabilities: Capabilities, training_loss: TrainingLoss | None
) -> Subject:
    is_steered = capabilities.select or capabilities.strip
    has_gate = is_steered or isinstance(module, Relaxed)  # it softens without a gate too
    kind = RandomHandle if capabilities.is_random else Handle
    handle = kind(module, capabilities.classes, has_gate=has_gate)
    return Subject(handle, capabilities, training_loss)


def _load(network: Network, weights: Mapping[str, Any], name: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise HarnessError(f"the weights of '{name}' do not fit its recipe: {reason}") from error


@dataclass(frozen=True)
class _Climb:
    """The objective of a defense as a function of candidate images, padded like every pass."""

    defense: Defense
    network: Network
    record: CheckpointRecord

    def __call__(self, candidate: Tensor, points: Points) -> Tensor:
        padded = pad(candidate)
        batch = Batch(
            self.network,
            pad(points.clean),
            pad(points.labels),
            budget=InnerBudget(self.record.threat, 1, 0.0),
            combine=self.defense.combine,
            generator=torch.Generator(),
            maximiser=lambda _: padded,
        )
        return self.defense.per_image(batch)[: len(candidate)]
