"""Exhibits of a few images, around networks that were never trained or modules that need not be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from harness.analysis.exhibit import Exhibit, Learnt
from harness.catalogue import DEFENSES
from harness.defense import Build
from harness.evaluation.handle import Handle
from harness.identity import Capabilities, CheckpointRecord
from harness.models.network import Network
from harness.outputs import Outputs
from harness.threat import ThreatModel

THREAT = ThreatModel("linf", Fraction(1, 20))
SHAPE = (1, 8, 8)


class Pixels(torch.nn.Module):
    """Its features are the pixels, its logits some of their sums."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(
            torch.randn(classes, 64, generator=torch.Generator().manual_seed(5))
        )

    def forward(self, images: Tensor) -> Outputs:
        pixels = images.flatten(1)
        return Outputs(pixels @ self.weight.T, features=pixels)


class Constant(torch.nn.Module):
    """Always decides for one class."""

    def __init__(self, decided: int, classes: int = 3) -> None:
        super().__init__()
        self.logits = torch.nn.functional.one_hot(torch.tensor(decided), classes).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.logits + 0 * images.sum((1, 2, 3))[:, None]


def record_of(**changes: object) -> CheckpointRecord:
    record = CheckpointRecord(
        name="tiny",
        digest="d" * 64,
        kind="trained",
        dataset="digits",
        threat=THREAT,
        weights="",
        weights_sha256="",
        capabilities=Capabilities(3, features=True),
    )
    return replace(record, **changes)


def images_and_labels(count: int = 24, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random pictures, brighter with the class in one quarter."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    images = 0.5 * torch.rand(count, *SHAPE, generator=draws)
    images[:, :, :4, :4] += labels[:, None, None, None] / (2 * classes)
    return images, labels


def learnt(count: int = 40, classes: int = 3) -> Learnt:
    images, labels = images_and_labels(count, classes, seed=1)
    return Learnt((images * 255).round().to(torch.uint8), labels)


def exhibit_of(module: torch.nn.Module, *, classes: int = 3, **changes: object) -> Exhibit:
    images, labels = images_and_labels(classes=classes)
    has_gate = isinstance(module, Network) and module.hook is not None
    exhibit = Exhibit(
        record=record_of(),
        model=Handle(module, classes, has_gate=has_gate),
        images=images,
        labels=labels,
        indices=range(len(labels)),
        threat=THREAT,
        training=lambda: learnt(classes=classes),
        network=module if isinstance(module, Network) else None,
    )
    return replace(exhibit, **changes)


def network_of(defense: str, *, classes: int = 3) -> Network:
    """A fresh network of width 2 whose BatchNorm statistics are not the initial ones."""
    composed = DEFENSES[defense].compose({})[0]
    network = composed.build(Build(SHAPE, classes, "small_resnet", {"width": 2}, seed=1)).network
    network.train()
    for seed in range(3):
        network(images_and_labels(32, classes, seed)[0])
    return network.eval()
