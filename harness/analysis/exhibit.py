"""What analyses look at: one loaded checkpoint, test images, and the same images under attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.search import Search
from harness.attacks.streams import Streams
from harness.attacks.surfaces import Logits
from harness.defense import Defense
from harness.identity import AttackSpec, CheckpointRecord
from harness.models.network import Network
from harness.outputs import Model, Outputs
from harness.threat import ThreatModel
from harness.verification import check_inside

CLEAN_IMAGES = "clean"
"""What a reading on unattacked images is on."""

BLOCK = 250
"""Images per pass, so that memory does not grow with the test split."""

PGD_20: AttackSpec = attack_spec("pgd", steps=20, relative_step=0.0968)
"""Steps of 0.003 at epsilon 0.031, to three figures, from a uniform start (`frpat.md` section 6);
at other epsilons the same fraction."""


class NotRun(Exception):  # noqa: N818 - an answer, not an error
    """An analysis cannot be done here; the message says why and what would help."""


class View(NamedTuple):
    """The examined images in one form.

    Args:
        on: `clean`, or the label of the attack.
        images: [N, C, H, W] in [0, 1].
        note: how they came about, one sentence or empty.
        pixels: [N, C, H, W] uint8, the images rounded inside the ball; None where nobody rounded.
    """

    on: str
    images: Tensor
    note: str = ""
    pixels: Tensor | None = None


class Attacked(NamedTuple):
    """What PGD-20 did.

    Args:
        images: [N, C, H, W], the last iterates.
        broken: [N] bool, the clean image or any iterate was wrong.
    """

    images: Tensor
    broken: Tensor


class Learnt(NamedTuple):
    """The training split, without augmentation.

    Args:
        images: [M, C, H, W] uint8.
        labels: [M] int64.
    """

    images: Tensor
    labels: Tensor


@dataclass
class Exhibit:
    """One checkpoint on some test images; what several analyses need is computed once.

    Args:
        record: as stored.
        model: the way to the deployed model (frozen, evaluation mode).
        images: [N, C, H, W] in [0, 1], clean.
        labels: [N] int64.
        indices: index of each image in the test split.
        threat: norm and epsilon.
        worst: the images under the worst stored attack; None where no attack is stored.
        training: reads the training split; None where it is not here.
        network: the module itself, of a checkpoint that was trained here.
        defense: its composition.
        best: loads the weights of the best epoch; None where none were kept.
        seed: run seed.
    """

    record: CheckpointRecord
    model: Model
    images: Tensor
    labels: Tensor
    indices: Sequence[int]
    threat: ThreatModel
    worst: View | None = None
    training: Callable[[], Learnt] | None = None
    network: Network | None = None
    defense: Defense | None = None
    best: Callable[[], Model] | None = None
    seed: int = 0
    _outputs: dict[str, Outputs] = field(default_factory=dict, repr=False)

    @cached_property
    def clean(self) -> View:
        """The images as they are."""
        return View(CLEAN_IMAGES, self.images)

    @cached_property
    def under_pgd_20(self) -> Attacked:
        """What PGD-20 does to the images, whatever is stored."""
        return self.pgd(self.model)

    @property
    def pgd_20(self) -> View:
        """The images under PGD-20, whatever is stored."""
        return View(PGD_20.label, self.under_pgd_20.images, "Last iterates of PGD-20.")

    @property
    def attacked(self) -> View:
        """The images under the worst stored attack, or under PGD-20 where none is stored."""
        if self.worst is not None:
            return self.worst
        return self.pgd_20._replace(note="No attack is stored for these images: PGD-20 was run.")

    @cached_property
    def learnt(self) -> Learnt:
        """The training split.

        Raises:
            NotRun: it is not here.
        """
        if self.training is None:
            name = self.record.dataset
            raise NotRun(f"there are no training images of {name} here: harness data fetch {name}.")
        return self.training()

    def features(self, view: View) -> Tensor:
        """[N, R] float32, the penultimate vectors before any gate.

        Raises:
            NotRun: the model returns none, or other ones at every pass.
        """
        return features_of(self.outputs(view), self.record)

    def outputs(self, view: View) -> Outputs:
        """Logits, auxiliary logits, features and gated features of a view.

        Raises:
            NotRun: the model returns other ones at every pass.
        """
        if view.on not in self._outputs:
            check_still(self.record)
            self._outputs[view.on] = look(self.model, view.images)
        return self._outputs[view.on]

    def pgd(self, model: Model) -> Attacked:
        """PGD-20 of any model on the examined images."""
        found = [
            pgd_20(model, images, labels, indices, self.threat, self.seed)
            for images, labels, indices in self._blocks()
        ]
        return Attacked(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor, Sequence[int]]]:
        for first in range(0, len(self.labels), BLOCK):
            chosen = slice(first, first + BLOCK)
            yield self.images[chosen], self.labels[chosen], self.indices[chosen]


def look(model: Model, images: Tensor) -> Outputs:
    """All but `vectors` of any images, in blocks and without gradient."""
    with torch.no_grad():
        found = [model(block) for block in torch.split(images, BLOCK)]
    return Outputs(
        torch.cat([one.logits for one in found]),
        tuple(map(torch.cat, zip(*(one.auxiliary for one in found), strict=False))),
        features=_joined([one.features for one in found]),
        gated=_joined([one.gated for one in found]),
    )


def pgd_20(
    model: Model,
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    threat: ThreatModel,
    seed: int,
    *,
    split: str = "test",
) -> Attacked:
    """PGD-20 to its last step, as the papers run it: no image leaves when it is broken.

    Args:
        model: what to attack.
        images: [n, C, H, W] in [0, 1].
        labels: [n].
        indices: of the images in their split.
        threat: norm and epsilon.
        seed: run seed.
        split: which one; images of two splits have random streams of their own.
    """
    key = PGD_20.hash if split == "test" else f"{PGD_20.hash}:{split}"
    search = Search(
        Logits(model),
        Ball.around(images, threat),
        labels,
        Streams(seed, key, indices),
        drops_broken=False,
    )
    run_attack(PGD_20, search)
    check_inside(images, search.last, threat)
    return Attacked(search.last, search.broken)


def check_still(record: CheckpointRecord) -> None:
    """Refuse a model that answers differently each time.

    Raises:
        NotRun: it does.
    """
    if record.capabilities.is_random:
        raise NotRun(
            "the model is random: its features differ from pass to pass, and no single pass "
            "stands for them."
        )


def features_of(outputs: Outputs, record: CheckpointRecord) -> Tensor:
    """[N, R] float32, flattened where a model returns maps.

    Raises:
        NotRun: there are none, or some are no finite numbers.
    """
    if outputs.features is None:
        raise NotRun(
            f"'{record.name}' returns no features: let the model return "
            "Outputs(logits, features=...) and add it again."
        )
    features = outputs.features.flatten(1).float()
    if not features.isfinite().all():
        raise NotRun("some features are infinite or not a number: they have no distances.")
    return features


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
