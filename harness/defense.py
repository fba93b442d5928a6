"""A defense is a value made of parts: what is trained, and how it is attacked while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from harness.attacks.streams import generator
from harness.batch import ADVERSARIAL, CLEAN, Batch, Maximiser, NegativeSource, PerHead
from harness.errors import HarnessError
from harness.heads.linear import Linear
from harness.identity import Capabilities, Value
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Head, Hook, Network, Normalisation
from harness.models.trunk import Shape, Trunk
from harness.steps.one_step import OneStep

Made = TypeVar("Made")


class Objective(Protocol):
    """Per-image training loss of output k, 0 being the final one.

    An objective whose value for one image depends on its batch mates, on what training remembers
    or on what the training attack counted says so with `is_alone = False`: attackers, who see one
    image at a time, then climb its ingredients instead (surface A7 is left out).
    """

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, batch: Batch, k: int) -> Tensor: ...


class Regulariser(Protocol):
    """A penalty over the whole batch, its weight included."""

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, batch: Batch) -> Tensor: ...


@runtime_checkable
class HasModules(Protocol):
    """A regulariser with trainable modules of its own, such as projections."""

    def modules(self, student: Network, teacher: Network | None) -> Mapping[str, nn.Module]:
        """Fresh modules by name; a batch carries them as `extras`."""


class Perturbation(Protocol):
    """Moves the weights to where the gradient is taken, and puts them back exactly.

    (batch, loss) -> a context; `loss` of the batch is computed and differentiated inside it.
    """

    def __call__(
        self, batch: Batch, loss: Callable[[Batch], Tensor]
    ) -> AbstractContextManager[None]: ...


class StepPolicy(Protocol):
    """How many updates a batch gets, and on which images.

    (batch, update) -> mean loss; `update(batch)` differentiates the loss, moves the weights and
    returns the loss. It is called `updates` times. `makes_images` says whether the policy makes the
    adversarial images itself, in place of a maximiser.
    """

    @property
    def updates(self) -> int: ...

    @property
    def makes_images(self) -> bool: ...

    def __call__(self, batch: Batch, update: Callable[[Batch], Tensor]) -> Tensor: ...


class HeadFactory(Protocol):
    """Builds a head for R features and K classes."""

    def build(self, features: int, classes: int) -> Head: ...


class HookFactory(Protocol):
    """Builds a hook for a trunk."""

    def build(self, trunk: Trunk) -> Hook: ...


@dataclass(frozen=True)
class Build:
    """What a network is built for.

    Args:
        shape: (C, H, W) of the images.
        classes: K.
        architecture: registered name.
        settings: of the architecture.
        teacher: architecture of a companion, empty for the student's.
        seed: of the initial weights; student and companion draw from streams of their own.
        normalise: whether the training images' mean and deviation are taken out inside the model.
    """

    shape: Shape
    classes: int
    architecture: str
    settings: Mapping[str, Value]
    teacher: str = ""
    seed: int = 0
    normalise: bool = False


@dataclass(frozen=True)
class Companion:
    """A second network that learns the clean images beside the student: `CE(M(x), y)`.

    FRPAT, algorithm 1: same batches, same optimiser settings, from scratch.

    Args:
        frozen: it was trained before and does not learn any more.
    """

    frozen: bool = False


@dataclass(frozen=True)
class Players:
    """The networks that one training run updates."""

    network: Network
    companion: Network | None = None
    extras: Mapping[str, nn.Module] = field(default_factory=dict)
    """Trainable modules of losses, by name; they are not part of the deployed network."""

    def modules(self) -> dict[str, Network]:
        """By role, `student` first."""
        both = {"student": self.network}
        return both if self.companion is None else {**both, "teacher": self.companion}


_PLAIN_HEAD = Linear()
_PER_HEAD = PerHead()
_ONE_STEP = OneStep()


@dataclass(frozen=True)
class Defense:
    """What is trained and how it is attacked while it trains.

    Args:
        objective: per-image loss on clean and adversarial logits.
        maximiser: how adversarial images are made; None for standard training.
        head: features -> logits.
        hook: change of the trunk's last stage.
        combine: how a loss becomes a loss over all outputs.
        regularisers: penalties added to the objective.
        negatives: where the images of another class come from.
        companion: a second network.
        perturbation: where the weights are while the gradient is taken.
        policy: how many updates a batch gets.
    """

    objective: Objective
    maximiser: Maximiser | None = None
    head: HeadFactory = _PLAIN_HEAD
    hook: HookFactory | None = None
    combine: PerHead = _PER_HEAD
    regularisers: tuple[Regulariser, ...] = ()
    negatives: NegativeSource | None = None
    companion: Companion | None = None
    perturbation: Perturbation | None = None
    policy: StepPolicy = _ONE_STEP

    def __post_init__(self) -> None:
        if self.policy.makes_images:
            self._check_replay()
        makes_images = self.maximiser is not None or self.policy.makes_images
        if ADVERSARIAL in self.needs and not makes_images:
            raise HarnessError(
                f"{_words(self.objective)} and its regularisers need adversarial images, and no "
                "part of this defense makes them: choose a base that trains on attacks."
            )

    def _check_replay(self) -> None:
        """Free training makes its images with the gradient of the update itself."""
        others = {
            "a training attack of its own": self.maximiser is not None,
            "a second network, which would have to be replayed too": self.companion is not None,
            "a weight perturbation, which needs images that do not depend on the update": (
                self.perturbation is not None
            ),
            "reverse attention, whose label gate would steer the perturbation": (
                self.hook is not None
            ),
            "clean images or negatives, which have no pass of their own": (
                self.needs != {ADVERSARIAL}
            ),
        }
        for what, is_there in others.items():
            if is_there:
                raise HarnessError(
                    f"free training replays one pass for weights and images alike; it cannot be "
                    f"combined with {what}. Choose pgd_at or fast_at as the base."
                )

    @property
    def needs(self) -> frozenset[str]:
        """Every kind of image or player that some loss looks at."""
        return self.objective.needs.union(*(part.needs for part in self.regularisers))

    def build(
        self,
        build: Build,
        statistics: tuple[Tensor, Tensor] | None = None,
        *,
        teacher: Network | None = None,
    ) -> Players:
        """Fresh networks.

        Args:
            build: what for.
            statistics: mean and standard deviation [C] for `Build.normalise`; 0 and 1 stand in for
                them where weights are loaded afterwards.
            teacher: a trained companion to use instead of a fresh one.
        """
        network = _seeded(build.seed, "student", lambda: self._network(build, statistics))
        if self.companion is not None and teacher is None:
            other = replace(build, architecture=build.teacher, settings={})
            chosen = other if build.teacher else build
            plain = replace(self, head=_PLAIN_HEAD, hook=None)
            teacher = _seeded(build.seed, "teacher", lambda: plain._network(chosen, statistics))
        return Players(network, teacher, self._extras(build.seed, network, teacher))

    def capabilities(self, network: Network, classes: int) -> Capabilities:
        """What an attacker can reach in a network of this defense."""
        has_margin = type(network.head).training_logits is not Head.training_logits
        aware = network.hook is not None or has_margin
        trained = ADVERSARIAL in self.objective.needs
        return Capabilities(
            classes=classes,
            auxiliary=network.hook.auxiliary if network.hook else 0,
            select=network.hook.has_gate if network.hook else False,
            features=True,
            scale=network.head.scale,
            signs=network.head.signs,
            strip=network.hook is not None,
            training_loss=trained
            and (aware or CLEAN in self.objective.needs)
            and getattr(self.objective, "is_alone", True),
        )

    def per_image(self, batch: Batch) -> Tensor:
        """[N], the objective over all outputs."""
        outputs = 1 + (batch.network.hook.auxiliary if batch.network.hook else 0)
        return batch.combine(lambda k: self.objective(batch, k), outputs)

    def loss(self, batch: Batch) -> Tensor:
        """The scalar that one step minimises, for every player at once."""
        batch.prepare(self.needs)
        total = self.per_image(batch).mean()
        for regulariser in self.regularisers:
            total = total + regulariser(batch)
        if self.companion is not None and not self.companion.frozen:
            logits = batch.teacher.deployed()
            total = total + torch.nn.functional.cross_entropy(logits, batch.labels)
        return total

    def composition(self) -> dict[str, str]:
        """The parts as text, for people; parts that are not there are left out."""
        parts = {field.name: _words(getattr(self, field.name)) for field in fields(self)}
        if self.hook is None:
            del parts["combine"]
        if not self.policy.makes_images:
            del parts["policy"]
        return {name: text for name, text in parts.items() if text}

    def _extras(self, seed: int, network: Network, teacher: Network | None) -> dict[str, nn.Module]:
        found: dict[str, nn.Module] = {}
        for part in self.regularisers:
            if isinstance(part, HasModules):
                make = partial(part.modules, network, teacher)
                found |= _seeded(seed, type(part).__name__, make)
        return found

    def _network(self, build: Build, statistics: tuple[Tensor, Tensor] | None) -> Network:
        trunk = ARCHITECTURES[build.architecture].build(build.shape, **build.settings)
        head = self.head.build(trunk.features, build.classes)
        hook = self.hook.build(trunk) if self.hook else None
        if not build.normalise:
            return Network(trunk, head, hook)
        channels = build.shape[0]
        mean, std = statistics or (torch.zeros(channels), torch.ones(channels))
        return Network(trunk, head, hook, Normalisation(mean, std))


def _seeded(seed: int, role: str, build: Callable[[], Made]) -> Made:
    """What `build` makes with the random stream of its role, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator(seed, "weights", role).initial_seed())
        return build()


def _words(part: object) -> str:
    """`Trades(beta=6.0)` becomes `trades (beta 6)`; nothing becomes an empty text."""
    if part is None or part == () or part is False:
        return ""
    if isinstance(part, tuple):
        return ", ".join(_words(one) for one in part)
    if not is_dataclass(part) or isinstance(part, type):
        return str(part).lower()
    name = "".join(f" {c.lower()}" if c.isupper() else c for c in type(part).__name__).strip()
    settings = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in asdict(part).items())
    return f"{name} ({settings})" if settings else name


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
