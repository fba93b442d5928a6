"""Asymmetric negative contrast: push negatives away from where they imitate the anchor."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import CLEAN, NEGATIVE, Answers, Batch, evaluating
from harness.errors import HarnessError, unknown_name

ANCHORS = ("shared", "train", "eval")


@dataclass(frozen=True)
class NegativeContrast:
    """`weight` times the similarity of anchor and negative where both predict the same class.

    ANCRA, equations 3 and 4 (`ancra.md` section 3). It measures, per output k, the share of
    anchors that match as `match_rate_K`; gates of the label leave hardly any match but in the first
    auxiliary output.

    Args:
        weight: zeta.
        alpha: 1 freezes the anchor and pushes the negative alone, 0 the other way round; the
            value does not depend on it, only the gradient does.
        anchors: whose answers to the clean images these are. `shared` are those that the other
            losses look at too. Where none does (PGD-AT) the anchors have a pass of their own, with
            BatchNorm in mode `train` or `eval`, and without gradient if alpha is 1; in `eval` the
            running statistics already know the step's adversarial images.
    """

    weight: float = 3.0
    alpha: float = 1.0
    anchors: str = "shared"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise HarnessError(f"alpha must lie in [0, 1] but is {self.alpha}.")
        if self.anchors not in ANCHORS:
            raise unknown_name("mode of the anchors", self.anchors, ANCHORS)

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, NEGATIVE} if self.anchors == "shared" else {NEGATIVE})

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar: the sum over images divided by the batch size, matching or not."""
        exists = batch.negatives.exists
        anchors = self._anchors(batch)

        def similarity(k: int) -> Tensor:
            anchor, negative = anchors.scaled(k).softmax(1), batch.negative.scaled(k).softmax(1)
            matches = match(anchor, negative) & exists
            batch.measure(f"match_rate_{k}", matches.to(anchor.dtype).mean())
            return exists * contrast(anchor, negative, self.alpha)

        return self.weight * batch.per_head(similarity, anchors).mean()

    def _anchors(self, batch: Batch) -> Answers:
        if self.anchors == "shared":
            return batch.clean
        mode = evaluating(batch.network) if self.anchors == "eval" else nullcontext()
        with mode, torch.set_grad_enabled(self.alpha < 1):
            return batch.answers(batch.images, batch.labels, select=batch.labels)


def contrast(anchor: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """Similarity of two probability tensors [N, K] -> [N]; 0 where their argmaxes differ."""
    return match(anchor, negative).to(anchor.dtype) * likeness(anchor, negative, alpha)


def match(anchor: Tensor, negative: Tensor) -> Tensor:
    """[N] bool, whether two probability tensors [N, K] have their argmax at the same class."""
    return anchor.argmax(1) == negative.argmax(1)


def likeness(anchor: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """[N], root of the product of both probabilities [N, K] of the anchor's predicted class."""
    predicted = anchor.argmax(1)
    p = anchor.gather(1, predicted[:, None])[:, 0]
    q = negative.gather(1, predicted[:, None])[:, 0]
    # sqrt has no gradient at 0: where the argmaxes differ q can be 0, and 0 * inf is NaN
    p, q = (value.clamp(min=1e-12) for value in (p, q))
    frozen_anchor = (p.detach() * q).sqrt()
    frozen_negative = (p * q.detach()).sqrt()
    return alpha * frozen_anchor + (1 - alpha) * frozen_negative
