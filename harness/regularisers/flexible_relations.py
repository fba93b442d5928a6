"""Flexible relation preserving: keep which images are near which, as the clean teacher sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, TEACHER, Batch
from harness.errors import unknown_name
from harness.regularisers.weight_schedules import check_schedule, factor

MEASURED_AT = (1, 10, 50)
"""Epochs, of 100, at whose first step the strength of the term is measured."""

_SMALLEST = 1e-12
_POWERS = {"sum": 0, "row": 1, "pair": 2}


@dataclass(frozen=True)
class FlexibleRelations:
    """`weight` times the divergence between the teacher's and the student's neighbourhoods.

    FRPAT, equations 6 to 8 (`frpat.md` section 2.2). Teacher features come from clean images and
    are detached, student features from adversarial ones. At the first step of epochs 1, 10 and 50
    of 100 the training curve `relation_gradient_ratio` gets `gradient_ratio`.

    Args:
        weight: lambda (5 on CIFAR-10, 20 on CIFAR-100).
        schedule: what the weight is multiplied by, in `SCHEDULES`.
        reduction: `sum`, the plain double sum over the batch that equation 8 prints, `row` (over
            N) or `pair` (over N^2); the latter two make the term invisible at published weights.
        shared_rho: whether the student's affinities count from the teacher's nearest distances,
            as equation 7 prints it, instead of the student's own.
        detach_rho: whether the nearest distances carry no gradient.
    """

    weight: float = 5.0
    schedule: str = "none"
    reduction: str = "sum"
    shared_rho: bool = False
    detach_rho: bool = False

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        if self.reduction not in _POWERS:
            raise unknown_name("reduction", self.reduction, _POWERS)

    @property
    def needs(self) -> frozenset[str]:
        """Which images and players it looks at."""
        return frozenset({ADVERSARIAL, TEACHER})

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar; its gradient reaches the student alone."""
        teacher = batch.teacher.features.detach()
        if is_measured(batch):
            ratio = gradient_ratio(batch, lambda student: self.divergence(teacher, student))
            batch.measure("relation_gradient_ratio", ratio)
        value = self.divergence(teacher, batch.adversarial.features)
        return self.weight * factor(self.schedule, batch) * value

    def divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """The scalar before weight and schedule, for features [N, R] and [N, S]."""
        value = relation_divergence(
            teacher, student, shared_rho=self.shared_rho, detach_rho=self.detach_rho
        )
        return value / math.pow(len(teacher), _POWERS[self.reduction])


def relation_divergence(
    teacher: Tensor, student: Tensor, *, shared_rho: bool = False, detach_rho: bool = False
) -> Tensor:
    """Sum over ordered pairs of the binary KL divergence between two relation matrices.

    Args:
        teacher: [N, R] features.
        student: [N, S] features; the widths may differ, only [N, N] relations are compared.
        shared_rho: as in `FlexibleRelations`.
        detach_rho: as in `FlexibleRelations`.
    """
    if len(teacher) < 2:
        return student.sum() * 0.0  # undefined for one image; 0 with a valid graph
    nearest = nearest_distances(teacher if shared_rho else student)
    if detach_rho:
        nearest = nearest.detach()
    p, q = relations(teacher), relations(student, nearest)
    inside = ~_self_pairs(p)
    p, q = p[inside], q[inside]
    return (_divergence(p, q) + _divergence(1 - p, 1 - q)).sum()


def relations(features: Tensor, nearest: Tensor | None = None) -> Tensor:
    """[N, R] -> [N, N], column j holding the affinities p(i|j); the diagonal is 0.

    Args:
        features: [N, R].
        nearest: [N], the distances rho from which affinities count; the features' own if None.
    """
    distance = cosine_distances(features)
    rho = nearest_distances(features) if nearest is None else nearest
    # Rounding, and a rho of somebody else, can push the farthest affinity below 0.
    affinity = (2 - (distance - rho[None, :])).clamp(min=_SMALLEST)
    affinity = affinity.masked_fill(_self_pairs(distance), 0.0)
    return affinity / affinity.sum(dim=0, keepdim=True)


def nearest_distances(features: Tensor) -> Tensor:
    """[N, R] -> [N], rho: how far the nearest other image is from each."""
    distance = cosine_distances(features)
    return distance.masked_fill(_self_pairs(distance), torch.inf).amin(dim=0)


def cosine_distances(features: Tensor) -> Tensor:
    """[N, R] -> [N, N], `1 - cos`, in [0, 2]."""
    unit = functional.normalize(features, dim=1, eps=_SMALLEST)
    return 1 - unit @ unit.T


def is_measured(batch: Batch) -> bool:
    """Whether this is the first step of an epoch that one of `MEASURED_AT` falls into."""
    last = batch.epoch_of(100)
    first = last * (batch.epoch - 1) / batch.epoch
    return batch.step == 0 and any(first < epoch <= last for epoch in MEASURED_AT)


def gradient_ratio(batch: Batch, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Length of the gradient of `loss` over that of mean cross-entropy, at the same features.

    Both gradients are taken at the student's features of the adversarial images, so the term is
    compared with PGD-AT's loss whatever the objective is, and its weight is left out
    (`frpat.md` section 2.2: about 0.06 for 10 classes, 0.01 for 100).

    Args:
        batch: whose head is used; no statistic or gradient of it changes.
        loss: features [N, S] -> scalar.
    """
    head, labels = batch.network.head, batch.labels
    with torch.enable_grad():
        features = batch.adversarial.features.detach().requires_grad_()
        logits = head.training_logits(head(features), labels)
        accuracy = functional.cross_entropy(logits, labels)
        (of_loss,) = torch.autograd.grad(loss(features), features)
        (of_accuracy,) = torch.autograd.grad(accuracy, features)
    ratio: Tensor = of_loss.norm() / of_accuracy.norm().clamp(min=_SMALLEST)
    return ratio


def _self_pairs(table: Tensor) -> Tensor:
    return torch.eye(len(table), dtype=torch.bool, device=table.device)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    p, q = p.clamp(min=_SMALLEST), q.clamp(min=_SMALLEST)
    return p * (p.log() - q.log())
