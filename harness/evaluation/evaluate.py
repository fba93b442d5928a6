"""Run one job: attack the images of a slice, verify what came back, return bits and numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from harness.attacks.attack import ATTACKS, run_attack
from harness.attacks.search import ROOM, Search, is_right
from harness.data import Split
from harness.data.corruptions import Corrupted
from harness.errors import HarnessError, ModelError
from harness.evaluation.batching import AUTOMATIC, fitting, in_batches
from harness.evaluation.handle import PADDING
from harness.evaluation.randomised import RandomHandle, is_void
from harness.evaluation.searching import NO_AIDS, Aids, search_of
from harness.evaluation.subject import Subject
from harness.identity import CLEAN, SHARD, Job, Outcome, Runtime
from harness.verification import check_inside, fresh_decision, margin_of

Keep = Callable[[Tensor, Tensor, Tensor], None]
"""Is handed positions in the slice, adversarial images, and which of them are broken."""

_ROUNDING = 1e-3
"""Relative to the largest logit: far above float32 on any device, far below what decides."""


def evaluate(
    job: Job,
    subject: Subject,
    data: Split | Corrupted,
    attackable: Tensor,
    runtime: Runtime,
    aids: Aids = NO_AIDS,
    keep: Keep | None = None,
) -> Outcome:
    """Run `job`.

    Args:
        job: what to run; `CLEAN` judges the images as they are, a corruption those of `data`.
        subject: the loaded checkpoint.
        data: the test split, or its corrupted images where that is the threat.
        attackable: [last - first] bool, the images of the slice that are in the population.
        runtime: where and in which batches; changes no bit (an attack in parity mode couples the
            images of a batch as its reference does: it always gets the whole slice). Where memory
            runs out, smaller batches do.
        aids: surrogates and training images, for the attacks that use them.
        keep: is handed the images that an attack returned; changes no bit.

    Raises:
        ModelError: the model misbehaved; the job has no outcome.
        torch.OutOfMemoryError: the smallest batch does not fit either.
        VerificationError: an attack returned an image that is not allowed.
    """
    started = time.perf_counter()
    tally = _Tally(job.last - job.first)
    images, labels = check_range(data.batch(job.first, job.last)), data.labels[job.first : job.last]
    positions = attackable.nonzero()[:, 0]
    runtime = replace(runtime, batch_size=_batch_size(job, subject, runtime, images))

    def attempt(chosen: Tensor, rows: int) -> _Tally:
        draft = _Tally(len(images))
        some, theirs = images[chosen].to(runtime.device), labels[chosen].to(runtime.device)
        if job.attack == CLEAN or not job.threat.is_ball:  # nobody searches
            logits = _judge_clean(subject, some, theirs, chosen, draft)
            if chosen[0] == positions[0]:
                _check_alone(subject, some, logits)
        else:
            room = min(rows, ROOM) if runtime.device == "cpu" else rows
            indices = [job.first + int(position) for position in chosen]
            search = search_of(job, subject, aids, some, theirs, indices, room)
            _attack(job, subject, search, some, theirs, chosen, draft)
        return draft

    smallest = SHARD if _is_coupled(job) else PADDING
    for chosen, draft in in_batches(positions, runtime.batch_size, attempt, smallest=smallest):
        tally.take(chosen, draft, keep)
    if subject.model.state_digest() != subject.state:
        raise ModelError(
            "changed_state", "the model changed its parameters or buffers while it was evaluated."
        )
    check_reproducible(tally.unconfirmed, int(attackable.sum()), runtime.device)
    return tally.outcome(job, runtime, time.perf_counter() - started)


def _batch_size(job: Job, subject: Subject, runtime: Runtime, images: Tensor) -> int:
    """Parity couples a whole slice, as its reference does; a random model sees one image."""
    if isinstance(subject.model, RandomHandle):
        return 1
    if _is_coupled(job):
        return SHARD
    if runtime.batch_size != AUTOMATIC:
        return runtime.batch_size
    return fitting(subject.model, images[:PADDING].to(runtime.device), runtime.workers)


def _is_coupled(job: Job) -> bool:
    return bool(dict(job.attack.parameters).get("parity"))


def check_range(images: Tensor) -> Tensor:
    """The images, if they lie in [0, 1].

    Raises:
        HarnessError: they do not.
    """
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise HarnessError(
            f"images must lie in [0, 1] but reach {low if low < 0 else high:.4g}: normalisation "
            "belongs inside the model, not before it."
        )
    return images


class _Tally:
    """Bits and per-image numbers of one slice; those of a batch until it is done to its end."""

    def __init__(self, count: int) -> None:
        self.adversarial: Tensor | None = None
        self.attacked = torch.zeros(count, dtype=torch.bool)
        self.broken = torch.zeros(count, dtype=torch.bool)
        self.columns = {
            name: torch.full((count,), torch.nan, dtype=torch.float64)
            for name in (
                "predicted",
                "first_success",
                "loss_start",
                "loss_best",
                "distance",
                "l2",
                "nearest",
                "margin_final",
                "last_wrong",
                "forwards",
                "backwards",
            )
        }
        self.queries = 0
        self.unconfirmed = 0

    def put(self, chosen: Tensor, **values: Tensor) -> None:
        """Per-image numbers of the chosen positions."""
        for name, value in values.items():
            numbers = value.detach().cpu().double()
            self.columns[name][chosen] = numbers.where(torch.isfinite(numbers), torch.nan)

    def take(self, chosen: Tensor, batch: _Tally, keep: Keep | None) -> None:
        """Add what came of the chosen positions, and hand their images on."""
        self.attacked[chosen] = batch.attacked[chosen]
        self.broken[chosen] = batch.broken[chosen]
        for name, column in self.columns.items():
            column[chosen] = batch.columns[name][chosen]
        self.queries += batch.queries
        self.unconfirmed += batch.unconfirmed
        if keep is not None and batch.adversarial is not None:
            keep(chosen, batch.adversarial, batch.broken[chosen])

    def outcome(self, job: Job, runtime: Runtime, seconds: float) -> Outcome:
        """Everything as plain values."""
        totals = {name: int(self.columns[name].nansum()) for name in ("forwards", "backwards")}
        filled = {n: c for n, c in self.columns.items() if not bool(c.isnan().all())}
        return Outcome(
            job=job,
            attacked=tuple(self.attacked.tolist()),
            broken=tuple(self.broken.tolist()),
            columns={name: tuple(column.tolist()) for name, column in filled.items()},
            forwards=totals["forwards"],
            backwards=totals["backwards"],
            queries=self.queries,
            seconds=seconds,
            runtime=runtime,
        )


def _judge_clean(
    subject: Subject, images: Tensor, labels: Tensor, chosen: Tensor, tally: _Tally
) -> Tensor:
    logits = _decisive(subject, images)
    if not torch.isfinite(logits).all():
        raise ModelError("non_finite", "the model returned NaN or infinite logits on clean images.")
    tally.attacked[chosen] = True
    tally.broken[chosen] = ~is_right(logits, labels).cpu()
    margin = margin_of(logits, labels)
    tally.put(
        chosen, predicted=logits.argmax(1), margin_final=margin, forwards=torch.ones(len(chosen))
    )
    return logits


def _check_alone(subject: Subject, images: Tensor, first: Tensor) -> None:
    """Refuse an answer that depends on what else was asked, at once or before.

    The images are asked about again, then half of them without the others; `first` is what was
    answered before. A random model is asked about one image at a time anyway.

    Raises:
        ModelError: logits moved by more than rounding does.
    """
    if isinstance(subject.model, RandomHandle):
        return
    half = (len(images) + 1) // 2
    with torch.no_grad():
        again, alone = (subject.model(some).logits for some in (images, images[:half]))
    bound = _ROUNDING * float(first.abs().max().clamp(min=1))
    if not torch.allclose(first, again, _ROUNDING, bound):
        raise ModelError(
            "keeps_state", "the model answers the same images differently when asked again."
        )
    if not torch.allclose(first[:half], alone, _ROUNDING, bound):
        raise ModelError(
            "batch_dependent",
            "the model's answer to an image depends on the other images of its batch, as with "
            "statistics of the batch.",
        )


def _decisive(subject: Subject, images: Tensor) -> Tensor:
    """[N, K], whose argmax is the decision: deployed logits, or the votes of a random model.

    Votes that answers without finite numbers outnumber are NaN, as such logits are.
    """
    if isinstance(subject.model, RandomHandle):
        votes = subject.model.votes(images)
        return votes.masked_fill(is_void(votes)[:, None], torch.nan)
    with torch.no_grad():
        return subject.model(images).logits


def check_reproducible(unconfirmed: int, attacked: int, device: str) -> None:
    """Refuse a decision that a second pass on the same image does not repeat.

    On the CPU bits depend on nothing but the image. Elsewhere rounding may part two passes on
    one image in a hundred, which then counts as not broken; more means chance, gradients being
    recorded, or what was asked before.

    Raises:
        ModelError: more images than the device excuses.
    """
    excused = 0 if device == "cpu" else max(1, attacked // 100)
    if unconfirmed > excused:
        raise ModelError(
            "not_reproducible",
            f"on {unconfirmed} of {attacked} images the decision was wrong under attack and right "
            "when the same image was judged again: it depends on more than the image.",
        )


def _attack(
    job: Job,
    subject: Subject,
    search: Search,
    images: Tensor,
    labels: Tensor,
    chosen: Tensor,
    tally: _Tally,
) -> None:
    run_attack(job.attack, search)
    distance = check_inside(images, search.adversarial, job.threat)
    predicted, margin = fresh_decision(lambda x: _decisive(subject, x), search.adversarial, labels)
    confirmed = predicted != labels
    if isinstance(subject.model, RandomHandle):
        confirmed &= subject.model.is_broken(search.adversarial, labels)
    tally.unconfirmed += int((search.broken & ~confirmed).sum())
    tally.attacked[chosen] = True
    tally.broken[chosen] = (search.broken & confirmed).cpu()
    tally.put(
        chosen,
        predicted=predicted,
        first_success=search.first_success,
        loss_start=search.loss_start,
        loss_best=search.loss_best,
        distance=distance,
        l2=(search.adversarial.double() - images.double()).flatten(1).norm(dim=1),
        nearest=search.nearest,
        margin_final=margin,
        last_wrong=search.last_wrong,
        forwards=search.forwards,
        backwards=search.backwards,
    )
    tally.adversarial = search.adversarial.cpu()
    if ATTACKS[job.attack.attack].knowledge != "white_box":
        tally.queries += int(search.forwards.sum())
