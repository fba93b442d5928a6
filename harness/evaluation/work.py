"""One piece of work as plain values, so that any process can do it without the database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from harness.attacks.attack import ATTACKS
from harness.attacks.search import Guides
from harness.attacks.surface_text import DIGITS
from harness.data import Split, dataset, load
from harness.data.corruptions import Corrupted, corrupted
from harness.errors import HarnessError, ModelError, first_line
from harness.evaluation.evaluate import evaluate
from harness.evaluation.exact import compute_exactly
from harness.evaluation.handle import Handle
from harness.evaluation.kept import Gallery
from harness.evaluation.patience import time_limit
from harness.evaluation.searching import Aids
from harness.evaluation.subject import Subject, load_subject
from harness.identity import CLEAN, CheckpointRecord, Failure, Job, Outcome, Runtime
from harness.store.kept import NotWrittenError, kept_folder
from harness.verification import VerificationError

GUIDES = 2000
"""Training images that feature attacks draw from."""


@dataclass(frozen=True)
class Work:
    """A job with everything that doing it takes.

    Args:
        job: what to do.
        record: the checkpoint.
        attackable: which images of the slice are in the population.
        dataset: registered name of the test images.
        folder: of the weights.
        data_dir: of the test images, None for the cache.
        runtime: where and in which batches.
        surrogates: checkpoints that the attack transfers from.
        corrupted_dir: of files of corrupted images, None where they are generated.
        keep: `uint8` or `float32` to keep the images that it breaks, empty to keep none.
    """

    job: Job
    record: CheckpointRecord
    attackable: tuple[bool, ...]
    dataset: str
    folder: Path
    data_dir: Path | None
    runtime: Runtime
    surrogates: tuple[CheckpointRecord, ...] = ()
    corrupted_dir: Path | None = None
    keep: str = ""


def do(work: Work) -> Outcome | Failure:
    """Do it. A model that misbehaves gives a failure, so that the campaign goes on.

    Raises:
        NotWrittenError: images are to be kept and cannot be written.
    """
    try:
        data = _images(work)
        compute_exactly()
        with time_limit(work.runtime.time_limit):
            return _outcome(work, data)
    except NotWrittenError:
        raise
    except ModelError as error:
        return _failure(work.job, error.status, str(error))
    except HarnessError as error:
        return _failure(work.job, "not_loaded", str(error))
    except torch.OutOfMemoryError:
        return _failure(
            work.job, "out_of_memory", "the device ran out of memory: use a smaller --batch-size."
        )
    except VerificationError as error:
        return _failure(work.job, "violation", str(error))
    except Exception as error:
        if work.record.kind != "added":
            raise
        said = f"{type(error).__name__}: {first_line(error)}"
        return _failure(work.job, "unforeseen", f"what the model answers ends in {said}")


def _outcome(work: Work, data: Split | Corrupted) -> Outcome:
    subject, attackable = _subject(_Key(work)), torch.tensor(work.attackable)
    job, runtime, aids = work.job, work.runtime, _aids(work)
    if not work.keep or not isinstance(data, Split):
        return evaluate(job, subject, data, attackable, runtime, aids)
    gallery = Gallery(job, work.keep)
    outcome = evaluate(job, subject, data, attackable, runtime, aids, gallery.add)
    kept = gallery.save(kept_folder(work.folder), subject, data, runtime.device)
    return replace(outcome, kept=kept)


@lru_cache(maxsize=2)
def test_split(name: str, data_dir: Path | None) -> Split:
    """The test images of a dataset, read once per process."""
    return load(name, "test", data_dir=data_dir)


def _images(work: Work) -> Split | Corrupted:
    """The test images; corrupted ones are checked to be those that the job names."""
    if work.job.threat.is_ball:
        return test_split(work.dataset, work.data_dir)
    severity = int(work.job.threat.epsilon)
    found = _corrupted(
        work.dataset, work.data_dir, work.job.attack.attack, severity, work.corrupted_dir
    )
    if found.spec != work.job.attack:
        raise HarnessError(
            f"the {found.corruption.name} images of severity {severity} are others than when this "
            "was planned: the files or the library changed. Repeat the command."
        )
    return found


@lru_cache(maxsize=2)
def _corrupted(
    name: str, data_dir: Path | None, corruption: str, severity: int, folder: Path | None
) -> Corrupted:
    return corrupted(dataset(name), test_split(name, data_dir), corruption, severity, folder)


@lru_cache(maxsize=1)
def guides(name: str, data_dir: Path | None) -> Guides:
    """Training images of a dataset, for attacks that steer towards them. Nothing is fetched.

    Raises:
        HarnessError: there are no training images here.
    """
    split = load(name, "train", data_dir=data_dir, download=False)
    positions = spread(len(split), GUIDES)
    return Guides(split.images[positions].float() / 255, split.labels[positions])


def spread(length: int, most: int) -> Tensor:
    """Positions [n] of at most `most` images, evenly over a split that may be sorted by class."""
    count = min(most, length)
    return torch.arange(count) * length // count


def _aids(work: Work) -> Aids:
    models = {
        record.digest[:DIGITS]: _surrogate(_Key(replace(work, record=record)))
        for record in work.surrogates
    }
    is_search = work.job.attack != CLEAN and work.job.threat.is_ball
    is_needed = is_search and ATTACKS[work.job.attack.attack].needs_guides
    return Aids(models, guides(work.dataset, work.data_dir) if is_needed else None)


class _Key:
    """A piece of work as a cache key: pieces of one checkpoint on one device are equal."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._identity = (work.record.digest, work.record.name, work.runtime.device, work.folder)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@lru_cache(maxsize=1)
def _subject(key: _Key) -> Subject:
    return _load(key.work)


def _load(work: Work) -> Subject:
    device = work.runtime.device
    return load_subject(work.record, work.folder, dataset(work.dataset), device=device)


@lru_cache(maxsize=4)
def _surrogate(key: _Key) -> Handle:
    return _load(key.work).model


def _failure(job: Job, status: str, message: str) -> Failure:
    return Failure(
        checkpoint=job.checkpoint,
        dataset=job.dataset,
        images=job.images,
        threat=job.threat,
        attack=job.attack.label,
        status=status,
        message=message[:1000],
        first=job.first,
        last=job.last,
    )
