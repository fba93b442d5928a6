"""Negatives for the asymmetric contrast: images of another class, attacked towards the anchor's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Answers, Batch, Negatives, evaluating
from harness.maximisers.pgd import ascend, label_loss


@dataclass(frozen=True)
class TargetedNegatives:
    """A random image of another class, attacked until it looks like the anchor's class.

    ANCRA supplement, section "negative samples", strategy "Random + Targeted attack"
    (`ancra.md` 3.1). The attack minimises cross-entropy towards the anchor's label; the
    supplement's table prints a maximum, its text and code minimise.

    Args:
        noise: standard deviation of the normal start, on the [0, 1] pixel scale.
    """

    noise: float = 0.001

    def __call__(self, batch: Batch) -> Negatives:
        """One negative per anchor, all from inside the batch."""
        partners, exists = other_class_partners(batch.labels, batch.generator)
        towards_anchor = label_loss(batch)

        def descend(answers: Answers) -> Tensor:
            return -towards_anchor(answers)

        with evaluating(batch.network):
            images = ascend(
                batch, batch.images[partners], batch.labels[partners], descend, self.noise
            )
        return Negatives(images, batch.labels[partners], exists)


def other_class_partners(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each anchor a class drawn uniformly among the others present, then an image of it.

    Args:
        labels: [N] int64.
        generator: CPU random numbers.

    Returns:
        partners: [N] int64 positions in the batch (the anchor itself where nothing else is).
        exists: [N] bool, whether the batch holds another class.
    """
    own = labels.cpu()
    present, counts = torch.unique(own, return_counts=True)
    position = torch.searchsorted(present, own)
    draws = torch.rand(2, len(own), generator=generator)
    if len(present) == 1:
        return torch.arange(len(own), device=labels.device), torch.zeros_like(labels).bool()
    other = (draws[0] * (len(present) - 1)).long()
    other = other + (other >= position)  # skip the anchor's own class
    by_class = own.argsort(stable=True)
    first = counts.cumsum(0) - counts
    within = (draws[1] * counts[other]).long()
    partners = by_class[first[other] + within]
    return partners.to(labels.device), torch.ones_like(labels).bool()
