"""Pieces of work that are one checkpoint each: run them, tell how far it is, note the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from harness.campaign.request import Provenance, Report, Subjects
from harness.executors.local import LocalExecutor
from harness.identity import Failure, Job, Runtime
from harness.runlog import event
from harness.store.store import Store

Piece = TypeVar("Piece")
Found = TypeVar("Found")


def run_pieces(
    function: Callable[[Piece], Found],
    work: Sequence[Piece],
    store: Store,
    subjects: Subjects,
    runtime: Runtime,
    *,
    kind: str,
    provenance: Provenance | None = None,
    report: Report | None = None,
) -> Iterator[Found]:
    """What `function` finds for each piece, as they finish; the caller records it.

    Args:
        function: importable by name.
        work: one piece per checkpoint.
        store: where the test split and the run are noted.
        subjects: the checkpoints and their test split.
        runtime: device and workers.
        kind: what is done, for the report.
        provenance: recorded with the run, if anything is to be done.
        report: told how far it is.
    """
    store.record_dataset(
        subjects.label, subjects.data.identity, len(subjects.data), subjects.dataset.classes
    )
    event("planned", kind=kind, pieces=len(work))
    if report:
        report.planned(len(work))
    run = (
        store.start_run(provenance.command, versions=provenance.versions, device=provenance.device)
        if work and provenance
        else None
    )
    with LocalExecutor(runtime.workers) as executor:
        for found in executor.map(function, work):
            if isinstance(found, Failure):
                event("failed", kind=kind, **failure_facts(found))
            else:
                event("piece done", kind=kind)
            yield found
            if report:
                report.done(kind, 0.0)
    if run is not None:
        store.finish_run(run)


def job_facts(job: Job) -> dict[str, Any]:
    """What a log says of a job: the whole key under which its outcome is stored."""
    return {
        "checkpoint": job.checkpoint,
        "dataset": job.dataset,
        "images": job.images,
        "threat": str(job.threat),
        "attack": job.attack.label,
        "attack_hash": job.attack.hash,
        "population": job.population,
        "seed": job.seed,
        "precision": job.precision,
        "first": job.first,
        "last": job.last,
    }


def failure_facts(failure: Failure) -> dict[str, Any]:
    """What a log says of a failure."""
    names = ("checkpoint", "dataset", "attack", "first", "last", "status", "message")
    return {name: getattr(failure, name) for name in names} | {"threat": str(failure.threat)}
