"""A campaign: wanted minus stored is work; do it, record it. The only writer of outcomes.

What is wanted depends on the checkpoint, the protocol, the seed and the data, and on nothing else
that the database holds but its pool of surrogates, so resuming is a subtraction and needs no state
of its own. A new surrogate, or training images that were not here before, are more work.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.attacks.attack import ATTACKS
from harness.attacks.surface_text import split_surface
from harness.campaign.pieces import failure_facts, job_facts
from harness.campaign.pool import SURROGATES, others_of, pool_of
from harness.campaign.request import (
    Estimate,
    EvaluationRequest,
    Provenance,
    Report,
    Scope,
    Subjects,
)
from harness.data import is_here
from harness.errors import HarnessError
from harness.evaluation.estimate import most_passes, seconds_per_pass
from harness.evaluation.subject import load_subject, precision_of
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
    Kept,
    Outcome,
    Plan,
    Runtime,
)
from harness.protocols import Target, check_wanted, needs_guides
from harness.runlog import event
from harness.standings import Question, Standing, losses, measure, still_right
from harness.store.bits import pack
from harness.store.kept import kept_folder, read_note, write_note
from harness.store.store import Store

logger = logging.getLogger("harness.campaign")

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
        self.subjects = subjects
        self.request = request
        self.runtime = runtime
        self._provenance = provenance
        self._run: str | None = None
        self.examples = min(request.examples, len(subjects.data))
        stored, folder = store.checkpoints(), subjects.folder
        self._pools = {r.digest: pool_of(r, stored, folder) for r in subjects.records}
        self._others = {r.digest: others_of(r, stored, folder) for r in subjects.records}
        self._wanted = {r.digest: self._asked(r) for r in subjects.records}
        self._failed: set[str] = set()
        self._named = {r.digest: r for r in subjects.records}
        self.kept: list[tuple[Job, Kept]] = []

    def remaining(self) -> list[tuple[CheckpointRecord, AttackSpec, int]]:
        """What is wanted and not stored: checkpoint, attack, how many images of the slice.

        Second-stage attacks count all images, since who survives is not known yet.
        """
        return [
            (record, spec, last - first)
            for record in self._alive()
            for spec, _, first, last in self._missing(
                record, ((CLEAN, EVERY), *self._everything(record))
            )
        ]

    def estimate(self) -> Estimate:
        """What is missing and about how long it takes at most, if nothing were broken."""
        pieces, images, seconds = 0, 0, 0.0
        subjects = self.subjects
        speeds: dict[str, tuple[float, float]] = {}
        for record, spec, count in self.remaining():
            if record.digest not in speeds:
                subject = load_subject(
                    record, subjects.folder, subjects.dataset, device=self.runtime.device
                )
                speeds[record.digest] = seconds_per_pass(
                    subject, subjects.data, self.runtime.device
                )
            pieces, images = pieces + 1, images + count
            passes = zip(most_passes(spec), speeds[record.digest], strict=True)
            seconds += count * sum(number * each for number, each in passes)
        return Estimate(pieces, images, seconds)

    @property
    def records(self) -> Sequence[CheckpointRecord]:
        """The checkpoints, in the order in which they were asked for."""
        return self.subjects.records

    @property
    def dataset(self) -> str:
        """Name of the dataset that is tested on."""
        return self.subjects.label

    def execute(self, report: Report | None = None) -> list[Failure]:
        """Do what is missing, stage by stage, and record it.

        Returns:
            The failures; each is recorded, and the rest of its row is left out.
        """
        data, dataset = self.subjects.data, self.subjects.dataset
        label = self.subjects.label
        self._store.record_dataset(label, data.identity, len(data), dataset.classes)
        self._record_plans()
        failures: list[Failure] = []
        with LocalExecutor(self.runtime.workers) as executor:
            for stage in (self._clean, self._first, self._second, self._third):
                work = [
                    piece for record in self._alive() for piece in self._work(record, stage(record))
                ]
                event("planned", kind="attacks", pieces=len(work))
                if report:
                    report.planned(len(work))
                if work:
                    self._start()
                for piece in executor.map(do, work):
                    failures += self._record(piece)
                    if report:
                        report.done(*_told(piece))
        self._record_plans()
        if self._run is not None:
            self._store.finish_run(self._run)
        return failures

    def standing(self, record: CheckpointRecord) -> Standing:
        """What exactly this request found for a checkpoint, from the store."""
        wanted = self._everything(record)
        return measure(self._store, record, self._question(record, wanted))

    def bits(self, record: CheckpointRecord) -> dict[str, Bits]:
        """Per image, still right or not: `clean`, `robust` and every `attack@surface:loss`.

        Where two attacks would share that name, each keeps its parameters in it.
        """
        found = self._still_right(record, self._everything(record))
        plain = {label: _PARAMETERS.sub("@", label, count=1) for label in found}
        shared = Counter(plain.values())
        return {
            plain[label] if shared[plain[label]] == 1 else label: bits
            for label, bits in found.items()
        }

    def _still_right(self, record: CheckpointRecord, attacks: Stage) -> dict[str, Bits]:
        return still_right(self._store, record, self._question(record, attacks))

    def _question(self, record: CheckpointRecord, attacks: Stage) -> Question:
        return Question(attacks=attacks, examples=self.examples, **self._scope(record))

    def _scope(self, record: CheckpointRecord) -> Scope:
        return {
            "dataset": self.subjects.label,
            "images": self.subjects.data.identity,
            "threat": self.request.threat,
            "seed": self.request.seed,
            "precision": precision_of(record, self.request.precision),
        }

    def _alive(self) -> Iterator[CheckpointRecord]:
        """One record per function: what has two names is attacked once."""
        distinct = {record.digest: record for record in self.subjects.records}
        return (record for key, record in distinct.items() if key not in self._failed)

    def _clean(self, record: CheckpointRecord) -> Stage:
        del record
        return ((CLEAN, EVERY),)

    def _first(self, record: CheckpointRecord) -> Stage:
        return tuple(pair for pair in self._wanted[record.digest] if pair[1] == CORRECT)

    def _second(self, record: CheckpointRecord) -> Stage:
        return tuple(pair for pair in self._wanted[record.digest] if pair[1] != CORRECT)

    def _third(self, record: CheckpointRecord) -> Stage:
        return self._restarts(record) or ()

    def _restarts(self, record: CheckpointRecord) -> Stage | None:
        """Restarts of what broke most survivors of the first stage; None before that is known.

        Which attacks these are follows from the bits of this very request.
        """
        if self.request.restarts is None:
            return ()
        second = self._second(record)
        lost = losses(self._store, record, self._question(record, second))
        if lost is None:
            return None
        order = sorted(range(len(second)), key=lambda place: (-lost[place], place))
        return self.request.restarts([second[place][0] for place in order])

    def _everything(self, record: CheckpointRecord) -> Stage:
        return (*self._wanted[record.digest], *self._third(record))

    def _asked(self, record: CheckpointRecord) -> Stage:
        """What the request wants of a checkpoint, checked; without training images, what is left.

        A suite leaves feature attacks out then; attacks that were chosen by hand are refused.
        """
        target = self._target(record)
        wanted, has_guides = self.request.wanted(target), True
        if needs_guides(wanted):
            has_guides = is_here(
                self.subjects.dataset.name, "train", data_dir=self.subjects.data_dir
            )
            wanted = self.request.wanted(replace(target, has_guides=has_guides))
        if not wanted:
            raise HarnessError(
                f"{self.request.protocol or 'the request'} has no attack for '{record.name}': no "
                f"checkpoint of {', '.join(SURROGATES)} on the same dataset and architecture is "
                "here with its weights. Train one first."
            )
        norm = self.request.threat.norm
        check_wanted(wanted, record.capabilities, norm, has_guides=has_guides)
        for spec, _ in wanted:
            self._surrogates(record, spec)  # refused before anything runs
        if not has_guides:
            logger.info(
                "%s: feature attacks are left out, since there are no training images of %s here.",
                record.name,
                self.subjects.label,
            )
        return wanted

    def _target(self, record: CheckpointRecord) -> Target:
        digests = tuple(sorted(self._pools[record.digest]))
        return Target(record.capabilities, self.request.threat.norm, digests, record.digest)

    def _work(self, record: CheckpointRecord, stage: Stage) -> Iterator[Work]:
        populations: dict[str, Bits] = {}
        subjects = self.subjects
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
                self.runtime,
                self._surrogates(record, spec),
                keep="" if spec == CLEAN else self.request.keep,
            )

    def _surrogates(
        self, record: CheckpointRecord, spec: AttackSpec
    ) -> tuple[CheckpointRecord, ...]:
        name, digest = split_surface(spec.surface)
        if name != "surrogate":
            return ()
        others = self._others[record.digest]
        if digest not in others:
            raise HarnessError(
                f"'{record.name}' cannot be attacked from {digest}: no other checkpoint of its "
                f"dataset with that digest and its weights is here ({', '.join(others) or 'none'})."
            )
        return (others[digest],)

    def _missing(
        self, record: CheckpointRecord, stage: Stage
    ) -> Iterator[tuple[AttackSpec, str, int, int]]:
        """Attack, population, first and last image of every slice that is not stored.

        Where images are to be kept, also of those that are stored without them.
        """
        coverage = self._store.coverage(checkpoint=record.digest, **self._scope(record))
        for spec, population in stage:
            covered = coverage.get((spec.hash, population), [])
            for first, last in missing_slices(covered, self.examples):
                yield spec, population, first, last
        if self.request.keep:
            yield from self._unkept(record, stage)

    def _unkept(
        self, record: CheckpointRecord, stage: Stage
    ) -> Iterator[tuple[AttackSpec, str, int, int]]:
        """What is stored, in the very slices in which it is, without its images."""
        for job, _ in self._stored(record, stage):
            if read_note(kept_folder(self.subjects.folder), job, self.request.keep) is None:
                yield job.attack, job.population, job.first, job.last

    def _stored(self, record: CheckpointRecord, stage: Stage) -> list[tuple[Job, bytes]]:
        """The stored slices of the attacks, and the packed bits of what was broken."""
        specs = {(spec.hash, population): spec for spec, population in stage if spec != CLEAN}
        found = self._store.slices(
            checkpoint=record.digest,
            images=self.subjects.data.identity,
            threat=self.request.threat,
        )
        scope = self._scope(record)
        shared = scope["dataset"], scope["seed"], scope["precision"]
        return [
            (self._job(record, specs[key], one.population, one.first, one.last), one.broken)
            for one in found
            if (key := (one.attack, one.population)) in specs
            and (one.dataset, one.seed, one.precision) == shared
            and one.last <= self.examples
        ]

    def _population(self, record: CheckpointRecord, population: str) -> Bits:
        """[examples] bool: who is attacked, from what the store holds of the stages before."""
        if population == EVERY:
            return np.ones(self.examples, dtype=bool)
        before: Stage = () if population == CORRECT else self._first(record)
        if population not in {each for _, each in self._wanted[record.digest]} | {CORRECT}:
            before = self._wanted[record.digest]  # only restarts come after both stages
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
            **self._scope(record),
        )

    def _record_plans(self) -> None:
        """Record what the protocol means, as soon as all of its stages are known.

        Before that only the first stage can be called complete, and only as the protocol that it
        is by itself.
        """
        if not self.request.protocol:
            return
        for record in self.subjects.records:
            wanted, third = self._wanted[record.digest], self._restarts(record)
            for population in {population for _, population in wanted} - {CORRECT}:
                protocol, first = population.partition(":")[2], self._first(record)
                self._store.record_plan(self._plan(record, protocol, first))
            if third is not None:
                plan = self._plan(record, self.request.protocol, (*wanted, *third))
                self._store.record_plan(plan)

    def _plan(self, record: CheckpointRecord, protocol: str, stages: Stage) -> Plan:
        return Plan(
            checkpoint=record.digest,
            protocol=protocol,
            attacks=tuple((spec.hash, population) for spec, population in stages),
            **self._scope(record),
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
            event("failed", **failure_facts(piece))
            return [piece]
        self._store.record(piece, description=describe(piece.job.attack), run=self._run)
        event("job done", **job_facts(piece.job), seconds=round(piece.seconds, 3))
        if piece.kept is not None:
            self._keep(piece, piece.kept)
        return []

    def _keep(self, piece: Outcome, kept: Kept) -> None:
        """Note the images of what is stored; those of a re-run that broke others prove nothing."""
        job, record = piece.job, self._named[piece.job.checkpoint]
        stored = dict(self._stored(record, ((job.attack, job.population),)))
        if stored.get(job) != pack(piece.broken):
            logger.warning(
                "%s: %s on images %d to %d broke other images than what is stored: none is kept.",
                *(record.name, job.attack.label, job.first, job.last - 1),
            )
            return
        write_note(kept_folder(self.subjects.folder), job, kept)
        event("kept", **job_facts(job), dtype=kept.dtype, file=kept.sha256, lost=kept.lost)
        self.kept.append((job, kept))


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
