"""Negatives for the asymmetric contrast: images of another class, attacked towards the anchor's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.batch import Answers, Batch, Negatives, evaluating, sent
from harness.errors import unknown_name
from harness.maximisers.pgd import ascend, label_loss, near

Candidates = Callable[[Tensor, Tensor], Tensor]
"""(labels [N], predicted [N]) -> [N, N] bool: may image j be the negative of anchor i?"""


def _predicted_like_the_anchor(labels: Tensor, predicted: Tensor) -> Tensor:
    del labels
    return predicted[None] == predicted[:, None]


def _predicted_as_the_anchor_s_class(labels: Tensor, predicted: Tensor) -> Tensor:
    return predicted[None] == labels[:, None]


def _predicted_as_neither(labels: Tensor, predicted: Tensor) -> Tensor:
    like = _predicted_like_the_anchor(labels, predicted)
    return ~(like | _predicted_as_the_anchor_s_class(labels, predicted))


_CANDIDATES: dict[str, Candidates | None] = {
    "random": None,
    "soft_ls": _predicted_like_the_anchor,
    "hard_ls": _predicted_as_the_anchor_s_class,
    "easy": _predicted_as_neither,
}
_ATTACKED = "_adv"

STRATEGIES = tuple(name + end for name in _CANDIDATES for end in ("", _ATTACKED))
"""How a negative is chosen; with `_adv` it is attacked afterwards."""

_RUN, _RANDOM_EPOCHS = 120, 10
"""The first ten epochs of the paper's 120 choose at random, whatever the strategy."""


@dataclass(frozen=True)
class InBatchNegatives:
    """One image of another class per anchor, from inside the batch.

    ANCRA supplement, section "negative samples" (`ancra.md` 3.1). `random` draws a class, then an
    image of it. The others look at what the network predicts for the clean images in evaluation
    mode: among the images of another class that it predicts like the anchor (`soft_ls`), as the
    anchor's class (`hard_ls`) or as neither (`easy`), they take the one with the largest logit for
    the anchor's class. Where there is none, and in the first tenth of the run, they draw.

    The attack minimises cross-entropy towards the anchor's label; the supplement's table prints a
    maximum, its text and code minimise.

    Args:
        strategy: one of `STRATEGIES`.
        noise: standard deviation of the attack's normal start, on the [0, 1] pixel scale.
    """

    strategy: str = "random_adv"
    noise: float = 0.001

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise unknown_name("choice of negatives", self.strategy, STRATEGIES)

    def __call__(self, batch: Batch) -> Negatives:
        """One negative per anchor; the anchor itself where the batch holds no other class."""
        partners, exists = self._partners(batch)
        images, labels = batch.images[partners], batch.labels[partners]
        if self.strategy.endswith(_ATTACKED):
            images = self._attacked(batch, images, labels)
        return Negatives(images, labels, exists)

    def _partners(self, batch: Batch) -> tuple[Tensor, Tensor]:
        found = other_class_partners(batch.labels_on_cpu, batch.generator)
        drawn, exists = (sent(one, batch.labels.device) for one in found)
        candidates = _CANDIDATES[self.strategy.removesuffix(_ATTACKED)]
        if candidates is None or batch.epoch_of(_RUN) <= _RANDOM_EPOCHS:
            return drawn, exists
        with torch.no_grad(), evaluating(batch.network):
            logits = batch.answers(batch.images, batch.labels, select=None).deployed()
        return most_alike(logits, batch.labels, candidates, drawn), exists

    def _attacked(self, batch: Batch, images: Tensor, labels: Tensor) -> Tensor:
        towards_anchor = label_loss(batch)

        def descend(answers: Answers) -> Tensor:
            return -towards_anchor(answers)

        with batch.attacking():
            ball = Ball.around(images, batch.budget.threat)
            return ascend(batch, ball, near(batch, ball, self.noise), labels, descend)


def most_alike(logits: Tensor, labels: Tensor, candidates: Candidates, otherwise: Tensor) -> Tensor:
    """For each anchor the candidate of another class with the largest logit for its class.

    Args:
        logits: [N, K], of the clean images.
        labels: [N] int64.
        candidates: which images may be chosen.
        otherwise: [N] int64, what an anchor without candidate gets.

    Returns:
        [N] int64 positions in the batch.
    """
    allowed = candidates(labels, logits.argmax(1)) & (labels[None] != labels[:, None])
    alike = logits[:, labels].T.masked_fill(~allowed, -torch.inf)
    return torch.where(allowed.any(1), alike.argmax(1), otherwise)


def other_class_partners(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each anchor a class drawn uniformly among the others present, then an image of it.

    Args:
        labels: [N] int64, on the CPU.
        generator: CPU random numbers.

    Returns:
        partners: [N] int64 positions in the batch (the anchor itself where nothing else is).
        exists: [N] bool, whether the batch holds another class.
    """
    present, counts = torch.unique(labels, return_counts=True)
    position = torch.searchsorted(present, labels)
    draws = torch.rand(2, len(labels), generator=generator)
    if len(present) == 1:
        return torch.arange(len(labels)), torch.zeros_like(labels).bool()
    other = (draws[0] * (len(present) - 1)).long()
    other = other + (other >= position)  # skip the anchor's own class
    by_class = labels.argsort(stable=True)
    first = counts.cumsum(0) - counts
    within = (draws[1] * counts[other]).long()
    partners = by_class[first[other] + within]
    return partners, torch.ones_like(labels).bool()
