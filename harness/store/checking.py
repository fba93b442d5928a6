"""Whether a database agrees with itself: every row, every problem, nothing believed or changed.

What is checked here needs the rows alone. What needs weights, images or pages is checked by
`harness.audit`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    CORRECT,
    AdversarialGallery,
    AttackSpec,
    CheckpointRecord,
    Gallery,
    Job,
    Outcome,
    digest,
)
from harness.store import rows, schema, untrusted
from harness.store.database import Database
from harness.store.galleries import picture_problems

_MALFORMED = (
    *(ValueError, TypeError, KeyError, RecursionError, ArithmeticError, MemoryError),
    HarnessError,
)

Reader = Callable[[rows.Row], Any]
_IMAGES = (schema.images.c.name.label("dataset"), schema.images.c.sha256.label("images"))


def problems_of(database: Database) -> list[str]:
    """One sentence per thing that contradicts itself or another, in the order of the tables."""
    with database.reading() as connection:
        check = _Check(connection)
        check.everything()
    return check.problems


@dataclass
class _Check:
    """One pass over all tables; what was read well is there for what refers to it."""

    connection: Connection
    problems: list[str] = field(default_factory=list)
    _specs: dict[str, AttackSpec] = field(default_factory=dict)
    _sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    _random: set[str] = field(default_factory=set)
    _clean: dict[Any, dict[int, bool]] = field(default_factory=lambda: defaultdict(dict))
    _attacked: list[tuple[str, Job, tuple[bool, ...]]] = field(default_factory=list)

    def everything(self) -> None:
        """Check the file, then every table: those that others refer to come first."""
        self._file()
        for row in self._rows(schema.images, _plain(schema.images), _images):
            self._sizes[row.name, row.sha256] = row.size
        for row in self._rows(schema.attack, _plain(schema.attack), untrusted.attack):
            self._specs[row.hash] = row
        for _ in self._rows(schema.run, _plain(schema.run), untrusted.run):
            pass
        self._checkpoints()
        for _ in self._rows(schema.outcome, _outcomes(), self._outcome):
            pass
        self._populations()
        for _ in self._rows(schema.plan, _owned(schema.plan), _plan):
            pass
        for table, read in (
            (schema.failure, untrusted.failure),
            (schema.finding, untrusted.finding),
            (schema.measurement, untrusted.measurement),
        ):
            for _ in self._rows(table, _owned(table), read):
                pass
        for _ in self._rows(schema.claim, _plain(schema.claim), untrusted.claim):
            pass
        self._galleries()

    def _file(self) -> None:
        """SQLite's own checks: pages, indexes, unique keys, references."""
        if self.connection.dialect.name != "sqlite":
            return
        for (said,) in self.connection.exec_driver_sql("PRAGMA integrity_check"):
            if said != "ok":
                self.problems.append(f"file: {said:.300}")
        for table, row, parent, _ in self.connection.exec_driver_sql("PRAGMA foreign_key_check"):
            self.problems.append(f"{table} {row}: refers to a {parent} that is not there")

    def _rows(self, table: Table, query: Select[Any], read: Reader) -> Iterator[Any]:
        """What `read` makes of each row; one that it refuses is a problem, and the next follows.

        Rows are fetched one by one, since a row that cannot even be decoded ends a whole result.
        """
        for number in list(self.connection.scalars(select(table.c.id).order_by(table.c.id))):
            try:
                row = self.connection.execute(query.where(table.c.id == number)).mappings().first()
                if row is None:
                    continue  # what it refers to is gone, which the file's own check has said
                found = read(row)
            except _MALFORMED as error:
                self.problems.append(f"{table.name} {number}: {_said(error)}")
            else:
                yield found

    def _checkpoints(self) -> None:
        for record in self._rows(schema.checkpoint, _checkpoints(), untrusted.checkpoint):
            if record.capabilities.is_random:
                self._random.add(record.digest)
            for problem in _identity_problems(record):
                self.problems.append(f"checkpoint {record.name}: {problem}")

    def _outcome(self, row: rows.Row) -> None:
        if row["hash"] not in self._specs:
            raise ValueError("its attack is not what its hash says")
        found = untrusted.outcome(row, self._specs[row["hash"]], self._sizes)
        job = found.job
        where = f"outcome {row['id']} ({job.attack.label}, {job.checkpoint[:12]})"
        judged = "" if job.checkpoint in self._random else "margin_final"
        self.problems += [f"{where}: {problem}" for problem in _bit_problems(found, judged)]
        if job.attack.hash == CLEAN.hash:
            self._clean[_owner(job)].update(
                (job.first + place, not wrong) for place, wrong in enumerate(found.broken)
            )
        else:
            self._attacked.append((where, job, found.attacked))

    def _populations(self) -> None:
        """Who was attacked follows from the clean images: no wrong one, in a first stage all."""
        for where, job, attacked in self._attacked:
            if not job.threat.is_ball:
                continue  # corrupted images are judged one and all
            right = self._clean.get(_owner(job), {})
            known = range(job.first, job.last)
            for index, hit in zip(known, attacked, strict=True):
                if hit and not right.get(index, False):
                    self.problems.append(f"{where}: image {index} was attacked, but is not right")
                elif not hit and job.population == CORRECT and right.get(index, False):
                    self.problems.append(f"{where}: image {index} is right, but was not attacked")

    def _galleries(self) -> None:
        """Every adversarial picture is near a clean one, and is judged by that one's class."""
        clean: dict[tuple[str, str], Gallery] = {}
        for found in self._rows(schema.gallery, _galleries(), self._gallery):
            clean[found.dataset, found.images] = found
        query = _owned(schema.adversarial)
        for found in self._rows(schema.adversarial, query, self._adversarial):
            where = f"adversarial pictures ({found.threat}, {found.checkpoint[:12]})"
            own = clean.get((found.dataset, found.images))
            self.problems += [f"{where}: {problem}" for problem in picture_problems(found, own)]

    def _gallery(self, row: rows.Row) -> Gallery:
        return untrusted.gallery(row, self._sizes)

    def _adversarial(self, row: rows.Row) -> AdversarialGallery:
        return untrusted.adversarial(row, self._sizes)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def _owner(job: Job) -> tuple[Any, ...]:
    return job.checkpoint, job.dataset, job.images, job.threat


def _identity_problems(record: CheckpointRecord) -> Iterator[str]:
    """A checkpoint's digest is that of its fields, and its weights have the name of theirs."""
    if not record.weights_sha256:
        yield "its weights have no SHA-256"
    if record.weights != f"{record.weights_sha256}.safetensors":
        yield f"its weights {record.weights:.80} are not named by their SHA-256"
    if record.kind == "trained" and record.digest != function_digest(record):
        yield "its digest is not that of its weights, settings and architecture"
    if record.kind == "added" and not record.model_sha256 and ":" in record.model:
        yield "its model file has no SHA-256"


def function_digest(record: CheckpointRecord) -> str:
    """The digest of a checkpoint that was trained here, from the fields that make it."""
    return digest(
        [
            record.weights_sha256,
            record.defense,
            dict(record.settings),
            record.architecture,
            dict(record.architecture_settings),
            record.dataset,
        ]
    )


def _bit_problems(outcome: Outcome, margin: str) -> Iterator[str]:
    """Bits against the numbers beside them, and totals against the columns that they sum."""
    first, columns = outcome.job.first, outcome.columns
    for name, total in (("forwards", outcome.forwards), ("backwards", outcome.backwards)):
        if name in columns and _sum(columns[name]) != total:
            yield f"{name} are {total}, but its column holds {_sum(columns[name]):g}"
    for name, values in columns.items():
        for place, number in enumerate(values):
            if not outcome.attacked[place] and not math.isnan(number):
                yield f"image {first + place} was not attacked, but column {name} has {number:g}"
    nothing = (math.nan,) * len(outcome.broken)
    margins, successes = columns.get(margin, nothing), columns.get("first_success", nothing)
    for place, wrong in enumerate(outcome.broken):
        if not outcome.attacked[place]:
            continue
        if _contradicts(margins[place], successes[place], wrong, outcome.job):
            yield f"image {first + place}: broken is {wrong}, but its margin {margins[place]:g}"
        if wrong and "first_success" in columns and not successes[place] >= 0:
            yield f"image {first + place} is broken, but no pass broke it"


def _contradicts(margin: float, success: float, wrong: bool, job: Job) -> bool:
    """Whether the margin of the last look, negative where the decision is wrong, denies the bit.

    Ties and logits that are not finite have no margin that decides. An image counts as broken where
    a pass of the search and the last look are wrong, so a wrong last look alone breaks none.
    """
    if wrong:
        return margin > 0
    return margin < 0 and (job.attack.hash == CLEAN.hash or success >= 0)


def _sum(values: tuple[float, ...]) -> float:
    return math.fsum(value for value in values if not math.isnan(value))


def _images(row: rows.Row) -> rows.Images:
    classes = row["classes"]
    if not isinstance(classes, list):
        raise TypeError("its classes are no list")
    return untrusted.images(rows.Images(row["name"], row["sha256"], row["size"], tuple(classes)))


def _plan(row: rows.Row) -> None:
    found = untrusted.plan(row)
    if digest([list(pair) for pair in found.attacks]) != row["attacks_sha256"]:
        raise ValueError("its attacks are not what their SHA-256 says")


def unfinished_plans(database: Database) -> list[str]:
    """Plans with attacks that nothing stored is of: evaluations that did not come to their end."""
    with database.reading() as connection:
        known = set(connection.scalars(select(schema.attack.c.hash)))
        readable = list(_Check(connection)._rows(schema.plan, _owned(schema.plan), _whole_plan))
    found = []
    for row in readable:
        missing = sum(attack not in known for attack, _ in row["attacks"])
        if missing:
            found.append(
                f"plan {row['id']} ({row['protocol']}, {row['checkpoint'][:12]}): {missing} of "
                f"its {len(row['attacks'])} attacks are not stored"
            )
    return found


def _whole_plan(row: rows.Row) -> rows.Row:
    _plan(row)
    return row


def _plain(table: Table) -> Select[Any]:
    return select(table)


def _checkpoints() -> Select[Any]:
    table = schema.checkpoint
    return select(table, schema.function.c.digest).join_from(table, schema.function)


def _owned(table: Table) -> Select[Any]:
    """Rows with the names of the function and of the images that they are about."""
    return (
        select(table, schema.function.c.digest.label("checkpoint"), *_IMAGES)
        .select_from(table)
        .join(schema.function, schema.function.c.id == table.c.function_id)
        .join(schema.images, schema.images.c.id == table.c.images_id)
    )


def _galleries() -> Select[Any]:
    return select(schema.gallery, *_IMAGES).join_from(schema.gallery, schema.images)


def _outcomes() -> Select[Any]:
    joined = _owned(schema.outcome).add_columns(schema.attack.c.hash)
    return joined.join(schema.attack, schema.attack.c.id == schema.outcome.c.attack_id)
