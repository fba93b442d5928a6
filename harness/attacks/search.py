"""What an attack has reached so far, per image: the only way an attack sees the model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss
from harness.attacks.streams import Streams
from harness.attacks.surfaces import Points, Surface
from harness.errors import ModelError, first_line


class Look(NamedTuple):
    """What one look at candidate images showed.

    Args:
        value: [n], the loss that the attack climbs.
        gradient: like the candidate; zeros where the model's gradient is not finite.
        kept: [n] bool, false where an image is broken and leaves the search.
    """

    value: Tensor
    gradient: Tensor
    kept: Tensor


class Search:
    """One attack on one batch: judges every candidate, keeps the first that breaks, counts passes.

    The clean image is the first candidate and every iterate counts; a broken image leaves at once.
    Both are departures from the published attacks and can only strengthen them.

    Args:
        surface: what the attack climbs.
        images: [N, C, H, W] in [0, 1], clean and classified correctly.
        labels: [N] int64.
        ball: what the threat model allows around each image.
        streams: random numbers per image.
        drops_broken: whether a broken image leaves at once (off for diagnostics).
    """

    def __init__(
        self,
        surface: Surface,
        ball: Ball,
        labels: Tensor,
        streams: Streams,
        *,
        drops_broken: bool = True,
    ) -> None:
        self.surface = surface
        self.ball = ball
        self.labels = labels
        self.streams = streams
        self.drops_broken = drops_broken
        count, device = len(labels), labels.device
        self.broken = torch.zeros(count, dtype=torch.bool, device=device)
        self.adversarial = ball.images.clone()
        self.first_success = torch.full((count,), -1, dtype=torch.int64, device=device)
        self.loss_start = torch.full((count,), torch.nan, device=device)
        self.loss_best = torch.full((count,), -torch.inf, device=device)
        self.looks = torch.zeros(count, dtype=torch.int64, device=device)
        self.forwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.backwards = torch.zeros(count, dtype=torch.int64, device=device)

    def standing(self) -> Tensor:
        """Positions [n] of the images still to be attacked."""
        if self.drops_broken:
            return (~self.broken).nonzero()[:, 0]
        return torch.arange(len(self.broken), device=self.broken.device)

    def climb(
        self, positions: Tensor, candidate: Tensor, loss: AttackLoss, targets: Tensor | None = None
    ) -> Look:
        """Judge candidates and differentiate the loss at them.

        Args:
            positions: [n], which images of the batch the candidates belong to.
            candidate: [n, C, H, W], inside the ball.
            loss: (logits, labels, targets) -> [n].
            targets: [n], for a targeted loss.

        Raises:
            ModelError: the model's backward pass raised.
        """
        if len(positions) == 0:
            return _nothing(candidate)
        points = self._points(positions, targets)
        candidate = candidate.detach().requires_grad_()
        with torch.enable_grad():
            value, deployed = self.surface(candidate, points, loss)
            gradient = _gradient(value, candidate)
        self.backwards[positions] += 1
        kept = self._record(positions, candidate.detach(), value.detach(), deployed.detach())
        return Look(value.detach(), torch.nan_to_num(gradient, 0.0, 0.0, 0.0), kept)

    def judge(
        self, positions: Tensor, candidate: Tensor, loss: AttackLoss, targets: Tensor | None = None
    ) -> Look:
        """Judge candidates without differentiating; `gradient` is empty."""
        if len(positions) == 0:
            return _nothing(candidate)
        points = self._points(positions, targets)
        with torch.no_grad():
            value, deployed = self.surface(candidate, points, loss)
        kept = self._record(positions, candidate, value, deployed)
        return Look(value, torch.empty(0), kept)

    def judge_clean(self, loss: AttackLoss, targets: Tensor | None = None) -> None:
        """Make the clean images the first candidates; `targets` [N] are the whole batch's."""
        active = self.standing()
        chosen = None if targets is None else targets[active]
        self.judge(active, self.ball.images[active], loss, chosen)

    def rivals(self, positions: Tensor, count: int) -> Tensor:
        """[n, count] int64: the wrong classes with the largest clean logits, best first.

        No more than there are wrong classes.
        """
        with torch.no_grad():
            logits = self.surface.rank(self.ball.images[positions]).clone()
        self.forwards[positions] += 1
        logits.scatter_(1, self.labels[positions][:, None], -torch.inf)
        ranked = logits.argsort(dim=1, descending=True, stable=True)[:, :-1]  # the label is last
        return ranked[:, :count]

    def _points(self, positions: Tensor, targets: Tensor | None) -> Points:
        return Points(self.ball.images[positions], self.labels[positions], targets)

    def _record(
        self, positions: Tensor, candidate: Tensor, value: Tensor, deployed: Tensor
    ) -> Tensor:
        wrong = ~is_right(deployed, self.labels[positions])
        new = wrong & ~self.broken[positions]
        self.adversarial[positions[new]] = candidate[new]
        self.first_success[positions[new]] = self.looks[positions[new]]
        self.broken[positions[new]] = True
        unseen = self.looks[positions] == 0
        self.loss_start[positions[unseen]] = value[unseen].float()
        self.loss_best[positions] = torch.fmax(self.loss_best[positions], value.float())
        self.looks[positions] += 1
        self.forwards[positions] += self.surface.forwards
        return ~self.broken[positions] if self.drops_broken else torch.ones_like(wrong)


def _nothing(candidate: Tensor) -> Look:
    """A look at no images, without the model: many cannot flatten an empty batch."""
    return Look(candidate.new_empty(0), candidate, candidate.new_empty(0, dtype=torch.bool))


def _gradient(value: Tensor, candidate: Tensor) -> Tensor:
    try:
        (gradient,) = torch.autograd.grad(value.sum(), candidate)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(
            "no_gradient",
            f"the model's backward pass raised {type(error).__name__}: {first_line(error)}",
        ) from error
    return gradient


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """[N] bool: the deployed decision (lowest index on ties); non-finite logits are wrong."""
    return (logits.argmax(1) == labels) & torch.isfinite(logits).all(1)
