"""The training probe: every epoch a small PGD on training images, so that no collapse goes unseen.

Single-step training can lose all robustness within one epoch while its loss looks better than ever
(catastrophic overfitting, Wong et al., 2020, arXiv:2001.03994, section 5.3). The probe also picks
the best epoch, never looking at a test image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.attacks.streams import generator
from harness.batch import Batch, InnerBudget, PerHead, evaluating
from harness.maximisers.pgd import ascend, label_loss, near
from harness.models.network import Network
from harness.threat import ThreatModel

STEPS = 10
RELATIVE_STEP = 0.25
"""PGD-10 with a quarter of epsilon, from close to the image."""

HELD_OUT = 0.02
"""Share of the training images that scales other than `full` keep for the probe."""

LARGEST = 1000
"""Images of a probe, at most."""

FALL = 0.2
"""A fall of PGD accuracy by more than this is a collapse, if chance does not explain it."""

_BATCH = 250
_CHANCE = 0.01


@dataclass(frozen=True)
class Division:
    """Which images are learnt and which probed, as positions in the training split.

    Args:
        learnt: [M] int64.
        probed: [P] int64; none of `learnt` at the scales that hold images out.
        is_held_out: whether the two share no image.
    """

    learnt: Tensor
    probed: Tensor
    is_held_out: bool


def divide(count: int, scale: str) -> Division:
    """Divide `count` training images; the same way for every seed and defense.

    At scale `full` all are learnt, as in the papers, and 1,000 of them probed.
    """
    order = torch.randperm(count, generator=generator("probe", count))
    if scale == "full":
        return Division(torch.arange(count), order[:LARGEST].sort().values, is_held_out=False)
    size = min(max(round(HELD_OUT * count), 1), LARGEST)
    return Division(order[size:].sort().values, order[:size].sort().values, is_held_out=True)


def probe(
    network: Network, images: Tensor, labels: Tensor, threat: ThreatModel, combine: PerHead
) -> tuple[float, float]:
    """Clean and PGD-10 accuracy of the deployed decision.

    The attack climbs cross-entropy of every output at the scale of training, as a training attack
    would; an image counts as robust if it is right as it is and at the last iterate.

    Args:
        network: in any mode; evaluation mode is used and the former one restored.
        images: [P, C, H, W] uint8.
        labels: [P].
        threat: of training.
        combine: how the loss becomes one over all outputs.
    """
    right = robust = 0
    budget = InnerBudget(threat, STEPS, RELATIVE_STEP * float(threat.epsilon))
    with evaluating(network):
        for first in range(0, len(labels), _BATCH):
            chosen = slice(first, first + _BATCH)
            clean, truth = images[chosen].float() / 255, labels[chosen]
            draws = generator("probe", first)
            batch = Batch(network, clean, truth, budget=budget, combine=combine, generator=draws)
            ball = Ball.around(clean, threat)
            attacked = ascend(batch, ball, near(batch, ball, 0.001), truth, label_loss(batch))
            with torch.no_grad():
                is_right = network(clean).logits.argmax(1) == truth
                holds = is_right & (network(attacked).logits.argmax(1) == truth)
            right += int(is_right.sum())
            robust += int(holds.sum())
    return right / len(labels), robust / len(labels)


def collapsed_at(accuracies: Sequence[float], count: int) -> int:
    """The 1-based epoch since which PGD accuracy has fallen out of the best before it; 0 for none.

    A fall counts if it is larger than 20 points and an exact binomial test at the best rate
    rejects chance at 1 %: on a probe of a few images large falls are common. A run that comes
    back, as under a high learning rate early on, has not collapsed.

    Args:
        accuracies: PGD accuracy after each epoch so far.
        count: images of the probe.
    """
    best, since = 0.0, 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        is_low = best - accuracy > FALL
        has_fallen = is_low and _at_most(round(accuracy * count), count, best) < _CHANCE
        since = (since or epoch) if has_fallen else 0
        best = max(best, accuracy)
    return since


def best_epoch(accuracies: Sequence[float], clean: Sequence[float]) -> int:
    """The first 1-based epoch of the highest PGD accuracy, ties by clean accuracy; 0 for none."""
    ranked = [
        (robust, right, -epoch)
        for epoch, (robust, right) in enumerate(zip(accuracies, clean, strict=True), start=1)
    ]
    return -max(ranked)[2] if ranked else 0


def _at_most(successes: int, count: int, rate: float) -> float:
    """Probability of so few successes at this rate."""
    return sum(comb(count, k) * rate**k * (1 - rate) ** (count - k) for k in range(successes + 1))
