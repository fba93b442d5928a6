"""Another machine's database: checked row by row, then merged whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, select

from harness.errors import HarnessError
from harness.identity import AttackSpec, Failure, Gallery, Outcome
from harness.store import galleries, queries, rows, schema, untrusted
from harness.store.bits import unpack
from harness.store.database import Database
from harness.store.opening import open_database

Item = TypeVar("Item")
Sizes = Mapping[tuple[str, str], int]

_MALFORMED = (ValueError, TypeError, KeyError, RecursionError, ArithmeticError)


@dataclass
class MergeReport:
    """What a merge added.

    Args:
        source: the file.
        checkpoints: names that are new here; their weights stayed where they were made.
        outcomes: how many are new here.
        known: how many were here already, with the same bits.
        plans: how many are new here.
        failures: how many are new here.
        findings: how many are new here; what a diagnostic found here stays.
        measurements: how many are new here; what an analysis measured here stays.
        claims: how many are new here; what is written here stays.
        galleries: of how many datasets pictures are new here.
        adversarial: how many sets of adversarial pictures are new here; what is here stays.
    """

    source: str
    checkpoints: list[str] = field(default_factory=list)
    outcomes: int = 0
    known: int = 0
    plans: int = 0
    failures: int = 0
    findings: int = 0
    measurements: int = 0
    claims: int = 0
    galleries: int = 0
    adversarial: int = 0


def merge(database: Database, path: Path, check_new_name: Callable[[str], object]) -> MergeReport:
    """Add the rows of the database file `path`; see `Store.merge`."""
    if database.path is not None and path.exists() and path.samefile(database.path):
        raise HarnessError(f"{path} is the very database that it would be merged into.")
    source = open_database(path, create=False, read_only=True, timeout=database.timeout)
    try:
        with source.reading() as theirs, database.writing() as ours, _refused(path):
            merging = _Merge(source, theirs, ours, MergeReport(str(path)), check_new_name)
            merging.everything()
    finally:
        source.close()
    return merging.report


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (HarnessError, *_MALFORMED) as error:
        raise HarnessError(f"{path} was not merged, nothing was changed: {error}") from error


@dataclass
class _Merge:
    """One merge inside one transaction; ids that were looked up once are kept."""

    source: Database
    theirs: Connection
    ours: Connection
    report: MergeReport
    check_new_name: Callable[[str], object]
    _ids: dict[tuple[str, ...], int] = field(default_factory=dict)

    def everything(self) -> None:
        """Datasets, attacks, runs and checkpoints first: the rest refers to them."""
        self._check_tables()
        sizes, specs, runs = self._images(), self._attacks(), self._runs()
        self._checkpoints()
        for row in self._read(queries.read_outcome_rows):
            self._outcome(row, specs, sizes, runs)
        for row in self._read(queries.read_plan_rows):
            self.report.plans += queries.write_plan(self.ours, untrusted.plan(row))
        for row in self._read(queries.read_failure_rows):
            self._failure(untrusted.failure(row), specs.values())
        for row in self._read(queries.read_finding_rows):
            finding = untrusted.finding(row)
            self.report.findings += queries.write_finding(self.ours, finding, renews=False)
        for row in self._read(queries.read_measurement_rows):
            measured = untrusted.measurement(row)
            self.report.measurements += queries.write_measurement(self.ours, measured, renews=False)
        for row in self._read(queries.read_claim_rows):
            self.report.claims += queries.write_claim(self.ours, untrusted.claim(row))
        for row in self._read(queries.read_gallery_rows):
            self._gallery(untrusted.gallery(row, sizes))
        for row in self._read(queries.read_adversarial_rows):
            pictures = untrusted.adversarial(row, sizes)
            self.report.adversarial += queries.write_adversarial(self.ours, pictures, renews=False)

    def _read(self, read: Callable[[Connection], Iterable[Item]]) -> Iterator[Item]:
        with self.source.explained():
            yield from read(self.theirs)

    def _check_tables(self) -> None:
        kinds = select(queries.SQLITE_MASTER.c.type, queries.SQLITE_MASTER.c.name)
        for kind, name in self._read(lambda theirs: theirs.execute(kinds)):
            if kind not in ("table", "index"):
                raise ValueError(f"it holds a {kind} named {name!r:.60}")

    def _images(self) -> Sizes:
        known = {(own.name, own.sha256): own.size for own in queries.read_images(self.ours)}
        for value in self._read(queries.read_images):
            images = untrusted.images(value)
            key = (images.name, images.sha256)
            if not known.get(key):
                queries.write_images(self.ours, images)
                known[key] = images.size
        return known

    def _attacks(self) -> dict[str, AttackSpec]:
        known = queries.read_attacks(self.ours)
        found = {}
        for row in self._read(queries.read_attack_rows):
            spec = untrusted.attack(row)
            if row["hash"] not in known:
                queries.write_attack(self.ours, spec, row["description"])
            found[spec.hash] = spec
        return found

    def _runs(self) -> dict[int, int]:
        ids = {}
        for row in self._read(queries.read_run_rows):
            run = rows.run_row(untrusted.run(row))
            ids[row["id"]] = queries.ensure(self.ours, schema.run, {"uid": run.pop("uid")}, run)
        return ids

    def _checkpoints(self) -> None:
        known = {record.name: record.digest for record in queries.read_checkpoints(self.ours)}
        for row in self._read(queries.read_checkpoint_rows):
            record = untrusted.checkpoint(row)
            if known.get(record.name) != record.digest:
                self.check_new_name(record.name)
                queries.write_checkpoint(self.ours, record)
                self.report.checkpoints.append(record.name)

    def _outcome(
        self, row: rows.Row, specs: Mapping[str, AttackSpec], sizes: Sizes, runs: Mapping[int, int]
    ) -> None:
        outcome = untrusted.outcome(row, specs[row["hash"]], sizes)
        values = self._references(outcome) | rows.outcome_row(outcome)
        values |= {"created": row["created"], "run_id": runs.get(row["run_id"])}
        if queries.insert_once(self.ours, schema.outcome, values):
            self.report.outcomes += 1
            queries.clear_failures(self.ours, outcome, values)
        else:
            self._check_same(outcome, values)
            self.report.known += 1

    def _references(self, outcome: Outcome) -> dict[str, Any]:
        job = outcome.job
        owner, attack = (job.checkpoint, job.dataset, job.images), job.attack.hash
        if owner not in self._ids:
            ids = queries.references(self.ours, *owner)
            self._ids[owner] = ids["images_id"]
            self._ids[(job.checkpoint,)] = ids["function_id"]
        if (attack,) not in self._ids:
            self._ids[(attack,)] = queries.write_attack(self.ours, job.attack, None)
        return {
            "function_id": self._ids[(job.checkpoint,)],
            "images_id": self._ids[owner],
            "attack_id": self._ids[(attack,)],
        }

    def _check_same(self, outcome: Outcome, values: Mapping[str, Any]) -> None:
        table, job = schema.outcome, outcome.job
        query = select(table.c.attacked, table.c.broken).where(
            *(table.c[name] == values[name] for name in queries.JOB_KEY)
        )
        own = self.ours.execute(query).one()
        length = job.last - job.first
        differ = sum(
            int((unpack(mine, length) != unpack(other, length)).sum())
            for mine, other in ((own.attacked, values["attacked"]), (own.broken, values["broken"]))
        )
        if differ:
            raise HarnessError(
                f"{job.attack.label} (seed {job.seed}) on {job.checkpoint[:12]}, images "
                f"{job.first} to {job.last - 1} of {job.dataset}, was found differently here: "
                f"{differ} bits differ. One of the two runs is wrong or not deterministic."
            )

    def _failure(self, failure: Failure, specs: Iterable[AttackSpec]) -> None:
        hashes = {spec.hash for spec in specs if failure.attack in ("", spec.label)}
        where = queries.restricted(
            schema.outcome,
            checkpoint=failure.checkpoint,
            images=failure.images,
            threat=failure.threat,
        )
        for attack, _, first, last in queries.read_ranges(self.ours, where):
            is_inside = first <= failure.first and failure.last <= last
            if attack in hashes and (is_inside or failure.last == 0):
                return  # it has succeeded here
        ids = queries.references(self.ours, failure.checkpoint, failure.dataset, failure.images)
        row = rows.failure_row(failure) | ids
        self.report.failures += queries.insert_once(self.ours, schema.failure, row)

    def _gallery(self, theirs: Gallery) -> None:
        """Add pictures of images that have none here; the same images cannot look different."""
        table = schema.images
        where = and_(table.c.name == theirs.dataset, table.c.sha256 == theirs.images)
        own = [galleries.gallery_of(row) for row in queries.read_gallery_rows(self.ours, where)]
        if not own:
            self.report.galleries += queries.write_gallery(self.ours, theirs)
        elif not _agree(own[0], theirs):
            raise HarnessError(
                f"its pictures of {theirs.dataset} are others than here, though both have the "
                f"digest {theirs.images[:12]}: one of the two is wrong."
            )


def _agree(one: Gallery, other: Gallery) -> bool:
    """Whether two galleries show the same wherever both show anything."""
    if one.shape != other.shape:
        return False
    first, second = _by_index(one), _by_index(other)
    return all(first[index] == second[index] for index in first.keys() & second.keys())


def _by_index(gallery: Gallery) -> dict[int, tuple[int, bytes]]:
    size = prod(gallery.shape)
    return {
        index: (label, gallery.pixels[place * size : (place + 1) * size])
        for place, (index, label) in enumerate(zip(gallery.indices, gallery.labels, strict=True))
    }
