"""One piece of work as plain values, so that any process can do it without the database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from harness.data import Split, dataset, load
from harness.errors import HarnessError, ModelError
from harness.evaluation.evaluate import evaluate
from harness.evaluation.subject import Subject, load_subject
from harness.identity import CheckpointRecord, Failure, Job, Outcome, Runtime
from harness.verification import VerificationError


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
    """

    job: Job
    record: CheckpointRecord
    attackable: tuple[bool, ...]
    dataset: str
    folder: Path
    data_dir: Path | None
    runtime: Runtime


def do(work: Work) -> Outcome | Failure:
    """Do it. A model that misbehaves gives a failure, so that the campaign goes on."""
    try:
        data = test_split(work.dataset, work.data_dir)
        subject = _subject(_Key(work))
        _compute_exactly()  # after a foreign file was imported, which may have said otherwise
        return evaluate(work.job, subject, data, torch.tensor(work.attackable), work.runtime)
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


def _compute_exactly() -> None:
    """Plain float32 on a GPU too: no TF32, no kernels that may differ from run to run."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@lru_cache(maxsize=2)
def test_split(name: str, data_dir: Path | None) -> Split:
    """The test images of a dataset, read once per process."""
    return load(name, "test", data_dir=data_dir)


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
    work = key.work
    device = work.runtime.device
    return load_subject(work.record, work.folder, dataset(work.dataset), device=device)


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
