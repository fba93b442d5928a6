"""Contrastive distillation: student and teacher recognise the same image among many others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.batch import ADVERSARIAL, TEACHER, Batch
from harness.errors import HarnessError
from harness.models.network import Network

WIDTH = 128
"""Dimensions of the projections and of the banks."""


@dataclass(frozen=True)
class ContrastiveDistillation:
    """`weight` times the noise-contrastive loss in both directions between two banks.

    Tian et al., 2020 (arXiv:1910.10699), section 3.1, as row "+CRD" of FRPAT's Table 4
    (`frpat.md` section 5). Each network's projection of an image is to score high with the other
    network's bank entry of the same image and low with entries of other images. The banks hold
    one unit vector per training image, positions being the batch's `indices`. Student features
    come from adversarial images; teacher features come from clean ones and are detached, its
    projection learns. Negatives are drawn with replacement and never are the image itself.

    Args:
        weight: of the sum of both directions.
        negatives: K, at most the number of other training images.
        temperature: T.
        momentum: share of the former entry when a bank is renewed, in [0, 1].
    """

    weight: float = 0.8
    negatives: int = 16384
    temperature: float = 0.07
    momentum: float = 0.5

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise HarnessError(f"negatives must be at least 1 but are {self.negatives}.")
        if self.temperature <= 0:
            raise HarnessError(f"the temperature must be above 0 but is {self.temperature}.")
        if self.momentum > 1:
            raise HarnessError(f"a bank's momentum must lie in [0, 1] but is {self.momentum}.")

    @property
    def needs(self) -> frozenset[str]:
        """Which images and players it looks at."""
        return frozenset({ADVERSARIAL, TEACHER})

    def modules(self, student: Network, teacher: Network | None) -> Mapping[str, nn.Module]:
        """One linear projection to `WIDTH` per network."""
        if teacher is None:
            raise ValueError("contrastive distillation needs a companion")
        return {
            "crd_student": nn.Linear(student.trunk.features, WIDTH),
            "crd_teacher": nn.Linear(teacher.trunk.features, WIDTH),
        }

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar; its gradient reaches the student and both projections."""
        views = {
            "crd_student": batch.adversarial.features,
            "crd_teacher": batch.teacher.features.detach(),
        }
        units = {
            name: functional.normalize(batch.extras[name](features), dim=1)
            for name, features in views.items()
        }
        banks = {name: batch.memory.get(f"{name}_bank", partial(_bank, batch)) for name in views}
        own, others = batch.indices.to(batch.labels.device)[:, None], self._draw(batch)
        total = batch.images.new_zeros(())
        for name, other in (("crd_student", "crd_teacher"), ("crd_teacher", "crd_student")):
            scores = units[name] @ banks[other].T / self.temperature  # [N, M], log of the scores
            chosen = scores.gather(1, torch.cat([own, others], dim=1))
            chosen = chosen - _log_normaliser(batch, name, chosen)
            total = total + noise_contrast(chosen[:, 0], chosen[:, 1:], len(batch.memory.learnt))
        for name, bank in banks.items():
            batch.memory.put(f"{name}_bank", self._renewed(bank, units[name].detach(), own[:, 0]))
        return self.weight * total

    def _draw(self, batch: Batch) -> Tensor:
        """[N, K] int64, positions of other learnt images, drawn after the training attack."""
        learnt = batch.memory.learnt
        own = torch.searchsorted(learnt, batch.indices.cpu())[:, None]
        shape = (len(own), min(self.negatives, len(learnt) - 1))
        drawn = torch.randint(len(learnt) - 1, shape, generator=batch.generator)
        return learnt[drawn + (drawn >= own)].to(batch.labels.device)

    def _renewed(self, bank: Tensor, units: Tensor, own: Tensor) -> Tensor:
        mixed = self.momentum * bank[own] + (1 - self.momentum) * units
        return bank.index_copy(0, own, functional.normalize(mixed, dim=1))


def noise_contrast(positive: Tensor, negatives: Tensor, images: int) -> Tensor:
    """`-mean(log s/(s + K/M) + sum over negatives of log (K/M)/(s + K/M))`, s being scores.

    Args:
        positive: [N], logarithms of the positives' scores.
        negatives: [N, K], logarithms of the negatives' scores.
        images: M, that are drawn from.
    """
    noise = math.log(negatives.shape[1] / images)
    missed = functional.softplus(noise - positive)
    mistaken = functional.softplus(negatives - noise).sum(1)
    return (missed + mistaken).mean()


def _bank(batch: Batch) -> Tensor:
    """[M, WIDTH], random unit vectors."""
    draw = torch.randn(len(batch.memory.labels), WIDTH, generator=batch.generator)
    return functional.normalize(draw, dim=1)


def _log_normaliser(batch: Batch, name: str, scores: Tensor) -> Tensor:
    """Scalar, log Z: the first batch's mean score times the number of images, then frozen."""

    def first() -> Tensor:
        mean = scores.detach().flatten().logsumexp(0) - math.log(scores.numel())
        return mean + math.log(len(batch.memory.learnt))

    return batch.memory.get(f"{name}_log_normaliser", first)
