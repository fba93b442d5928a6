"""A campaign: wanted minus stored is work; do it, record it. The only writer of outcomes.

What is wanted depends on the checkpoint, the protocol, the seed and the images alone, never on what
else the database holds, so resuming is a subtraction and needs no state of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.attacks.attack import ATTACKS
from harness.campaign.request import (
    Estimate,
    EvaluationRequest,
    Provenance,
    Report,
    Scope,
    Subjects,
)
from harness.evaluation.estimate import most_passes, seconds_per_pass
from harness.evaluation.subject import load_subject
from harness.evaluation.work import Work, do
from harness.executors.local import LocalExecutor
from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
    SHARD,
    AttackSpec,
    CheckpointRecord,
    Failure,
    Job,
    Outcome,
    Plan,
    Runtime,
)
from harness.protocols import check_wanted
from harness.standings import Standing, measure, still_right
from harness.store.store import Store

PRECISION = "float32"

_PARAMETERS = re.compile(r"\([^@]*\)@")
"""What a label says between an attack's name and its surface."""

Bits = NDArray[np.bool_]
Stage = tuple[tuple[AttackSpec, str], ...]


class Campaign:
    """Evaluate checkpoints under one request.

    Raises:
        HarnessError: the request asks for something that a checkpoint or the norm does not allow;
            nothing has run then.
    """

    def __init__(
        self,
        store: Store,
        subjects: Subjects,
        request: EvaluationRequest,
        runtime: Runtime,
        provenance: Provenance | None = None,
    ) -> None:
        self._store = store
        self._subjects = subjects
        self.request = request
        self._runtime = runtime
        self._provenance = provenance
        self._run: str | None = None
        self.examples = min(request.examples, len(subjects.data))
        self._wanted = {r.digest: request.wanted(r.capabilities) for r in subjects.records}
        for record in subjects.records:
            wanted = self._wanted[record.digest]
            check_wanted(wanted, record.capabilities, request.threat.norm)
        self._failed: set[str] = set()

    def remaining(self) -> list[tuple[CheckpointRecord, AttackSpec, int]]:
        """What is wanted and not stored: checkpoint, attack, how many images of the slice.

        Second-stage attacks count all images, since who survives is not known yet.
        """
        return [
            (record, spec, last - first)
            for record in self._alive()
            for spec, _, first, last in self._missing(
                record, ((CLEAN, EVERY), *self._wanted[record.digest])
            )
        ]

    def estimate(self) -> Estimate:
        """What is missing and about how long it takes at most, if nothing were broken."""
        pieces, images, seconds = 0, 0, 0.0
        subjects = self._subjects
        speeds: dict[str, tuple[float, float]] = {}
        for record, spec, count in self.remaining():
            if record.digest not in speeds:
                subject = load_subject(
                    record, subjects.folder, subjects.dataset, device=self._runtime.device
                )
                speeds[record.digest] = seconds_per_pass(
                    subject, subjects.data, self._runtime.device
                )
            pieces, images = pieces + 1, images + count
            passes = zip(most_passes(spec), speeds[record.digest], strict=True)
            seconds += count * sum(number * each for number, each in passes)
        return Estimate(pieces, images, seconds)

    @property
    def records(self) -> Sequence[CheckpointRecord]:
        """The checkpoints, in the order in which they were asked for."""
        return self._subjects.records

    @property
    def dataset(self) -> str:
        """Name of the dataset that is tested on."""
        return self._subjects.label

    def execute(self, report: Report | None = None) -> list[Failure]:
        """Do what is missing, stage by stage, and record it.

        Returns:
            The failures; each is recorded, and the rest of its row is left out.
        """
        data, dataset = self._subjects.data, self._subjects.dataset
        label = self._subjects.label
        self._store.record_dataset(label, data.identity, len(data), dataset.classes)
        if self.request.protocol:
            for record in self._subjects.records:
                self._store.record_plan(self._plan(record))
        failures: list[Failure] = []
        with LocalExecutor(self._runtime.workers) as executor:
            for stage in (self._clean, self._first, self._second):
                work = [
                    piece for record in self._alive() for piece in self._work(record, stage(record))
                ]
                if report:
                    report.planned(len(work))
                if work:
                    self._start()
                for piece in executor.map(do, work):
                    failures += self._record(piece)
                    if report:
                        report.done(*_told(piece))
        if self._run is not None:
            self._store.finish_run(self._run)
        return failures

    def standing(self, record: CheckpointRecord) -> Standing:
        """What exactly this request found for a checkpoint, from the store."""
        wanted = self._wanted[record.digest]
        return measure(self._store, record, attacks=wanted, examples=self.examples, **self._scope())

    def bits(self, record: CheckpointRecord) -> dict[str, Bits]:
        """Per image, still right or not: `clean`, `robust` and every `attack@surface:loss`.

        Where two attacks would share that name, each keeps its parameters in it.
        """
        found = self._still_right(record, self._wanted[record.digest])
        plain = {label: _PARAMETERS.sub("@", label, count=1) for label in found}
        shared = Counter(plain.values())
        return {
            plain[label] if shared[plain[label]] == 1 else label: bits
            for label, bits in found.items()
        }

    def _still_right(self, record: CheckpointRecord, attacks: Stage) -> dict[str, Bits]:
        return still_right(
            self._store, record, attacks=attacks, examples=self.examples, **self._scope()
        )

    def _scope(self) -> Scope:
        return {
            "dataset": self._subjects.label,
            "images": self._subjects.data.identity,
            "threat": self.request.threat,
            "seed": self.request.seed,
            "precision": PRECISION,
        }

    def _alive(self) -> Iterator[CheckpointRecord]:
        """One record per function: what has two names is attacked once."""
        distinct = {record.digest: record for record in self._subjects.records}
        return (record for key, record in distinct.items() if key not in self._failed)

    def _clean(self, record: CheckpointRecord) -> Stage:
        del record
        return ((CLEAN, EVERY),)

    def _first(self, record: CheckpointRecord) -> Stage:
        return tuple(pair for pair in self._wanted[record.digest] if pair[1] == CORRECT)

    def _second(self, record: CheckpointRecord) -> Stage:
        return tuple(pair for pair in self._wanted[record.digest] if pair[1] != CORRECT)

    def _work(self, record: CheckpointRecord, stage: Stage) -> Iterator[Work]:
        populations: dict[str, Bits] = {}
        subjects = self._subjects
        for spec, population, first, last in self._missing(record, stage):
            if population not in populations:
                populations[population] = self._population(record, population)
            yield Work(
                self._job(record, spec, population, first, last),
                record,
                tuple(populations[population][first:last].tolist()),
                subjects.dataset.name,
                subjects.folder,
                subjects.data_dir,
                self._runtime,
            )

    def _missing(
        self, record: CheckpointRecord, stage: Stage
    ) -> Iterator[tuple[AttackSpec, str, int, int]]:
        """Attack, population, first and last image of every slice that is not stored."""
        coverage = self._store.coverage(checkpoint=record.digest, **self._scope())
        for spec, population in stage:
            covered = coverage.get((spec.hash, population), [])
            for first, last in missing_slices(covered, self.examples):
                yield spec, population, first, last

    def _population(self, record: CheckpointRecord, population: str) -> Bits:
        """[examples] bool: who is attacked, from what the store holds of the stages before."""
        if population == EVERY:
            return np.ones(self.examples, dtype=bool)
        before = () if population == CORRECT else self._first(record)
        return self._still_right(record, before)["robust"]

    def _job(
        self, record: CheckpointRecord, spec: AttackSpec, population: str, first: int, last: int
    ) -> Job:
        return Job(
            checkpoint=record.digest,
            attack=spec,
            population=population,
            first=first,
            last=last,
            **self._scope(),
        )

    def _plan(self, record: CheckpointRecord) -> Plan:
        attacks = tuple((spec.hash, population) for spec, population in self._wanted[record.digest])
        return Plan(
            checkpoint=record.digest,
            protocol=self.request.protocol,
            attacks=attacks,
            **self._scope(),
        )

    def _start(self) -> None:
        """Record that a run began, once there is something to do."""
        if self._run is None and self._provenance is not None:
            command, versions, device = self._provenance
            self._run = self._store.start_run(command, versions=versions, device=device)

    def _record(self, piece: Outcome | Failure) -> list[Failure]:
        if isinstance(piece, Failure):
            self._failed.add(piece.checkpoint)
            self._store.record_failure(piece)
            return [piece]
        self._store.record(piece, description=describe(piece.job.attack), run=self._run)
        return []


def missing_slices(covered: Sequence[tuple[int, int]], examples: int) -> list[tuple[int, int]]:
    """What [0, examples) lacks, cut at multiples of the shard size.

    Args:
        covered: sorted, disjoint (first, last) ranges that are stored.
        examples: how many images are wanted.
    """
    gaps, position = [], 0
    for first, last in [*covered, (examples, examples)]:
        end = min(first, examples)
        if end > position:
            gaps.append((position, end))
        position = max(position, last)
    return [
        (max(start, shard), min(end, shard + SHARD))
        for start, end in gaps
        for shard in range(start - start % SHARD, end, SHARD)
    ]


def describe(spec: AttackSpec) -> dict[str, str]:
    """What the pages say about an attack, recorded with its rows."""
    if spec == CLEAN:
        return {"description": "the images as they are", "knowledge": "none", "source": ""}
    entry = ATTACKS[spec.attack]
    return {
        "description": entry.description,
        "knowledge": entry.knowledge,
        "source": entry.source,
    }


def _told(piece: Outcome | Failure) -> tuple[str, float]:
    if isinstance(piece, Failure):
        return f"failed: {piece.status}", 0.0
    return piece.job.attack.label, piece.seconds
