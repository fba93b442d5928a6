"""What is attacked: awareness lives here, so every attack is aware the day it is written.

A surface turns candidate images into the value that an attack climbs, and into the deployed logits
that alone judge. Objective ids A0 to A8 are those of `attacks.md` section 9.2, rows RA-S1 to RA-S7
those of `ancra.md` section 7.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from harness.attacks.losses import AttackLoss
from harness.errors import HarnessError, unknown_name
from harness.identity import Capabilities
from harness.outputs import Model, SoftSelect


class Points(NamedTuple):
    """The images an attack works on right now, cut as it drops broken ones.

    Args:
        clean: [n, C, H, W] in [0, 1].
        labels: [n] int64.
        targets: [n] int64, the class a targeted loss climbs towards.
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
    """images -> (value to climb [n], deployed logits [n, K]); the deployed logits alone judge."""

    @property
    def forwards(self) -> int:
        """Model passes per look; more where the deployed decision needs a pass of its own."""
        return 1

    @abstractmethod
    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        """Value and deployed logits of candidate images."""

    @abstractmethod
    def rank(self, images: Tensor) -> Tensor:
        """Logits [n, K] by which a targeted attack ranks its target classes."""


@dataclass(frozen=True)
class Logits(Surface):
    """The final logits, as deployed (A0), times a factor or made scale-free (A8, RA-S4).

    Args:
        factor: multiplies the logits; None divides each image's logits by their own standard
            deviation over the classes, which is held constant in the gradient.
    """

    model: Model
    factor: float | None = 1.0

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        deployed = self.model(images).logits
        return loss(self._rescaled(deployed), points.labels, points.targets), deployed

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).logits

    def _rescaled(self, logits: Tensor) -> Tensor:
        if self.factor is None:
            return logits / logits.detach().std(dim=1, keepdim=True).clamp(min=1e-12)
        return logits if self.factor == 1.0 else logits * self.factor


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

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).logits


@dataclass(frozen=True)
class LabelGate(Surface):
    """Final logits under the gate of the true class, as in training (A6, RA-S5)."""

    model: Model

    @property
    def forwards(self) -> int:
        return 2

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        gated = self.model(images, select=points.labels).logits
        return loss(gated, points.labels, points.targets), self.model(images.detach()).logits

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).logits


@dataclass(frozen=True)
class StraightThrough(Surface):
    """Final logits, hard gate forward and soft gate backward (A4, RA-S6)."""

    model: Model
    temperature: float = 1.0

    def __call__(self, images: Tensor, points: Points, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        logits = self.model(images, select=SoftSelect(self.temperature)).logits
        return loss(logits, points.labels, points.targets), logits

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).logits


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

    def rank(self, images: Tensor) -> Tensor:
        return self.model(images).logits


SURFACES = {
    "logits": "final logits as deployed (A0)",
    "auxiliary": "auxiliary head number N alone: auxiliary(0) (A1)",
    "sum": "final loss + weight x mean auxiliary loss: sum(2) (A2)",
    "label_gate": "final logits under the true class's gate (A6)",
    "straight_through": "hard gate forward, soft gate of this temperature backward (A4)",
    "rescaled": "logits times a factor, rescaled(15), or made scale-free, rescaled(std) (A8)",
    "training_loss": "the defense's own training loss (A7)",
}
"""What people may write for `surface=`, and what each means."""

MOST_FORWARDS = {"label_gate": 2, "training_loss": 3}
"""Model passes per look of the surfaces that need more than one, at most."""

_TEXT = re.compile(r"([a-z_]+)(?:\(([a-z0-9.]+)\))?")


def surface_named(
    text: str,
    model: Model,
    capabilities: Capabilities,
    training_loss: TrainingLoss | None = None,
) -> Surface:
    """The surface that `text` names, such as `logits`, `auxiliary(0)` or `rescaled(std)`.

    Raises:
        HarnessError: unknown name, bad argument, or the model does not expose what it needs.
    """
    name, argument = split_surface(text)
    check_reachable(text, capabilities)
    if name == "training_loss":
        if training_loss is None:
            raise HarnessError("the surface 'training_loss' needs the defense's recipe.")
        return Training(model, training_loss)
    builders: dict[str, Callable[[], Surface]] = {
        "logits": lambda: Logits(model),
        "auxiliary": lambda: Auxiliary(model, int(argument)),
        "sum": lambda: Sum(model, float(argument or 2)),
        "label_gate": lambda: LabelGate(model),
        "straight_through": lambda: StraightThrough(model, float(argument or 1)),
        "rescaled": lambda: Logits(model, None if argument == "std" else float(argument)),
    }
    return builders[name]()


def canonical_surface(text: str) -> str:
    """One text per surface, so that one search has one hash: `sum` and `sum(2.0)` are `sum(2)`.

    Raises:
        HarnessError: as `split_surface`.
    """
    name, argument = split_surface(text)
    argument = argument or {"sum": "2", "straight_through": "1"}.get(name, "")
    if argument and argument != "std":
        argument = f"{float(argument):.12g}"
    return f"{name}({argument})" if argument else name


def check_reachable(text: str, capabilities: Capabilities) -> None:
    """Refuse a surface that the model does not expose.

    Raises:
        HarnessError: which capability is missing.
    """
    name, argument = split_surface(text)
    missing = {
        "auxiliary": lambda: int(argument) >= capabilities.auxiliary,
        "sum": lambda: capabilities.auxiliary == 0,
        "label_gate": lambda: not capabilities.select,
        "straight_through": lambda: not capabilities.select,
        "training_loss": lambda: not capabilities.training_loss,
    }
    if name in missing and missing[name]():
        raise HarnessError(
            f"the surface '{text}' is not there: this model exposes "
            f"{capabilities.auxiliary} auxiliary outputs, "
            f"{'a' if capabilities.select else 'no'} class-conditional gate and "
            f"{'a' if capabilities.training_loss else 'no'} training loss."
        )


def split_surface(text: str) -> tuple[str, str]:
    """Name and argument of a surface's text; checks both without needing a model.

    Raises:
        HarnessError: unknown name or an argument that it cannot take.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None or match[1] not in SURFACES:
        raise unknown_name("surface", match[1] if match else text, SURFACES)
    name, argument = match[1], match[2] or ""
    if not _argument_fits(name, argument):
        raise HarnessError(f"'{text}' is no surface. '{name}' means: {SURFACES[name]}.")
    return name, argument


def _argument_fits(name: str, argument: str) -> bool:
    if name == "auxiliary":
        return re.fullmatch(r"\d{1,3}", argument) is not None
    if name in {"sum", "straight_through"}:
        return argument == "" or _is_positive(argument)
    if name == "rescaled":
        return argument == "std" or _is_positive(argument)
    return argument == ""


def _is_positive(text: str) -> bool:
    is_plain = re.fullmatch(r"\d{1,6}(\.\d{1,12})?", text) is not None
    return is_plain and float(text) >= 1e-4  # smaller ones have no canonical text without exponent
