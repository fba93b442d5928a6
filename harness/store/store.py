"""The store: what was trained, attacked and found, in one database with one writer at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import ColumnElement, and_, update

from harness.errors import unknown_name
from harness.identity import (
    CLEAN,
    AdversarialGallery,
    AttackSpec,
    CheckpointRecord,
    Claim,
    Failure,
    Finding,
    Gallery,
    Measurement,
    Outcome,
    Plan,
)
from harness.store import galleries, queries, rows, schema
from harness.store.checking import problems_of, unfinished_plans
from harness.store.database import Database
from harness.store.exchange import MergeReport, merge
from harness.store.opening import open_database
from harness.store.queries import DecidedSlice
from harness.store.rows import Images, RecordedAttack, Run, Slice, check_name
from harness.store.stamps import read_stamps
from harness.store.whole import whole_file, whole_size
from harness.threat import ThreatModel

__all__ = [
    "DecidedSlice",
    "Images",
    "MergeReport",
    "RecordedAttack",
    "Run",
    "Slice",
    "Store",
    "check_name",
    "weights_are_here",
]

Range = tuple[int, int]


def weights_are_here(record: CheckpointRecord, folder: Path) -> bool:
    """Whether the checkpoint can be evaluated here, or its weights stayed on another machine."""
    return (folder / record.weights).is_file()


class Store:
    """Everything the harness remembers; close it, or use it as a context manager.

    Every public method is one transaction of its own (`snapshot` groups several reads). A
    `checkpoint` argument is a digest, the identity of the deployed function, unless it is a name.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(
        cls,
        url: str | Path | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
        is_copied: bool = False,
        timeout: float = 30.0,
    ) -> Self:
        """Open the database, bringing an older schema up to date (a copy stays next to it).

        Args:
            url: a file, `sqlite:///FILE` or `postgresql://...`; None for the environment's
                `HARNESS_DB`, else `results.db` in the working directory.
            create: whether a missing database is created.
            read_only: leave the file and its folder as they are.
            is_copied: read a private copy of a file, so that others may write however long this
                takes; only where `read_only`.
            timeout: seconds to wait while another program holds the database.

        Raises:
            HarnessError: missing, no database, of a newer harness, locked, or not permitted.
        """
        database = open_database(
            url, create=create, read_only=read_only, is_copied=is_copied, timeout=timeout
        )
        return cls(database)

    def close(self) -> None:
        """Release the database; when nobody else has it open it is one complete file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def where(self) -> str:
        """The file, or the URL without its password."""
        return self._database.where

    @property
    def path(self) -> Path | None:
        """The database file, None for a server."""
        return self._database.path

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all reads inside see the same state while others go on writing; write outside."""
        return self._database.snapshot()

    # Checkpoints

    def add_checkpoint(self, record: CheckpointRecord) -> None:
        """Store a checkpoint; again with the same name and digest renews what is said about it.

        Raises:
            HarnessError: the name belongs to another digest, or is no name.
        """
        check_name(record.name)
        with self._database.writing() as connection:
            queries.write_checkpoint(connection, record)

    def checkpoints(self) -> list[CheckpointRecord]:
        """All checkpoints, by name."""
        with self._database.reading() as connection:
            return queries.read_checkpoints(connection)

    def checkpoint(self, name: str) -> CheckpointRecord:
        """The checkpoint of that name.

        Raises:
            HarnessError: nothing has that name.
        """
        return self.find([name])[0]

    def find(self, names: Iterable[str]) -> list[CheckpointRecord]:
        """The checkpoints of those names, in that order; the error names the first unknown one."""
        known = {record.name: record for record in self.checkpoints()}
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name not in known:
                raise unknown_name("checkpoint", name, known)
        return [known[name] for name in wanted]

    def remove(self, name: str) -> None:
        """Forget a checkpoint with all that is stored of it, from outcomes to pictures.

        What another name of the very same function needs is kept.

        Raises:
            HarnessError: nothing has that name.
        """
        with self._database.writing() as connection:
            if not queries.delete_checkpoint(connection, name):
                known = [record.name for record in queries.read_checkpoints(connection)]
                raise unknown_name("checkpoint", name, known)

    # Outcomes

    def record(
        self,
        outcome: Outcome,
        *,
        description: Mapping[str, str] | None = None,
        run: str | None = None,
    ) -> bool:
        """Store what a job found, and forget that it had failed before.

        Args:
            outcome: bits, columns and totals of one job.
            description: what the pages say about the attack.
            run: what `start_run` returned.

        Returns:
            Whether it is new. The first outcome of a job stays: recording it again is harmless.

        Raises:
            ValueError: the outcome contradicts itself, which is a bug of whoever made it.
            HarnessError: no checkpoint has its digest.
        """
        rows.check_outcome(outcome)
        row = rows.outcome_row(outcome) | {"created": _now()}
        with self._database.writing() as connection:
            ids = queries.job_references(connection, outcome.job, description)
            run_id = None if run is None else queries.id_of(connection, schema.run, {"uid": run})
            is_new = queries.insert_once(
                connection, schema.outcome, {**row, **ids, "run_id": run_id}
            )
            queries.clear_failures(connection, outcome, ids)
        return is_new

    def outcomes(
        self, checkpoint: str, *, images: str | None = None, threat: ThreatModel | None = None
    ) -> list[Outcome]:
        """Whole outcomes of a checkpoint digest, columns included."""
        where = _outcomes_of(checkpoint, images, threat)
        with self._database.reading() as connection:
            attacks = queries.read_attacks(connection)
            found = queries.read_outcome_rows(connection, where)
            return [rows.outcome_of(row, attacks[row["hash"]].spec) for row in found]

    def slices(
        self,
        *,
        checkpoint: str | None = None,
        images: str | None = None,
        threat: ThreatModel | None = None,
    ) -> Iterator[Slice]:
        """Bits without columns; those of one board, and in it of one function, come together."""
        where = _outcomes_of(checkpoint, images, threat)
        with self._database.reading() as connection:
            yield from queries.read_slices(connection, where)

    def coverage(
        self,
        *,
        checkpoint: str,
        dataset: str,
        images: str,
        threat: ThreatModel,
        seed: int,
        precision: str,
    ) -> dict[tuple[str, str], list[Range]]:
        """Which images are stored already, per (attack hash, population).

        Returns:
            Sorted, disjoint (first, last) ranges; what is not stored at all is absent.
        """
        where = and_(
            _outcomes_of(checkpoint, images, threat),
            schema.images.c.name == dataset,
            schema.outcome.c.seed == seed,
            schema.outcome.c.precision == precision,
        )
        found: dict[tuple[str, str], list[Range]] = {}
        with self._database.reading() as connection:
            for attack, population, first, last in queries.read_ranges(connection, where):
                found.setdefault((attack, population), []).append((first, last))
        return {key: _union(ranges) for key, ranges in found.items()}

    def covered(
        self,
        *,
        checkpoint: str,
        dataset: str,
        images: str,
        threat: ThreatModel,
        attack: str,
        population: str,
        seed: int,
        precision: str,
    ) -> list[Range]:
        """Which images of one attack (its hash) are stored already: sorted, disjoint ranges."""
        found = self.coverage(
            checkpoint=checkpoint,
            dataset=dataset,
            images=images,
            threat=threat,
            seed=seed,
            precision=precision,
        )
        return found.get((attack, population), [])

    # Attacks, datasets, plans, failures, findings, measurements

    def record_attack(self, spec: AttackSpec, description: Mapping[str, str]) -> None:
        """Store what the pages say about an attack; the latest words win."""
        with self._database.writing() as connection:
            queries.write_attack(connection, spec, description)

    def attacks(self) -> dict[str, RecordedAttack]:
        """All attacks by their hash."""
        with self._database.reading() as connection:
            return queries.read_attacks(connection)

    def record_dataset(self, name: str, sha256: str, size: int, classes: Sequence[str]) -> None:
        """Store what the test images of a digest are."""
        with self._database.writing() as connection:
            queries.write_images(connection, Images(name, sha256, size, tuple(classes)))

    def datasets(self) -> list[Images]:
        """All datasets, by name."""
        with self._database.reading() as connection:
            return queries.read_images(connection)

    def record_plan(self, plan: Plan) -> bool:
        """Store what a protocol means for a checkpoint; whether it is new."""
        with self._database.writing() as connection:
            return queries.write_plan(connection, plan)

    def plans(
        self,
        checkpoint: str | None = None,
        *,
        images: str | None = None,
        threat: ThreatModel | None = None,
    ) -> list[Plan]:
        """Plans in the order they were recorded."""
        where = queries.restricted(schema.plan, checkpoint=checkpoint, images=images, threat=threat)
        with self._database.reading() as connection:
            return [rows.plan_of(row) for row in queries.read_plan_rows(connection, where)]

    def record_failure(self, failure: Failure) -> bool:
        """Store why a job failed, in place of an earlier reason; whether it had not failed yet."""
        dated = replace(failure, created=failure.created or _now())
        with self._database.writing() as connection:
            return queries.write_failure(connection, dated)

    def failures(
        self,
        checkpoint: str | None = None,
        *,
        images: str | None = None,
        threat: ThreatModel | None = None,
    ) -> list[Failure]:
        """Failures that no later success has cleared, in the order they were recorded."""
        where = queries.restricted(
            schema.failure, checkpoint=checkpoint, images=images, threat=threat
        )
        with self._database.reading() as connection:
            return [rows.failure_of(row) for row in queries.read_failure_rows(connection, where)]

    def record_finding(self, finding: Finding) -> bool:
        """Store what a diagnostic found, in place of what it found before; whether it is new."""
        dated = replace(finding, created=finding.created or _now())
        with self._database.writing() as connection:
            return queries.write_finding(connection, dated)

    def findings(
        self,
        checkpoint: str | None = None,
        *,
        images: str | None = None,
        threat: ThreatModel | None = None,
    ) -> list[Finding]:
        """What diagnostics found, the latest of each, in the order they were recorded."""
        where = queries.restricted(
            schema.finding, checkpoint=checkpoint, images=images, threat=threat
        )
        with self._database.reading() as connection:
            return [rows.finding_of(row) for row in queries.read_finding_rows(connection, where)]

    def record_measurement(self, measurement: Measurement) -> bool:
        """Store what an analysis measured, in place of what it did before; whether it is new.

        One measurement is kept per function, test images, threat, analysis and `on`.

        Raises:
            HarnessError: no checkpoint has its digest.
        """
        dated = replace(measurement, created=measurement.created or _now())
        with self._database.writing() as connection:
            return queries.write_measurement(connection, dated)

    def measurements(
        self,
        checkpoint: str | None = None,
        *,
        images: str | None = None,
        threat: ThreatModel | None = None,
        analysis: str | None = None,
    ) -> list[Measurement]:
        """What analyses measured, the latest of each, in the order they were recorded."""
        table = schema.measurement
        where = queries.restricted(table, checkpoint=checkpoint, images=images, threat=threat)
        if analysis is not None:
            where = and_(where, table.c.analysis == analysis)
        with self._database.reading() as connection:
            found = queries.read_measurement_rows(connection, where)
            return [rows.measurement_of(row) for row in found]

    # Pictures

    def record_gallery(self, gallery: Gallery) -> bool:
        """Store the first test images of a dataset, in place of earlier ones; whether it had none.

        Raises:
            ValueError: it contradicts itself, which is a bug of whoever made it.
        """
        with self._database.writing() as connection:
            return queries.write_gallery(connection, gallery)

    def gallery(self, dataset: str, images: str) -> Gallery | None:
        """The first test images of a dataset, None where they were never recorded."""
        named = schema.images.c
        where = and_(named.name == dataset, named.sha256 == images)
        with self._database.reading() as connection:
            found = list(queries.read_gallery_rows(connection, where))
            return galleries.gallery_of(found[0]) if found else None

    def record_adversarial(self, gallery: AdversarialGallery) -> bool:
        """Store what the worst attack made of these images, in place of what an earlier one did.

        One set of pictures is kept per function, test images and threat.

        Returns:
            Whether there were none.

        Raises:
            ValueError: it contradicts itself, which is a bug of whoever made it.
            HarnessError: no checkpoint has its digest.
        """
        dated = replace(gallery, created=gallery.created or _now())
        with self._database.writing() as connection:
            return queries.write_adversarial(connection, dated)

    def adversarial(
        self,
        checkpoint: str | None = None,
        *,
        images: str | None = None,
        threat: ThreatModel | None = None,
    ) -> list[AdversarialGallery]:
        """Adversarial pictures, the latest of each threat, in the order they were recorded."""
        where = queries.restricted(
            schema.adversarial, checkpoint=checkpoint, images=images, threat=threat
        )
        with self._database.reading() as connection:
            found = queries.read_adversarial_rows(connection, where)
            return [galleries.adversarial_of(row) for row in found]

    # Claims

    def add_claims(self, claims: Iterable[Claim]) -> int:
        """Store published figures, all of them or none; how many are new.

        A figure whose key (`schema.CLAIM_KEY`) is there already stays as it is.
        """
        with self._database.writing() as connection:
            return sum(queries.write_claim(connection, claim) for claim in claims)

    def claims(self, *, defense: str | None = None, dataset: str | None = None) -> list[Claim]:
        """Published figures, in the order they were added."""
        with self._database.reading() as connection:
            found = queries.read_claim_rows(connection, defense=defense, dataset=dataset)
            return [rows.claim_of(row) for row in found]

    # Runs and other machines

    def start_run(self, command: str, *, versions: Mapping[str, str], device: str) -> str:
        """Store that a command began; the id that `record` and `finish_run` take."""
        run = Run(uuid.uuid4().hex, command, versions, device, started=_now())
        with self._database.writing() as connection:
            connection.execute(schema.run.insert().values(rows.run_row(run)))
        return run.uid

    def finish_run(self, run: str) -> None:
        """Store that a command ended."""
        with self._database.writing() as connection:
            statement = update(schema.run).where(schema.run.c.uid == run)
            connection.execute(statement.values(finished=_now()))

    def run_ids(self, checkpoint: str) -> set[str]:
        """Ids of the runs that the outcomes of a checkpoint digest came from."""
        where = queries.restricted(schema.outcome, checkpoint=checkpoint)
        with self._database.reading() as connection:
            return queries.read_run_ids(connection, where)

    def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        with self._database.reading() as connection:
            return [rows.run_of(row) for row in queries.read_run_rows(connection)]

    def problems(self) -> list[str]:
        """Everything in the database that contradicts itself, one sentence each."""
        return problems_of(self._database)

    def unfinished(self) -> list[str]:
        """Plans whose attacks are not all stored, one sentence each."""
        return unfinished_plans(self._database)

    def whole_file(self) -> bytes:
        """Everything as one finished SQLite file, from a server too.

        Raises:
            HarnessError: there is no room for a copy.
        """
        return whole_file(self._database)

    def whole_size(self) -> int:
        """About how many bytes that file has."""
        return whole_size(self._database)

    def merge(
        self, path: str | Path, *, check_new_name: Callable[[str], object] = check_name
    ) -> MergeReport:
        """Add what another machine's database file holds, all of it or nothing.

        Args:
            path: the file.
            check_new_name: raises HarnessError for what may not name a checkpoint here.

        Raises:
            HarnessError: the file contradicts itself or this database, named by the first case.
        """
        return merge(self._database, Path(path), check_new_name)

    # What pages are made of

    def decisions(
        self, checkpoint: str, *, images: str | None = None, threat: ThreatModel | None = None
    ) -> list[DecidedSlice]:
        """Bits of a checkpoint digest with the classes decided, in the order of `slices`."""
        where = _outcomes_of(checkpoint, images, threat)
        with self._database.reading() as connection:
            return list(queries.read_decisions(connection, where))

    def clean_decisions(self, dataset: str, images: str) -> Iterator[DecidedSlice]:
        """What every checkpoint decides on these test images as they are."""
        where = and_(
            _outcomes_of(None, images, None),
            schema.images.c.name == dataset,
            schema.attack.c.hash == CLEAN.hash,
        )
        with self._database.reading() as connection:
            yield from queries.read_decisions(connection, where)

    def stamps(self) -> dict[str, str]:
        """Per digest of a checkpoint a text that changes whenever anything stored of it does."""
        with self._database.reading() as connection:
            return read_stamps(connection)


def _outcomes_of(
    checkpoint: str | None, images: str | None, threat: ThreatModel | None
) -> ColumnElement[bool]:
    return queries.restricted(schema.outcome, checkpoint=checkpoint, images=images, threat=threat)


def _union(ranges: Iterable[Range]) -> list[Range]:
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
