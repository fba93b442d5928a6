"""Flexible relation preserving: keep which images are near which, as the clean teacher sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, TEACHER, Batch

_SMALLEST = 1e-12


@dataclass(frozen=True)
class FlexibleRelations:
    """`weight` times the divergence between the teacher's and the student's neighbourhoods.

    FRPAT, equations 6 to 8 (`frpat.md` section 2.2). Teacher features come from clean images and
    are detached, student features from adversarial ones. The reduction is the plain double sum
    over the batch, as equation 8 prints it.

    Args:
        weight: lambda (5 on CIFAR-10, 20 on CIFAR-100).
        ramp: multiply by `2 / (1 + exp(-10 t / 100)) - 1`, t the 1-based epoch; the paper's
            garbled formula read as the usual sigmoid ramp (`frpat.md` section 3). In runs of
            fewer than 100 epochs t counts hundredths of the run, so that the ramp is complete.
    """

    weight: float = 5.0
    ramp: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Which images and players it looks at."""
        return frozenset({ADVERSARIAL, TEACHER})

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar; its gradient reaches the student alone."""
        teacher = batch.teacher.features.detach()
        factor = self.weight * (
            sigmoid_ramp(batch.epoch * max(100 / batch.epochs, 1)) if self.ramp else 1.0
        )
        return factor * relation_divergence(teacher, batch.adversarial.features)


def relation_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Sum over ordered pairs of the binary KL divergence between two relation matrices.

    Args:
        teacher: [N, R] features.
        student: [N, S] features; the widths may differ, only [N, N] relations are compared.
    """
    if len(teacher) < 2:
        return student.sum() * 0.0  # undefined for one image; 0 with a valid graph
    p, q = relations(teacher), relations(student)
    inside = ~torch.eye(len(p), dtype=torch.bool, device=p.device)
    p, q = p[inside], q[inside]
    return (_divergence(p, q) + _divergence(1 - p, 1 - q)).sum()


def relations(features: Tensor) -> Tensor:
    """[N, R] -> [N, N], column j holding the affinities p(i|j); the diagonal is 0."""
    unit = functional.normalize(features, dim=1, eps=_SMALLEST)
    distance = 1 - unit @ unit.T
    self_pairs = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    nearest = distance.masked_fill(self_pairs, torch.inf).amin(dim=0)
    affinity = (2 - (distance - nearest[None, :])).masked_fill(self_pairs, 0.0)
    return affinity / affinity.sum(dim=0, keepdim=True)


def sigmoid_ramp(epoch: float) -> float:
    """0 at the start, 0.987 at epoch 50: `2 / (1 + exp(-t / 10)) - 1`."""
    return 2 / (1 + math.exp(-epoch / 10)) - 1


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    p, q = p.clamp(min=_SMALLEST), q.clamp(min=_SMALLEST)
    return p * (p.log() - q.log())
