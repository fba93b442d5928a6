"""The lazy record of one training batch: every output is computed once, on first use.

The number of train-mode passes, and so of BatchNorm updates, is exactly the number of distinct
needs (`composition.md` section 3). Images that attacks make come first, in evaluation mode; a step
asks for them through `prepare` before any train-mode pass moves a running statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.network import Network
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
        """[N, K], deployed logits times the head's scale: what inner attacks and KL terms see."""
        logits = self.deployed(k)
        return logits if self._outputs.logit_scale == 1.0 else self._outputs.logit_scale * logits

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
    """

    threat: ThreatModel
    steps: int
    step: float


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
        self._maximiser = maximiser
        self._negatives = negatives

    def prepare(self, needs: Iterable[str]) -> None:
        """Make the images that attacks have to make, negatives first, before any other pass."""
        wanted = set(needs)
        if NEGATIVE in wanted:
            _ = self.negatives
        if ADVERSARIAL in wanted:
            _ = self.adversarial_images

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
        if self.companion is None:
            raise ValueError("a loss needs a teacher but the defense declares no companion")
        return Answers(self.companion(self.images), self.labels, self.companion)

    def answers(self, images: Tensor, labels: Tensor, *, select: Select) -> Answers:
        """Answers to any images; gates follow `select`, their own argmax where it is None."""
        return Answers(self.network(images, select=select), labels, self.network)

    def per_head(self, loss: Callable[[int], Tensor], answers: Answers) -> Tensor:
        """Combine a loss over all outputs of this network."""
        return self.combine(loss, answers.count)


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
