"""A defense is a value made of parts; `@defense` gives it a name, a paper and a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.attacks.streams import generator
from harness.batch import ADVERSARIAL, CLEAN, Batch, Maximiser, NegativeSource, PerHead
from harness.errors import HarnessError, unknown_name
from harness.heads.linear import Linear
from harness.identity import Capabilities, Value
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Head, Hook, Network, Normalisation
from harness.models.trunk import Shape, Trunk
from harness.recipe import ANCRA, Recipe, checked
from harness.registry import Registry


class Objective(Protocol):
    """Per-image training loss of output k, 0 being the final one."""

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, batch: Batch, k: int) -> Tensor: ...


class Regulariser(Protocol):
    """A penalty over the whole batch, its weight included."""

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, batch: Batch) -> Tensor: ...


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
    """

    shape: Shape
    classes: int
    architecture: str
    settings: Mapping[str, Value]
    teacher: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Companion:
    """A second network that learns the clean images beside the student: `CE(M(x), y)`.

    FRPAT, algorithm 1: same batches, same optimiser settings, from scratch.
    """


@dataclass(frozen=True)
class Players:
    """The networks that one training run updates."""

    network: Network
    companion: Network | None = None

    def modules(self) -> dict[str, Network]:
        """By role, `student` first."""
        both = {"student": self.network}
        return both if self.companion is None else {**both, "teacher": self.companion}


_PLAIN_HEAD = Linear()
_PER_HEAD = PerHead()


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
        normalised: whether the training images' mean and deviation are taken out inside the model.
    """

    objective: Objective
    maximiser: Maximiser | None = None
    head: HeadFactory = _PLAIN_HEAD
    hook: HookFactory | None = None
    combine: PerHead = _PER_HEAD
    regularisers: tuple[Regulariser, ...] = ()
    negatives: NegativeSource | None = None
    companion: Companion | None = None
    normalised: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Every kind of image or player that some loss looks at."""
        return self.objective.needs.union(*(part.needs for part in self.regularisers))

    def build(self, build: Build, statistics: tuple[Tensor, Tensor] | None = None) -> Players:
        """Fresh networks.

        Args:
            build: what for.
            statistics: mean and standard deviation [C] for `normalised`; ones are put in their
                place where weights are loaded afterwards.
        """
        network = _seeded(build.seed, "student", lambda: self._network(build, statistics))
        if self.companion is None:
            return Players(network)
        if build.teacher:
            build = replace(build, architecture=build.teacher, settings={})
        plain = replace(self, head=_PLAIN_HEAD, hook=None)
        teacher = _seeded(build.seed, "teacher", lambda: plain._network(build, statistics))
        return Players(network, teacher)

    def capabilities(self, network: Network, classes: int) -> Capabilities:
        """What an attacker can reach in a network of this defense."""
        aware = network.hook is not None or network.head.scale != 1.0
        trained = ADVERSARIAL in self.objective.needs
        return Capabilities(
            classes=classes,
            auxiliary=network.hook.auxiliary if network.hook else 0,
            select=network.hook.has_gate if network.hook else False,
            features=True,
            scale=network.head.scale,
            strip=network.hook is not None,
            training_loss=trained and (aware or CLEAN in self.objective.needs),
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
        if self.companion is not None:
            logits = batch.teacher.deployed()
            total = total + torch.nn.functional.cross_entropy(logits, batch.labels)
        return total

    def composition(self) -> dict[str, str]:
        """The parts as text, for people; parts that are not there are left out."""
        parts = {field.name: _words(getattr(self, field.name)) for field in fields(self)}
        if self.hook is None:
            del parts["combine"]
        return {name: text for name, text in parts.items() if text}

    def _network(self, build: Build, statistics: tuple[Tensor, Tensor] | None) -> Network:
        trunk = ARCHITECTURES[build.architecture].build(build.shape, **build.settings)
        head = self.head.build(trunk.features, build.classes)
        hook = self.hook.build(trunk) if self.hook else None
        if not self.normalised:
            return Network(trunk, head, hook)
        channels = build.shape[0]
        mean, std = statistics or (torch.zeros(channels), torch.ones(channels))
        return Network(trunk, head, hook, Normalisation(mean, std))


def _seeded(seed: int, role: str, build: Callable[[], Network]) -> Network:
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


@dataclass(frozen=True)
class Paper:
    """Where a defense comes from."""

    title: str
    arxiv: str = ""
    authors: str = ""
    year: int = 0

    def to_json(self) -> dict[str, str]:
        """A plain mapping for the store."""
        return {key: str(value) for key, value in asdict(self).items() if value}


@dataclass(frozen=True)
class DefenseEntry:
    """One registered defense: `build(**settings)` gives the value.

    Args:
        name: the function's name, as in the column `defense` of the published claims.
        build: keywords -> `Defense`.
        settings: every keyword with its default.
        paper: where it comes from.
        recipe: the paper's, at scale `full`.
        description: first line of the function's docstring.
    """

    name: str
    build: Callable[..., Defense]
    settings: Mapping[str, Value]
    paper: Paper
    recipe: Recipe
    description: str

    def compose(self, settings: Mapping[str, Value]) -> tuple[Defense, dict[str, Value]]:
        """The defense and all its settings, defaults filled in.

        Raises:
            HarnessError: unknown setting, or a value of another kind.
        """
        for key in settings:
            if key not in self.settings:
                raise unknown_name(f"setting of {self.name}", key, self.settings)
        full: dict[str, Value] = {
            key: checked(key, settings.get(key, default), type(default))
            for key, default in self.settings.items()
        }
        for key, value in full.items():
            if isinstance(value, float) and not 0 <= value <= 1e6:
                raise HarnessError(f"{self.name}: {key} must lie in [0, 1e6] but is {value}.")
        return self.build(**full), full


DEFENSES: Registry[DefenseEntry] = Registry("defense", "defenses", "robust_harness.defenses")


def defense(
    *, paper: Paper, recipe: Recipe = ANCRA
) -> Callable[[Callable[..., Defense]], Callable[..., Defense]]:
    """Register a function as the defense of its name; its keywords are the settings."""

    def register(build: Callable[..., Defense]) -> Callable[..., Defense]:
        settings: dict[str, Any] = {
            key: parameter.default for key, parameter in inspect.signature(build).parameters.items()
        }
        description = inspect.cleandoc(build.__doc__ or "").partition("\n")[0]
        name = build.__name__
        DEFENSES.add(name, DefenseEntry(name, build, settings, paper, recipe, description))
        return build

    return register
