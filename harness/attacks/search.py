"""What an attack has reached so far, per image: the only way an attack sees the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss
from harness.attacks.streams import Restart, Streams
from harness.attacks.surfaces import Logits, Points, Surface
from harness.attacks.windows import Local, Nearby, Tries
from harness.errors import HarnessError, ModelError, first_line


class Look(NamedTuple):
    """What one look at candidate images showed.

    Args:
        value: [n], the loss that the attack climbs.
        gradient: like the candidate; zeros where the model's gradient is not finite.
        kept: [n] bool, false where an image is broken and leaves the search.
        wrong: [n] bool, whether the deployed decision on the candidate is wrong.
    """

    value: Tensor
    gradient: Tensor
    kept: Tensor
    wrong: Tensor


class Slopes(NamedTuple):
    """The rivals of one look: per class the difference to the true class and its gradient.

    Args:
        differences: [n, T], value of the target class minus that of the true one.
        gradients: [n, T, C, H, W], their gradients; zeros where not finite.
        kept: as in `Look`.
        wrong: as in `Look`.
    """

    differences: Tensor
    gradients: Tensor
    kept: Tensor
    wrong: Tensor

    def take(self, chosen: Tensor) -> Slopes:
        """The same for some of the images."""
        return Slopes(*(one[chosen] for one in self))


class Probes(NamedTuple):
    """Values at several points around each image, for gradients estimated by differences.

    Args:
        values: [n, m].
        kept: [n] bool, as in `Look`.
    """

    values: Tensor
    kept: Tensor


class Ahead(NamedTuple):
    """What several candidates of each image showed.

    Args:
        number: [n] int64, of the last candidate that was looked at.
        value: [n], its loss.
        counted: [n] bool, whether that one counts.
        kept: as in `Look`.
    """

    number: Tensor
    value: Tensor
    counted: Tensor
    kept: Tensor


@dataclass(frozen=True)
class Guides:
    """Training images that a feature attack may steer towards; never test images.

    Args:
        images: [M, C, H, W] in [0, 1].
        labels: [M] int64.
    """

    images: Tensor
    labels: Tensor


_PROBES_AT_ONCE = 64
"""Model passes per call while probing, or as many as the search has images if that is more."""

ROOM = 100
"""Rows of a shared pass on the CPU: as many as a slice of images has, so no more memory."""

Confirm = Callable[[Tensor], Tensor]
"""Candidates [n, C, H, W] -> [n, K], whose argmax has the last word on a wrong decision: the votes
of a random model, or the logits of the model as loaded where a faster copy of it is searched."""


class Search:
    """One attack on one batch: judges every candidate, keeps the first that breaks, counts passes.

    The clean image is the first candidate and every iterate counts; a broken image leaves at once.
    Both are departures from the published attacks and can only strengthen them.

    Args:
        surface: what the attack climbs.
        ball: what the threat model allows around each image; its images are [N, C, H, W] in [0, 1].
        labels: [N] int64.
        streams: random numbers per image.
        drops_broken: whether a broken image leaves at once (off for diagnostics).
        keeps_trace: whether to keep the value of every look (`trace`).
        guides: training images, for attacks that need them.
        confirm: has the last word where the surface's decision is wrong, if it is given.
        confirms_outside: whether it is asked about candidates outside the ball too.
        rough: the surface on a bfloat16 copy of the model, for attacks that lose nothing by it.
        local: answers for candidates that change one window, where only that is recomputed.
        room: how many rows of runs (`pooling`) or queries may share a pass; changes no bit
            on the CPU.

    Attributes:
        notes: [N] each, by name: what an attack reports about itself and nothing decides by.
    """

    def __init__(
        self,
        surface: Surface,
        ball: Ball,
        labels: Tensor,
        streams: Streams,
        *,
        drops_broken: bool = True,
        keeps_trace: bool = False,
        guides: Guides | None = None,
        confirm: Confirm | None = None,
        confirms_outside: bool = False,
        rough: Surface | None = None,
        local: Local | None = None,
        room: int = ROOM,
    ) -> None:
        self.surface = surface
        self.ball = ball
        self.labels = labels
        self.streams = streams
        self.drops_broken = drops_broken
        self.keeps_trace = keeps_trace
        self.guides = guides
        self.confirm = confirm
        self.confirms_outside = confirms_outside
        self.rough = rough
        self.local = local
        self.room = room
        count, device = len(labels), labels.device
        self.broken = torch.zeros(count, dtype=torch.bool, device=device)
        self.last_wrong = torch.zeros(count, dtype=torch.bool, device=device)
        self.last = ball.images.clone()
        self.adversarial = ball.images.clone()
        self.first_success = torch.full((count,), -1, dtype=torch.int64, device=device)
        self.loss_start = torch.full((count,), torch.nan, device=device)
        self.loss_best = torch.full((count,), -torch.inf, device=device)
        self.nearest = torch.full((count,), torch.inf, dtype=torch.float64, device=device)
        self.looks = torch.zeros(count, dtype=torch.int64, device=device)
        self.forwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.backwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.trace: list[Tensor] = []
        self.notes: dict[str, Tensor] = {}
        self._around = (torch.arange(count, device=device), ball, ball)

    def standing(self) -> Tensor:
        """Positions [n] of the images still to be attacked."""
        if self.drops_broken:
            return (~self.broken).nonzero()[:, 0]
        return torch.arange(len(self.broken), device=self.broken.device)

    def around(self, positions: Tensor) -> Ball:
        """The ball of some of the images; asked for the same ones again it is not cut again."""
        known, whole, ball = self._around
        if whole is not self.ball or not (known is positions or torch.equal(known, positions)):
            ball = self.ball.take(positions)
            self._around = positions, self.ball, ball
        return ball

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
        return self._look(positions, candidate, loss, targets, is_inside=None)

    def judge(
        self, positions: Tensor, candidate: Tensor, loss: AttackLoss, targets: Tensor | None = None
    ) -> Look:
        """Judge candidates without differentiating; `gradient` is empty."""
        if len(positions) == 0:
            return _nothing(candidate)
        points = self._points(positions, targets)
        with torch.no_grad():
            value, deployed = self.surface(candidate, points, loss)
        wrong, kept = self._record(positions, candidate, value, deployed, None)
        return Look(value, torch.empty(0), kept, wrong)

    def nearby(self, images: Tensor) -> Nearby | None:
        """What answers for changes of a window of `images` [n, C, H, W]; None for whole passes.

        Only the deployed logits can be had without a whole pass, so every other surface says None.
        """
        is_plain = type(self.surface) is Logits and len(images) > 0
        return self.local(images) if self.local is not None and is_plain else None

    def judge_ahead(
        self,
        positions: Tensor,
        tries: Tries,
        loss: AttackLoss,
        beyond: Tensor,
        nearby: Nearby | None = None,
    ) -> Ahead:
        """As `judge`, for one candidate of an image after the other until one of them counts.

        One counts whose value exceeds `beyond` or whose decision is wrong; where `beyond` is no
        number, every one does. Nothing is kept of the candidates after it, nor are they counted:
        all of them were passed through the model at once only because that costs less.

        Args:
            positions: [n].
            tries: candidates inside the ball.
            loss: (logits, labels, targets) -> [n], without targets.
            beyond: [n], the largest value of the run so far.
            nearby: answers for the windows of `tries` where that takes no whole pass; counted as
                whole passes: what it saves is time, not queries.
        """
        shape = tries.candidates.shape[:2]
        rows = positions.repeat_interleave(shape[1])
        with torch.no_grad():
            if nearby is not None:
                deployed = tries.logits(nearby)
                values = loss(deployed, self.labels[rows], None)
            else:
                points = Points(self.ball.images[rows], self.labels[rows], None)
                values, deployed = self.surface(tries.candidates.flatten(0, 1), points, loss)
        values, wrong = values.view(shape), ~is_right(deployed, self.labels[rows]).view(shape)
        meant = torch.arange(shape[1], device=rows.device) < tries.most[:, None]
        counts = ((values > beyond[:, None]) | beyond.isnan()[:, None] | wrong) & meant
        number = torch.where(counts.any(1), counts.int().argmax(1), tries.most - 1)
        self.looks[positions] += number
        self.forwards[positions] += number * self.surface.forwards
        chosen = torch.arange(shape[0], device=rows.device), number
        value, decided = values[chosen], deployed.view(*shape, -1)[chosen]
        _, kept = self._record(positions, tries.take(number), value, decided, None)
        return Ahead(number, value, counts.any(1), kept)

    def explore(
        self,
        positions: Tensor,
        candidate: Tensor,
        loss: AttackLoss,
        targets: Tensor | None = None,
        *,
        gradient: bool = True,
    ) -> Look:
        """As `climb` (or `judge`), for candidates of the box that may lie outside the ball.

        Outside the ball nothing is broken; how near a wrong decision was is kept in `nearest`.
        """
        if len(positions) == 0:
            return _nothing(candidate)
        is_inside = self.around(positions).contains(candidate)
        if gradient:
            return self._look(positions, candidate, loss, targets, is_inside=is_inside)
        points = self._points(positions, targets)
        with torch.no_grad():
            value, deployed = self.surface(candidate, points, loss)
        wrong, kept = self._record(positions, candidate, value, deployed, is_inside)
        return Look(value, torch.empty(0), kept, wrong)

    def probe(self, positions: Tensor, candidates: Tensor, loss: AttackLoss) -> Probes:
        """Values of the loss at several points per image, which may leave ball and box.

        A wrong decision inside the ball breaks the image as a look would. A probe is no iterate:
        `last`, `loss_best`, `nearest` and the trace keep nothing of it.

        Args:
            positions: [n], each image once and judged before.
            candidates: [n, m, C, H, W].
            loss: (logits, labels, targets) -> [n], without targets.
        """
        if len(positions) == 0:
            return Probes(candidates.new_empty(0), _nothing(candidates).kept)
        rows, points = positions.repeat_interleave(candidates.shape[1]), candidates.flatten(0, 1)
        values, wrong = torch.empty(len(rows), device=rows.device), torch.empty_like(rows).bool()
        size = max(len(self.labels), _PROBES_AT_ONCE)
        for start in range(0, len(rows), size):
            piece = slice(start, start + size)
            values[piece], wrong[piece] = self._probe(rows[piece], points[piece], loss)
        shape = candidates.shape[:2]
        kept = self._record_probes(positions, candidates, wrong.view(shape))
        return Probes(values.view(shape), kept)

    def slopes(self, positions: Tensor, candidate: Tensor, targets: Tensor) -> Slopes:
        """Explore candidates: differences of several classes to the true one, and their gradients.

        One forward pass (of each kind that the surface makes) and one backward pass per target.

        Args:
            positions: [n].
            candidate: [n, C, H, W] in the box.
            targets: [n, T] int64, other classes than the true one. A single one is given to the
                surface as the target; several make the attack an untargeted one.

        Raises:
            HarnessError: the surface's value is not made of logits.
            ModelError: the model's backward pass raised.
        """

        def differences(logits: Tensor, labels: Tensor, _: Tensor | None) -> Tensor:
            return (logits.gather(1, targets) - logits.gather(1, labels[:, None])).T  # [T, n]

        if len(positions) == 0:
            nothing = _nothing(candidate)
            empty = candidate.new_empty(0, targets.shape[1], *candidate.shape[1:])
            return Slopes(empty.flatten(2).sum(2), empty, nothing.kept, nothing.wrong)
        is_inside = self.around(positions).contains(candidate)
        candidate = candidate.detach().requires_grad_()
        points = self._points(positions, targets[:, 0] if targets.shape[1] == 1 else None)
        with torch.enable_grad():
            values, deployed = self.surface(candidate, points, differences)
            if values.shape != targets.T.shape:
                raise HarnessError(
                    "this attack needs the value of every class, which the surface "
                    f"{type(self.surface).__name__} does not give: choose another, such as logits."
                )
            gradients = [_gradient(value, candidate, retain=True) for value in values]
        self.backwards[positions] += targets.shape[1] * self.surface.backwards
        stacked = values.detach().T
        wrong, kept = self._record(
            positions, candidate.detach(), stacked.amax(1), deployed.detach(), is_inside
        )
        several = torch.stack(gradients, dim=1) if len(gradients) > 1 else gradients[0][:, None]
        found = torch.nan_to_num(several, 0.0, 0.0, 0.0)
        return Slopes(stacked, found, kept, wrong)

    def judge_clean(self, loss: AttackLoss, targets: Tensor | None = None) -> None:
        """Make the clean images the first candidates; `targets` [N] are the whole batch's."""
        active = self.standing()
        chosen = None if targets is None else targets[active]
        self.judge(active, self.ball.images[active], loss, chosen)

    def random_start(self, positions: Tensor, *, restart: Restart) -> Tensor:
        """[n, C, H, W], a random point of each image's ball, from streams of its own."""
        ball = self.ball.take(positions)
        shape, device = ball.images.shape[1:], ball.images.device
        uniform = self.streams.uniform(positions, shape, restart=restart, purpose="start")
        radius = self.streams.uniform(positions, (1, 1, 1), restart=restart, purpose="radius")
        return ball.random_start(uniform.to(device), radius.to(device))

    def rivals(self, positions: Tensor, count: int) -> Tensor:
        """[n, count] int64: the wrong classes with the largest clean logits, best first.

        No more than there are wrong classes.
        """
        if len(positions) == 0:
            return positions.new_empty(0, count)
        with torch.no_grad():
            logits = self.surface.rank(self.ball.images[positions]).clone()
        self.forwards[positions] += self.surface.rank_forwards
        logits.scatter_(1, self.labels[positions][:, None], -torch.inf)
        ranked = logits.argsort(dim=1, descending=True, stable=True)[:, :-1]  # the label is last
        return ranked[:, :count]

    def part(self, streams: Streams) -> Search:
        """A search of its own on the images still standing; give it to `absorb` when it is done.

        Args:
            streams: of the part, for all images of this search.
        """
        standing = self.standing()
        return Search(
            self.surface,
            self.ball.take(standing),
            self.labels[standing],
            streams.take(standing),
            drops_broken=self.drops_broken,
            keeps_trace=self.keeps_trace,
            guides=self.guides,
            confirm=self.confirm,
            confirms_outside=self.confirms_outside,
            rough=self.rough,
            local=self.local,
            room=self.room,
        )

    def absorb(self, part: Search) -> None:
        """Take over what a part found; nothing else may have run since it was made.

        Values of two losses cannot be compared: those that are kept, and the image where nothing
        broke, are those of the part that broke it or else of the last that looked.
        """
        standing = self.standing()
        new = part.broken & ~self.broken[standing]
        self.first_success[standing[new]] = self.looks[standing[new]] + part.first_success[new]
        looked = part.looks > 0
        still = looked & ~self.broken[standing]
        for name in ("adversarial", "loss_start", "loss_best"):
            getattr(self, name)[standing[still]] = getattr(part, name)[still]
        self.broken[standing] |= part.broken
        for name in ("last", "last_wrong"):
            getattr(self, name)[standing[looked]] = getattr(part, name)[looked]
        self.nearest[standing] = torch.minimum(self.nearest[standing], part.nearest)
        for name in ("looks", "forwards", "backwards"):
            getattr(self, name)[standing] += getattr(part, name)
        self.trace += [self._row(standing, values) for values in part.trace]
        self.notes |= {name: self._row(standing, note) for name, note in part.notes.items()}

    def _row(self, positions: Tensor, values: Tensor) -> Tensor:
        """[N] numbers, NaN for the images that have none."""
        row = torch.full_like(self.loss_best, torch.nan)
        row[positions] = values.float()
        return row

    def _look(
        self,
        positions: Tensor,
        candidate: Tensor,
        loss: AttackLoss,
        targets: Tensor | None,
        *,
        is_inside: Tensor | None,
    ) -> Look:
        if len(positions) == 0:
            return _nothing(candidate)
        points = self._points(positions, targets)
        candidate = candidate.detach().requires_grad_()
        with torch.enable_grad():
            value, deployed = self.surface(candidate, points, loss)
            gradient = _gradient(value, candidate)
        self.backwards[positions] += self.surface.backwards
        wrong, kept = self._record(
            positions, candidate.detach(), value.detach(), deployed.detach(), is_inside
        )
        return Look(value.detach(), torch.nan_to_num(gradient, 0.0, 0.0, 0.0), kept, wrong)

    def _points(self, positions: Tensor, targets: Tensor | None) -> Points:
        return Points(self.around(positions).images, self.labels[positions], targets)

    def _record(
        self,
        positions: Tensor,
        candidate: Tensor,
        value: Tensor,
        deployed: Tensor,
        is_inside: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        wrong = self._decide(positions, candidate, deployed, is_inside)
        allowed = torch.ones_like(wrong) if is_inside is None else is_inside
        if is_inside is not None:
            self._keep_nearest(positions, candidate, wrong)
        self._keep_highest(positions, candidate, value, allowed)
        self._break(positions, candidate, wrong & allowed & ~self.broken[positions])
        self.last[positions], self.last_wrong[positions] = candidate, wrong & allowed
        unseen = self.looks[positions] == 0
        self.loss_start[positions[unseen]] = value[unseen].float()
        self.looks[positions] += 1
        self.forwards[positions] += self.surface.forwards
        if self.keeps_trace:
            self.trace.append(self._row(positions, value))
        return wrong, self._kept(positions)

    def _probe(self, rows: Tensor, points: Tensor, loss: AttackLoss) -> tuple[Tensor, Tensor]:
        """Value of each point, and whether it lies in the ball and is wrong."""
        with torch.no_grad():
            value, deployed = self.surface(points, self._points(rows, None), loss)
        inside = self.ball.take(rows).contains(points)
        wrong = inside.clone()
        wrong[inside] = self._decide(rows[inside], points[inside], deployed[inside])
        return value, wrong

    def _record_probes(self, positions: Tensor, candidates: Tensor, wrong: Tensor) -> Tensor:
        """Keep the first wrong probe [n, m] of each image; which images stay."""
        first = (wrong.cumsum(1) == 0).sum(1)
        new = wrong.any(1) & ~self.broken[positions]
        self.adversarial[positions[new]] = candidates[new, first[new]]
        self.first_success[positions[new]] = self.looks[positions[new]] + first[new]
        self.broken[positions[new]] = True
        self.looks[positions] += wrong.shape[1]
        self.forwards[positions] += wrong.shape[1] * self.surface.forwards
        return self._kept(positions)

    def _kept(self, positions: Tensor) -> Tensor:
        broken = self.broken[positions]
        return ~broken if self.drops_broken else torch.ones_like(broken)

    def _decide(
        self,
        positions: Tensor,
        candidate: Tensor,
        deployed: Tensor,
        is_inside: Tensor | None = None,
    ) -> Tensor:
        """[n] bool; where `confirm` has the last word it is asked about wrong ones."""
        wrong = ~is_right(deployed, self.labels[positions])
        if self.confirm is None:
            return wrong
        asked = wrong if is_inside is None or self.confirms_outside else wrong & is_inside
        doubtful = asked.nonzero()[:, 0]
        if len(doubtful):
            found = self.confirm(candidate[doubtful])
            wrong[doubtful] = ~is_right(found, self.labels[positions[doubtful]])
        return wrong

    def _keep_highest(
        self, positions: Tensor, candidate: Tensor, value: Tensor, allowed: Tensor
    ) -> None:
        """What is returned where nothing breaks: the allowed point of the highest value."""
        higher = allowed & (value.float() > self.loss_best[positions])
        rows = higher.nonzero()[:, 0]
        self.loss_best[positions[rows]] = value[rows].float()
        rows = (higher & ~self.broken[positions]).nonzero()[:, 0]
        self.adversarial[positions[rows]] = candidate[rows]

    def _keep_nearest(self, positions: Tensor, candidate: Tensor, wrong: Tensor) -> None:
        """How near a wrong decision was, among candidates of the box."""
        rows = wrong.nonzero()[:, 0]
        if len(rows) == 0:
            return
        points, where = candidate[rows], positions[rows]
        in_box = (points.amin((1, 2, 3)) >= 0) & (points.amax((1, 2, 3)) <= 1)
        distance = self.around(positions).distance(points, rows).where(in_box, torch.inf)
        self.nearest[where] = torch.minimum(self.nearest[where], distance)

    def _break(self, positions: Tensor, candidate: Tensor, new: Tensor) -> None:
        """Keep the candidates that are the first to break their images."""
        rows = new.nonzero()[:, 0]
        if len(rows) == 0:
            return
        where = positions[rows]
        self.adversarial[where] = candidate[rows]
        self.first_success[where] = self.looks[where]
        self.broken[where] = True


def _nothing(candidate: Tensor) -> Look:
    """A look at no images, without the model: many cannot flatten an empty batch."""
    no = candidate.new_empty(0, dtype=torch.bool)
    return Look(candidate.new_empty(0), candidate, no, no)


def _gradient(value: Tensor, candidate: Tensor, *, retain: bool = False) -> Tensor:
    try:
        (gradient,) = torch.autograd.grad(value.sum(), candidate, retain_graph=retain)
    except (torch.OutOfMemoryError, ModelError):
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
