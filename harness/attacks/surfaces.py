"""What is attacked: awareness lives here, so every attack is aware the day it is written.

A surface turns candidate images into the value that an attack climbs, and into the deployed logits
that alone judge. Objective ids A0 to A11 are those of `attacks.md` section 9.2, rows RA-S1 to
RA-S13 those of `ancra.md` section 7.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.attacks.losses import AttackLoss
from harness.errors import HarnessError
from harness.outputs import Model, Outputs, SoftSelect, Stripped


class Points(NamedTuple):
    """The images an attack works on right now, cut as it drops broken ones.

    Args:
        clean: [n, C, H, W] in [0, 1].
        labels: [n] int64.
        targets: [n] int64, the class a targeted loss climbs towards; for a feature attack the
            vectors [n, R] to match.
    """

    clean: Tensor
    labels: Tensor
    targets: Tensor | None = None


@dataclass(frozen=True)
class TrainingLoss:
    """The defense's own training loss as an attacker would climb it.

    Args:
        value: (candidate, points) -> [n].
        forwards: model passes per call.
    """

    value: Callable[[Tensor, Points], Tensor]
    forwards: int


class Surface(ABC):
    """images -> (value to climb [n], deployed logits [n, K]); the deployed logits alone judge.

    A loss that is [T, n], of several classes at once, makes the value [T, n].
    """

    model: Model
    """The deployed model."""

    @property
    def forwards(self) -> int:
        """Model passes per look; more where the deployed decision needs a pass of its own."""
        return 1

    @property
    def backwards(self) -> int:
        """Backward passes per gradient."""
        return 1

    @property
    def rank_forwards(self) -> int:
        """Model passes per ranking of the classes."""
        return 1

    @abstractmethod
    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        """Value and deployed logits of candidate images."""

    def rank(self, images: Tensor) -> Tensor:
        """Logits [n, K] by which a targeted attack ranks its target classes; here the deployed."""
        return self.model(images).logits


@dataclass(frozen=True)
class Logits(Surface):
    """The final logits, as deployed (A0)."""

    model: Model

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        deployed = self.model(images).logits
        return loss(deployed, points.labels, points.targets), deployed


@dataclass(frozen=True)
class Cosine(Surface):
    """Cosines in place of the negative angles that are deployed (A8; `he.md` section 5).

    The order of the classes is the same. The gradient is not: it lacks the arccosine's derivative,
    which weighs a class at angle t by 1 / sin(t).
    """

    model: Model

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        deployed = self.model(images).logits
        return loss(deployed.cos(), points.labels, points.targets), deployed

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).logits.cos()


@dataclass(frozen=True)
class Auxiliary(Surface):
    """One auxiliary head alone (A1, RA-S1 and RA-S2)."""

    model: Model
    head: int

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        outputs = self.model(images)
        return loss(outputs.auxiliary[self.head], points.labels, points.targets), outputs.logits

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).auxiliary[self.head]


@dataclass(frozen=True)
class Sum(Surface):
    """Loss of the final logits plus `weight` times the mean loss of the auxiliary ones (A2).

    With weight 2 and cross-entropy it is ANCRA's own adaptive attack (RA-S3, weights 1, 1, 1).
    """

    model: Model
    weight: float = 2.0

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        outputs = self.model(images)
        final, *auxiliary = (
            loss(logits, points.labels, points.targets) for logits in outputs.every_logits()
        )
        return final + self.weight * sum(auxiliary) / len(auxiliary), outputs.logits


@dataclass(frozen=True)
class Weighted(Surface):
    """Weighted sum of the losses of all outputs, the final logits first (RA-S3).

    Args:
        weights: one per output: of the final logits, then of the auxiliary ones.
    """

    model: Model
    weights: tuple[float, ...]

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        outputs = self.model(images)
        value = sum(
            weight * loss(logits, points.labels, points.targets)
            for weight, logits in zip(self.weights, outputs.every_logits(), strict=True)
            if weight
        )
        return torch.as_tensor(value), outputs.logits


@dataclass(frozen=True)
class Smallest(Surface):
    """Smooth minimum of the losses of all outputs, so that all break together (A3).

    `-temperature * logsumexp(-losses / temperature)`.
    """

    model: Model
    temperature: float = 1.0

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        outputs = self.model(images)
        losses = torch.stack(
            [loss(logits, points.labels, points.targets) for logits in outputs.every_logits()]
        )
        return -self.temperature * torch.logsumexp(-losses / self.temperature, 0), outputs.logits


@dataclass(frozen=True)
class LogSoftmaxMean(Surface):
    """Mean of the log-softmax of all outputs, as one vector of logits (RA-S9)."""

    model: Model

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        outputs = self.model(images)
        return loss(_mean_log_softmax(outputs), points.labels, points.targets), outputs.logits

    def rank(self, images: Tensor) -> Tensor:
        return _mean_log_softmax(self.model(images))


@dataclass(frozen=True)
class Gate(Surface):
    """Final logits under the gate of a chosen class (A6, RA-S5).

    Args:
        of: `label` (the true class, as in training), `rival` (the wrong class with the largest
            deployed logit at the candidate) or `target` (that of a targeted attack).
    """

    model: Model
    of: str = "label"

    @property
    def forwards(self) -> int:
        return 2

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            deployed = self.model(images.detach()).logits
        gated = self.model(images, select=self._chosen(deployed, points)).logits
        return loss(gated, points.labels, points.targets), deployed

    def _chosen(self, deployed: Tensor, points: Points) -> Tensor:
        if self.of == "label":
            return points.labels
        if self.of == "target":
            if points.targets is None:
                raise HarnessError("the surface 'target_gate' needs a targeted attack.")
            return points.targets
        return deployed.scatter(1, points.labels[:, None], -torch.inf).argmax(1)


@dataclass(frozen=True)
class TwoPhase(Surface):
    """One auxiliary head until its own decision is wrong, then the final logits (A5, RA-S7).

    With a targeted loss the first phase ends when the head chooses the target. The values of the
    two phases cannot be compared, so attacks of a fixed step suit it, not Auto-PGD.
    """

    model: Model
    head: int = 0

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        outputs = self.model(images)
        gate, final = outputs.auxiliary[self.head], outputs.logits
        choice = gate.argmax(1)
        flipped = choice != points.labels if points.targets is None else choice == points.targets
        first = loss(gate, points.labels, points.targets)
        second = loss(final, points.labels, points.targets)
        return torch.where(flipped, second, first), final

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).auxiliary[self.head]


@dataclass(frozen=True)
class Twin(Surface):
    """The same weights without the defense's module (A9, RA-S10), alone or half of the loss.

    Args:
        share: of the loss that the stripped twin contributes; the deployed logits give the rest.
    """

    model: Model
    share: float = 1.0

    @property
    def forwards(self) -> int:
        return 2

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        stripped = self.model(images, select=Stripped()).logits
        value = loss(stripped, points.labels, points.targets)
        if self.share == 1.0:
            with torch.no_grad():
                return value, self.model(images.detach()).logits
        deployed = self.model(images).logits
        other = loss(deployed, points.labels, points.targets)
        return self.share * value + (1 - self.share) * other, deployed

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images, select=Stripped()).logits


@dataclass(frozen=True)
class Surrogate(Surface):
    """Another checkpoint's final logits: what it loses to is tried on the deployed model."""

    model: Model
    surrogate: Model

    @property
    def forwards(self) -> int:
        return 2

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        value = loss(self.surrogate(images).logits, points.labels, points.targets)
        with torch.no_grad():
            return value, self.model(images.detach()).logits

    def rank(self, images: Tensor) -> Tensor:
        return self.surrogate(images).logits


@dataclass(frozen=True)
class Features(Surface):
    """A vector inside the model instead of logits, for attacks that match it to a guide's (A10).

    Args:
        which: empty for the penultimate vector before any gate, `gated` for what the head really
            classified, a number for what that auxiliary head classified (RA-S13: 0).
    """

    model: Model
    which: str = ""

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        outputs = self.model(images)
        return loss(self.view(outputs), points.labels, points.targets), outputs.logits

    def view(self, outputs: Outputs) -> Tensor:
        """[n, R], the vector that is matched."""
        if self.which.isdigit():
            return outputs.vectors[int(self.which)]
        chosen = outputs.gated if self.which == "gated" else outputs.features
        if chosen is None:
            raise HarnessError("this model does not expose the vector that the surface needs.")
        return chosen


@dataclass(frozen=True)
class Repeated(Surface):
    """Expectation over transformations: the mean of several passes (Athalye et al., 2018).

    Around any surface; `attacks.md` section 10.

    Args:
        surface: what to repeat.
        draws: passes per look.
    """

    surface: Surface
    draws: int

    @property
    def model(self) -> Model:  # type: ignore[override]
        return self.surface.model

    @property
    def forwards(self) -> int:
        return self.draws * self.surface.forwards

    @property
    def backwards(self) -> int:
        return self.draws * self.surface.backwards

    @property
    def rank_forwards(self) -> int:
        return self.draws * self.surface.rank_forwards

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        looks = [self.surface(images, points, loss) for _ in range(self.draws)]
        values, deployed = (torch.stack(each).mean(0) for each in zip(*looks, strict=True))
        return values, deployed

    def rank(self, images: Tensor) -> Tensor:
        return torch.stack([self.surface.rank(images) for _ in range(self.draws)]).mean(0)


@dataclass(frozen=True)
class StraightThrough(Surface):
    """Final logits, hard choice forward and soft choice backward (A4, RA-S6).

    In a model that exposes nothing it softens every hard operation found in the forward pass
    (backward pass differentiable approximation, A11; Athalye et al., 2018).
    """

    model: Model
    temperature: float = 1.0

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        logits = self.model(images, select=SoftSelect(self.temperature)).logits
        return loss(logits, points.labels, points.targets), logits


@dataclass(frozen=True)
class Training(Surface):
    """The defense's own training loss (A7); it brings its own loss, so `loss` is not used."""

    model: Model
    training_loss: TrainingLoss

    @property
    def forwards(self) -> int:
        return 1 + self.training_loss.forwards

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        del loss
        return self.training_loss.value(images, points), self.model(images.detach()).logits


def _mean_log_softmax(outputs: Outputs) -> Tensor:
    return torch.stack([logits.log_softmax(1) for logits in outputs.every_logits()]).mean(0)
