"""The lazy record of one training batch: every output is computed once, on first use.

The number of train-mode passes, and so of BatchNorm updates, is exactly the number of distinct
needs (`composition.md` section 3). Images that attacks make come first, in evaluation mode; a step
asks for them through `prepare` before any train-mode pass moves a running statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.network import Network
from harness.models.prepared import folded, rough
from harness.outputs import Outputs, Select
from harness.threat import ThreatModel

CLEAN, ADVERSARIAL, NEGATIVE, TEACHER = "clean", "adversarial", "negative", "teacher"


@dataclass(frozen=True)
class PerHead:
    """One loss over several logits: final + weight x mean over the auxiliary ones.

    ANCRA section 3.3; with two auxiliary outputs and weight 2 it is their plain sum. A network
    without auxiliary outputs leaves the final loss alone.
    """

    auxiliary_weight: float = 2.0

    def __call__(self, loss: Callable[[int], Tensor], outputs: int) -> Tensor:
        """Combine `loss(k)` for k in 0 .. outputs - 1, where 0 is the final one."""
        final = loss(0)
        if outputs == 1:
            return final
        auxiliary = torch.stack([loss(k) for k in range(1, outputs)]).mean(dim=0)
        return final + self.auxiliary_weight * auxiliary


class Answers:
    """Outputs of one pass as the losses see them; output 0 is the final one."""

    def __init__(self, outputs: Outputs, labels: Tensor, network: Network) -> None:
        self._outputs = outputs
        self._labels = labels
        self._head = network.head
        self.count = len(outputs.every_logits())

    @property
    def features(self) -> Tensor:
        """[N, R], penultimate, before any gate."""
        if self._outputs.features is None:
            raise ValueError("this network returns no features")
        return self._outputs.features

    def deployed(self, k: int = 0) -> Tensor:
        """[N, K], logits as deployed."""
        return self._outputs.every_logits()[k]

    def scaled(self, k: int = 0) -> Tensor:
        """[N, K], deployed logits times the head's inner scale: what inner attacks and KL see."""
        logits, scale = self.deployed(k), self._head.inner_scale
        return logits if scale == 1.0 else scale * logits

    def training(self, k: int = 0) -> Tensor:
        """[N, K], scaled, and with the head's margin on the label: what cross-entropy sees."""
        return self._head.training_logits(self.deployed(k), self._labels)


class Negatives(NamedTuple):
    """One image of another class per anchor.

    Args:
        images: [N, C, H, W].
        labels: [N], never the anchor's label where `exists`.
        exists: [N] bool, false where the batch holds no other class.
    """

    images: Tensor
    labels: Tensor
    exists: Tensor


class Maximiser(Protocol):
    """How the training attack is made: (batch) -> adversarial images [N, C, H, W]."""

    def __call__(self, batch: Batch) -> Tensor: ...


class NegativeSource(Protocol):
    """How negatives are chosen and made: (batch) -> `Negatives`."""

    def __call__(self, batch: Batch) -> Negatives: ...


@dataclass(frozen=True)
class InnerBudget:
    """How hard training attacks climb.

    Args:
        threat: the ball they stay in.
        steps: gradient steps.
        step: step length on the [0, 1] pixel scale.
        bn: mode of BatchNorm while an attack on the training images climbs, `eval` or `train`;
            in `train` every pass moves the running statistics, as in the code that does so
            (`baselines.md` section 1).
    """

    threat: ThreatModel
    steps: int
    step: float
    bn: str = "eval"


class Memory:
    """What stateful parts remember from step to step; saved with the run and resumed exactly.

    A value is never changed in place: a part reads it, makes a new one and writes that.

    Args:
        labels: [M] int64, of the whole training split; a batch's `indices` are positions in it.
        learnt: [L] int64 on the CPU, the positions that batches come from; all of them if None.
    """

    def __init__(self, labels: Tensor, learnt: Tensor | None = None) -> None:
        self.labels = labels
        self.learnt = torch.arange(len(labels)) if learnt is None else learnt
        self.values: dict[str, Tensor] = {}

    def get(self, name: str, fresh: Callable[[], Tensor]) -> Tensor:
        """The value of that name, made by `fresh` where nothing was written yet."""
        if name not in self.values:
            self.values[name] = fresh().to(self.labels.device)
        return self.values[name]

    def put(self, name: str, value: Tensor) -> None:
        """Write a value; it carries no gradient."""
        self.values[name] = value.detach()

    def aside(self) -> Memory:
        """A copy whose changes are forgotten, for passes that must leave no trace."""
        copy = Memory(self.labels, self.learnt)
        copy.values = dict(self.values)
        return copy


class Batch:
    """Images, labels and every output a loss may need, each computed once.

    Args:
        network: the defense's network, in the mode in which outputs are wanted.
        images: [N, C, H, W] in [0, 1], augmented.
        labels: [N] int64.
        budget: how hard training attacks climb.
        combine: how one loss becomes a loss over all outputs.
        generator: CPU random numbers of this step.
        maximiser: makes `adversarial_images`.
        negatives: makes `negatives`.
        companion: the second network, if there is one.
        epoch: 1-based epoch; weights may ramp with it.
        epochs: of the whole run.
        step: 0-based step of the epoch.
        indices: [N] int64, positions of the images in the training split; 0 .. N - 1 if None.
        memory: what stateful parts remember; an empty one if None.
        extras: trainable modules of losses, by name.
        precision: `float32`, or `bfloat16` for passes under autocast; outputs are float32.
        labels_on_cpu: the same labels where random numbers are drawn, so that a draw that depends
            on them does not wait for the device; copied from `labels` on first use if None.
        folds: whether attacks in evaluation mode climb on a folded copy of the network, which is
            cheaper and differs from the network itself by rounding.
    """

    def __init__(
        self,
        network: Network,
        images: Tensor,
        labels: Tensor,
        *,
        budget: InnerBudget,
        combine: PerHead,
        generator: torch.Generator,
        maximiser: Maximiser | None = None,
        negatives: NegativeSource | None = None,
        companion: Network | None = None,
        epoch: int = 1,
        epochs: int = 100,
        step: int = 0,
        indices: Tensor | None = None,
        memory: Memory | None = None,
        extras: Mapping[str, nn.Module] | None = None,
        precision: str = "float32",
        labels_on_cpu: Tensor | None = None,
        folds: bool = False,
    ) -> None:
        self.network = network
        self.images = images
        self.labels = labels
        self.budget = budget
        self.combine = combine
        self.generator = generator
        self.companion = companion
        self.epoch = epoch
        self.epochs = epochs
        self.step = step
        self.indices = torch.arange(len(labels)) if indices is None else indices
        self.memory = memory or Memory(labels)
        self.extras = extras or {}
        self.precision = precision
        self.survived: Tensor | None = None
        """[N], how many inner steps each image stayed right; set by a maximiser that counts."""
        self.measures: dict[str, Tensor] = {}
        """Scalars that parts want in the training curves, by name."""
        self._labels_on_cpu = labels_on_cpu
        self._maximiser = maximiser
        self._negatives = negatives
        self._original: Batch | None = None
        self._folds = folds
        self._is_attacked = False
        self._copy: Network | None = None

    @property
    def labels_on_cpu(self) -> Tensor:
        """[N] int64, for draws that depend on them."""
        if self._labels_on_cpu is None:
            self._labels_on_cpu = self.labels.cpu()
        return self._labels_on_cpu

    def prepare(self, needs: Iterable[str]) -> None:
        """Make the images that attacks have to make, negatives first, before any other pass."""
        wanted = set(needs)
        if NEGATIVE in wanted:
            _ = self.negatives
        if ADVERSARIAL in wanted:
            _ = self.adversarial_images

    def epoch_of(self, length: int) -> float:
        """The 1-based epoch of a run of `length` epochs that this one stands for.

        Schedules of the papers are written for the papers' runs. A run that is as long, or longer,
        counts its own epochs; a shorter one counts the same fraction of the run.
        """
        return self.epoch * max(length / self.epochs, 1.0)

    @contextmanager
    def attacking(self) -> Iterator[None]:
        """How attacks on training images see the network (`InnerBudget.bn`).

        In evaluation mode the network is a fixed function as long as the attack climbs. Where the
        batch `folds`, `answers` then come from a copy, in bfloat16 if the run is. It is made at the
        first question and forgotten at the end, for the next step changes the weights; it has no
        gradient but that of the images.
        """
        if self.budget.bn == "train":
            yield
            return
        with evaluating(self.network):
            self._is_attacked = True
            try:
                yield
            finally:
                self._is_attacked, self._copy = False, None

    def measure(self, name: str, value: Tensor) -> None:
        """Put a scalar into the training curves: the epoch's mean of it is kept."""
        self.measures[name] = value.detach()

    def with_adversarial(self, images: Tensor) -> Batch:
        """The same batch with these adversarial images [N, C, H, W] and nothing computed yet."""
        return self._twin(self.network, self.memory, {"adversarial_images": images})

    def on(self, network: Network) -> Batch:
        """The same images, attacked ones and teacher's answers included, on another network.

        What stateful parts write there is forgotten. For looks at a copy of the weights.
        """
        kept = ("negatives", "adversarial_images")
        found = {name: self.__dict__[name] for name in kept if name in self.__dict__}
        twin = self._twin(network, self.memory.aside(), found)
        twin._original = self  # the teacher answers once, whoever asks first
        return twin

    def _twin(self, network: Network, memory: Memory, computed: Mapping[str, object]) -> Batch:
        twin = copy(self)
        for name, part in vars(Batch).items():
            if isinstance(part, cached_property):
                twin.__dict__.pop(name, None)
        twin.network, twin.memory = network, memory
        twin._is_attacked, twin._copy = False, None
        twin.__dict__.update(computed)  # where cached properties keep their values
        return twin

    @cached_property
    def negatives(self) -> Negatives:
        """One attacked image of another class per anchor."""
        if self._negatives is None:
            raise ValueError("a loss needs negatives but the defense declares no source of them")
        return self._negatives(self)

    @cached_property
    def adversarial_images(self) -> Tensor:
        """[N, C, H, W], what the maximiser found."""
        if self._maximiser is None:
            raise ValueError("a loss needs adversarial images but the defense has no maximiser")
        return self._maximiser(self)

    @cached_property
    def clean(self) -> Answers:
        """Answers to the clean images, gates of the label."""
        return self.answers(self.images, self.labels, select=self.labels)

    @cached_property
    def adversarial(self) -> Answers:
        """Answers to the adversarial images, gates of the label."""
        return self.answers(self.adversarial_images, self.labels, select=self.labels)

    @cached_property
    def negative(self) -> Answers:
        """Answers to the negatives, gates of their own labels."""
        negatives = self.negatives
        return self.answers(negatives.images, negatives.labels, select=negatives.labels)

    @cached_property
    def teacher(self) -> Answers:
        """The companion's answers to the clean images."""
        return self._original.teacher if self._original else self._taught(self.images)

    @cached_property
    def teacher_adversarial(self) -> Answers:
        """The companion's answers to the adversarial images."""
        if self._original:
            return self._original.teacher_adversarial
        return self._taught(self.adversarial_images)

    def _taught(self, images: Tensor) -> Answers:
        if self.companion is None:
            raise ValueError("a loss needs a teacher but the defense declares no companion")
        outputs = self._pass(self.companion, images, None, exact=False)
        return Answers(outputs, self.labels, self.companion)

    def answers(
        self, images: Tensor, labels: Tensor, *, select: Select, exact: bool = False
    ) -> Answers:
        """Answers to any images; gates follow `select`, their own argmax where it is None.

        Args:
            images: [N, C, H, W].
            labels: [N].
            select: as in `Network.forward`.
            exact: in float32 whatever the precision of the run; the one gradient of a single-step
                attack needs it.
        """
        if self._is_attacked and self._folds and not exact:
            outputs = self._pass_of_the_copy(images, select)
        else:
            outputs = self._pass(self.network, images, select, exact=exact)
        return Answers(outputs, labels, self.network)

    def _pass_of_the_copy(self, images: Tensor, select: Select) -> Outputs:
        is_exact = self.precision == "float32"
        if self._copy is None:
            copy = folded(self.network)
            self._copy = copy if is_exact else rough(copy)
        outputs: Outputs = self._copy(images, select=select)
        return outputs if is_exact else in_float32(outputs)

    def _pass(self, network: Network, images: Tensor, select: Select, *, exact: bool) -> Outputs:
        if self.precision == "float32" or exact:
            outputs: Outputs = network(images, select=select)
            return outputs
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            outputs = network(images, select=select)
        return in_float32(outputs)

    def per_head(self, loss: Callable[[int], Tensor], answers: Answers) -> Tensor:
        """Combine a loss over all outputs of this network."""
        return self.combine(loss, answers.count)


def sent(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU on the device; nobody waits until it is there."""
    if device.type != "cuda":
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)


def in_float32(outputs: Outputs) -> Outputs:
    """The same answers as float32: losses are always computed at that precision."""
    return replace(
        outputs,
        logits=outputs.logits.float(),
        auxiliary=tuple(logits.float() for logits in outputs.auxiliary),
        features=None if outputs.features is None else outputs.features.float(),
        vectors=tuple(vectors.float() for vectors in outputs.vectors),
        gated=None if outputs.gated is None else outputs.gated.float(),
    )


def kl(clean: Tensor, adversarial: Tensor) -> Tensor:
    """`KL(softmax(clean) || softmax(adversarial))` per image: [N, K], [N, K] -> [N]."""
    return functional.kl_div(
        adversarial.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True
    ).sum(1)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode of every module after."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
