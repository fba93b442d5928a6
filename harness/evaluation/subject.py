"""The subject of an evaluation: a loaded checkpoint with everything an attacker may use."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.attacks.surfaces import Points, TrainingLoss
from harness.batch import Batch, InnerBudget
from harness.data import Dataset
from harness.defense import Defense
from harness.evaluation.confined import RemoteModule
from harness.evaluation.handle import CopyHandle, Handle, pad
from harness.evaluation.randomised import RandomHandle
from harness.evaluation.third_party import (
    foreign_model,
    is_opened,
    load_foreign_weights,
    opened,
    unwrapped,
)
from harness.identity import EXACT, Capabilities, CheckpointRecord
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.models.prepared import folded, prove_equal, rough
from harness.models.weights import read_weights
from harness.rebuilding import composed, load_network, weights_file

PROVED = 4
"""Images on which a copy is proved equal before it is searched."""


@dataclass(frozen=True)
class Subject:
    """A loaded checkpoint.

    Args:
        model: the handle that attacks use.
        capabilities: what it exposes.
        training_loss: the defense's own, where there is one.
        state: digest of parameters and buffers as they were loaded.
        copies: what searches differentiate in its place, by precision (`searched`).
    """

    model: Handle
    capabilities: Capabilities
    training_loss: TrainingLoss | None = None
    state: str = field(init=False)
    copies: dict[str, Subject] = field(init=False, default_factory=dict, compare=False)

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
    if record.kind == "added":
        return subject_of(_added(record, folder, dataset, device), record.capabilities, None)
    defense = composed(record)
    network = load_network(record, folder, dataset).to(device)
    loss = None
    if record.capabilities.training_loss:
        loss = TrainingLoss(_Climb(defense, network, record), len(defense.objective.needs))
    return subject_of(network, record.capabilities, loss)


def _added(record: CheckpointRecord, folder: Path, dataset: Dataset, device: str) -> nn.Module:
    """A model from elsewhere, in a process of its own unless its code is ours."""
    weights = unwrapped(read_weights(weights_file(record, folder), record.weights_sha256))
    if record.model in ARCHITECTURES:
        module, _ = foreign_model(record.model, dataset, record.model_sha256)
        load_foreign_weights(module, weights, record.name)
        return opened(module.to(device), record.capabilities)
    theirs, *_ = RemoteModule.built(record.model, record.model_sha256, Path.cwd(), device)
    theirs.fit(weights, record.name)
    theirs.open(record.capabilities)
    return theirs


def subject_of(
    module: nn.Module, capabilities: Capabilities, training_loss: TrainingLoss | None
) -> Subject:
    """A loaded module behind the handle that its capabilities ask for."""
    is_steered = capabilities.select or capabilities.strip
    has_gate = is_steered or is_opened(capabilities)  # what is opened softens without a gate too
    kind = RandomHandle if capabilities.is_random else Handle
    handle = kind(module, capabilities.classes, has_gate=has_gate, promised=capabilities)
    return Subject(handle, capabilities, training_loss)


def searched(subject: Subject, precision: str, images: Tensor) -> Subject:
    """What a search of this precision differentiates: the subject itself or a prepared copy of it.

    Models from elsewhere and random ones are searched as they are.

    Args:
        subject: as loaded.
        precision: one of `PRECISIONS`.
        images: [n, C, H, W] in [0, 1], a few of which prove the copy equal before it is used.

    Raises:
        HarnessError: the copy is not equal.
    """
    network = subject.model.module
    if precision == EXACT or not isinstance(network, Network) or is_random(subject):
        return subject
    if precision not in subject.copies:
        if not subject.copies:
            prove_equal(network, images[:PROVED])
        copy = folded(network)
        subject.copies[precision] = _with(subject, rough(copy) if precision == "mixed" else copy)
    return subject.copies[precision]


def precision_of(record: CheckpointRecord, asked: str) -> str:
    """What a search of this checkpoint differentiates where `asked` is wanted of all.

    There is no copy of a model from elsewhere, unless it is a network in a public layout, nor of
    one that draws random numbers: these are searched as they are loaded, and rows say so.
    """
    shown = record.capabilities
    is_ours = record.kind != "added" or (record.model in ARCHITECTURES and not is_opened(shown))
    return asked if is_ours and not shown.is_random else EXACT


def is_random(subject: Subject) -> bool:
    """Whether the model draws random numbers."""
    return isinstance(subject.model, RandomHandle)


def _with(subject: Subject, network: Network) -> Subject:
    loss = subject.training_loss
    if loss is not None and isinstance(loss.value, _Climb):
        loss = replace(loss, value=replace(loss.value, network=network))
    shown = subject.capabilities
    has_gate = shown.select or shown.strip
    return Subject(
        CopyHandle(network, shown.classes, has_gate=has_gate, promised=shown), shown, loss
    )


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
