"""Relational distillation: the student keeps the teacher's distances between images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss as huber

from harness.batch import ADVERSARIAL, TEACHER, Batch
from harness.errors import unknown_name
from harness.regularisers.flexible_relations import cosine_distances
from harness.regularisers.weight_schedules import check_schedule, factor

_RELATIONS = ("cosine", "original")
_SHORTEST = 1e-6


@dataclass(frozen=True)
class RelationalDistillation:
    """Huber loss between relations of adversarial student and clean teacher features.

    Park et al., 2019 (arXiv:1904.05068), as row "RKD" of FRPAT's Table 4 (`frpat.md` section 5).
    FRPAT says that the cosine distance itself is the relation, which is the default here.

    Args:
        weight: of the cosine relation; lambda, as for flexible relations.
        schedule: what it is multiplied by, in `SCHEDULES`.
        relation: `cosine`, or `original`: relative Euclidean distances and angles of triples.
        distance_weight: of the original's distances (section 4.1 of its paper).
        angle_weight: of the original's angles.
    """

    weight: float = 5.0
    schedule: str = "none"
    relation: str = "cosine"
    distance_weight: float = 25.0
    angle_weight: float = 50.0

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        if self.relation not in _RELATIONS:
            raise unknown_name("relation", self.relation, _RELATIONS)

    @property
    def needs(self) -> frozenset[str]:
        """Which images and players it looks at."""
        return frozenset({ADVERSARIAL, TEACHER})

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar; its gradient reaches the student alone."""
        teacher, student = batch.teacher.features.detach(), batch.adversarial.features
        if self.relation == "cosine":
            scale = self.weight * factor(self.schedule, batch)
            return scale * cosine_difference(teacher, student)
        distances = huber(relative_distances(student), relative_distances(teacher))
        turns = huber(angles(student), angles(teacher))
        return self.distance_weight * distances + self.angle_weight * turns


def cosine_difference(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean Huber loss between cosine distances over i != j; 0 for one image.

    Args:
        teacher: [N, R] features.
        student: [N, S] features.
    """
    if len(teacher) < 2:
        return student.sum() * 0.0
    others = ~torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    return huber(cosine_distances(student)[others], cosine_distances(teacher)[others])


def relative_distances(features: Tensor) -> Tensor:
    """[N, R] -> [N, N], Euclidean distances over their mean between different images.

    Of one image it is [[0]].
    """
    distances = _lengths(_differences(features))
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    if not others.any():
        return distances * 0.0
    return distances * others / distances[others].mean()


def angles(features: Tensor) -> Tensor:
    """[N, R] -> [N, N, N], cosine of the angle at image i between images j and k.

    0 where j or k is i itself.
    """
    differences = _differences(features)
    lengths = _lengths(differences)[:, :, None]
    # The derivative of a direction grows without bound where two images have the same features.
    directions = torch.where(lengths > _SHORTEST, differences / lengths, 0.0)
    return directions @ directions.transpose(1, 2)


def _differences(features: Tensor) -> Tensor:
    return features[None, :] - features[:, None]


def _lengths(differences: Tensor) -> Tensor:
    """[N, N, R] -> [N, N], at least `_SHORTEST`."""
    return differences.square().sum(2).clamp(min=_SHORTEST**2).sqrt()
