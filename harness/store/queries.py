"""Statements on one connection; who calls them owns the transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from harness.errors import HarnessError
from harness.identity import (
    DIAGNOSED,
    AdversarialGallery,
    AttackSpec,
    CheckpointRecord,
    Claim,
    Failure,
    Finding,
    Gallery,
    Job,
    Measurement,
    Outcome,
    Plan,
)
from harness.store import galleries, rows, schema
from harness.store.bits import Numbers, decode_column
from harness.threat import ThreatModel

_IMAGES = (schema.images.c.name.label("dataset"), schema.images.c.sha256.label("images"))
_FUNCTION = schema.function.c.digest.label("checkpoint")
_SHARED = ("population", "seed", "precision", "first", "last")
JOB_KEY = ("images_id", "norm", "epsilon", "function_id", "attack_id", *_SHARED)
"""The columns of a job's key, those of one board and then of one function together."""

SQLITE_MASTER = Table("sqlite_master", MetaData(), Column("type", Text), Column("name", Text))

_TOTALS = ("forwards", "backwards", "queries", "seconds")


def insert_once(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert unless the unique key is there already; whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(dict(row)).on_conflict_do_nothing()
    return connection.execute(statement.returning(table.c.id)).first() is not None


def id_of(connection: Connection, table: Table, key: Mapping[str, Any]) -> int | None:
    """The id of the row with that key."""
    query = select(table.c.id).where(*(table.c[name] == value for name, value in key.items()))
    return connection.execute(query).scalar_one_or_none()


def ensure(
    connection: Connection, table: Table, key: Mapping[str, Any], rest: Mapping[str, Any]
) -> int:
    """The id of the row with that key, inserted with `rest` if it is new."""
    found = id_of(connection, table, key)
    if found is None:
        insert_once(connection, table, {**key, **rest})
        found = id_of(connection, table, key)
    assert found is not None  # noqa: S101 - it was there or has just been inserted
    return found


def ensure_images(connection: Connection, dataset: str, sha256: str) -> int:
    """The id of a dataset's images, known or not."""
    return ensure(
        connection, schema.images, {"name": dataset, "sha256": sha256}, {"size": 0, "classes": []}
    )


def write_images(connection: Connection, images: rows.Images) -> None:
    """Record a dataset, or say more about one that is there."""
    found = ensure_images(connection, images.name, images.sha256)
    changed = {"size": images.size, "classes": list(images.classes)}
    connection.execute(update(schema.images).where(schema.images.c.id == found).values(changed))


def write_attack(
    connection: Connection, spec: AttackSpec, description: Mapping[str, str] | None
) -> int:
    """Record an attack, or renew what is said about one that is there; its id."""
    row = rows.attack_row(spec)
    table = schema.attack
    query = select(table.c.id, table.c.changed, table.c.description).where(
        table.c.hash == row["hash"]
    )
    with rows.believed(table):
        known = connection.execute(query).one_or_none()
    said = dict(description or {})
    if known is None:
        return ensure(connection, table, {"hash": row.pop("hash")}, row | {"description": said})
    said = said or known.description
    if (known.changed, known.description) != (row["changed"], said):
        renewed = {"changed": row["changed"], "description": said}
        connection.execute(update(table).where(table.c.id == known.id).values(renewed))
    return int(known.id)


def write_checkpoint(connection: Connection, record: CheckpointRecord) -> None:
    """Record a checkpoint, or renew what is said about one of the same name and digest."""
    table = schema.checkpoint
    query = (
        select(table.c.id, schema.function.c.digest)
        .join_from(table, schema.function)
        .where(table.c.name == record.name)
    )
    known = connection.execute(query).one_or_none()
    if known is None:
        function_id = ensure(connection, schema.function, {"digest": record.digest}, {})
        row = rows.checkpoint_row(record)
        connection.execute(table.insert().values(row | {"function_id": function_id}))
    elif known.digest == record.digest:
        row = rows.checkpoint_row(record)
        connection.execute(update(table).where(table.c.id == known.id).values(row))
    else:
        raise HarnessError(
            f"the name '{record.name}' is taken by another recipe (digest {known.digest[:12]}, not "
            f"{record.digest[:12]}): choose another name, or free it with "
            f"`harness remove {record.name}`."
        )


def delete_checkpoint(connection: Connection, name: str) -> bool:
    """Forget a name, and all that is stored of its function unless another name has it too."""
    table = schema.checkpoint
    query = select(table.c.function_id).where(table.c.name == name)
    function_id = connection.execute(query).scalar_one_or_none()
    if function_id is None:
        return False
    connection.execute(delete(table).where(table.c.name == name))
    if id_of_any(connection, table, function_id) is None:
        connection.execute(delete(schema.function).where(schema.function.c.id == function_id))
    return True


def id_of_any(connection: Connection, table: Table, function_id: int) -> int | None:
    """The id of some row of that function."""
    query = select(table.c.id).where(table.c.function_id == function_id).limit(1)
    return connection.execute(query).scalar_one_or_none()


def references(
    connection: Connection, checkpoint: str, dataset: str, images: str
) -> dict[str, int]:
    """The ids that outcomes, plans and failures share."""
    function_id = id_of(connection, schema.function, {"digest": checkpoint})
    if function_id is None:
        raise HarnessError(
            f"no checkpoint with digest {checkpoint[:12]} is stored (any more): train or add it "
            "first; nothing was recorded."
        )
    return {"function_id": function_id, "images_id": ensure_images(connection, dataset, images)}


def job_references(
    connection: Connection, job: Job, description: Mapping[str, str] | None
) -> dict[str, int]:
    """The ids that an outcome refers to."""
    attack_id = write_attack(connection, job.attack, description)
    shared = references(connection, job.checkpoint, job.dataset, job.images)
    return {**shared, "attack_id": attack_id}


def clear_failures(connection: Connection, outcome: Outcome, ids: Mapping[str, int]) -> None:
    """Forget why this job had failed before; the failures of other slices stay."""
    job, table = outcome.job, schema.failure
    threat = rows.threat_row(job.threat)
    is_inside = and_(table.c.first >= job.first, table.c.last <= job.last)
    connection.execute(
        delete(table).where(
            table.c.function_id == ids["function_id"],
            table.c.images_id == ids["images_id"],
            table.c.norm == threat["norm"],
            table.c.epsilon == threat["epsilon"],
            table.c.attack.in_(["", job.attack.label]),
            or_(is_inside, table.c.last == 0),
        )
    )


def write_plan(connection: Connection, plan: Plan) -> bool:
    """Record a plan; whether it is new."""
    ids = references(connection, plan.checkpoint, plan.dataset, plan.images)
    return insert_once(connection, schema.plan, rows.plan_row(plan) | ids)


def write_failure(connection: Connection, failure: Failure) -> bool:
    """Record a failure in place of an earlier one of the same job; whether it is new."""
    ids = references(connection, failure.checkpoint, failure.dataset, failure.images)
    row, table = rows.failure_row(failure) | ids, schema.failure
    key = ("function_id", "images_id", "norm", "epsilon", "attack", "first", "last")
    earlier = connection.execute(delete(table).where(*(table.c[name] == row[name] for name in key)))
    connection.execute(table.insert().values(row))
    return earlier.rowcount == 0


def _renew(
    connection: Connection,
    table: Table,
    row: Mapping[str, Any],
    key: Iterable[str],
    *,
    renews: bool = True,
) -> bool:
    """Insert a row, in place of an earlier one of that key if it renews; whether it is new."""
    earlier = 0
    if renews:
        mine = (table.c[name] == row[name] for name in key)
        earlier = connection.execute(delete(table).where(*mine)).rowcount
    return insert_once(connection, table, row) and earlier == 0


_FINDING_KEY = ("function_id", "images_id", "norm", "epsilon", "diagnostic")


def write_finding(connection: Connection, finding: Finding, *, renews: bool = True) -> bool:
    """Record a finding, in place of an earlier one of the same diagnostic; whether it is new.

    Args:
        connection: to write on.
        finding: what to record.
        renews: whether it takes the earlier one's place or leaves it.
    """
    ids = references(connection, finding.checkpoint, finding.dataset, finding.images)
    row = rows.finding_row(finding) | ids
    if renews:
        failed = schema.failure
        same = (failed.c[name] == row[name] for name in _FINDING_KEY[:-1])
        connection.execute(delete(failed).where(*same, failed.c.attack == DIAGNOSED))
    return _renew(connection, schema.finding, row, _FINDING_KEY, renews=renews)


_MEASUREMENT_KEY = ("function_id", "images_id", "analysis", "on", "norm", "epsilon")


def write_measurement(
    connection: Connection, measurement: Measurement, *, renews: bool = True
) -> bool:
    """Record a measurement, in place of an earlier one of the same analysis; whether it is new.

    Args:
        connection: to write on.
        measurement: what to record.
        renews: whether it takes the earlier one's place or leaves it.
    """
    ids = references(connection, measurement.checkpoint, measurement.dataset, measurement.images)
    row = rows.measurement_row(measurement) | ids
    return _renew(connection, schema.measurement, row, _MEASUREMENT_KEY, renews=renews)


def write_gallery(connection: Connection, gallery: Gallery) -> bool:
    """Record pictures of a dataset, in place of earlier ones; whether it had none."""
    images_id = ensure_images(connection, gallery.dataset, gallery.images)
    row = galleries.gallery_row(gallery) | {"images_id": images_id}
    return _renew(connection, schema.gallery, row, ("images_id",))


_ADVERSARIAL_KEY = ("function_id", "images_id", "norm", "epsilon")


def write_adversarial(
    connection: Connection, gallery: AdversarialGallery, *, renews: bool = True
) -> bool:
    """Record adversarial pictures, in place of earlier ones of that threat; whether it had none.

    Args:
        connection: to write on.
        gallery: what to record.
        renews: whether it takes the earlier one's place or leaves it.
    """
    ids = references(connection, gallery.checkpoint, gallery.dataset, gallery.images)
    row = galleries.adversarial_row(gallery) | ids
    return _renew(connection, schema.adversarial, row, _ADVERSARIAL_KEY, renews=renews)


def write_claim(connection: Connection, claim: Claim) -> bool:
    """Record a claim unless its key is there; whether it is new."""
    return insert_once(connection, schema.claim, rows.claim_row(claim))


def read_checkpoint_rows(connection: Connection) -> Iterable[rows.Row]:
    """Checkpoints with the digest of their function, by name."""
    table = schema.checkpoint
    query = select(table, schema.function.c.digest).join_from(table, schema.function)
    return _decoded(connection, query.order_by(table.c.name), table)


def read_checkpoints(connection: Connection) -> list[CheckpointRecord]:
    """All checkpoints, by name."""
    found = (rows.checkpoint_of(row) for row in read_checkpoint_rows(connection))
    return sorted(found, key=lambda record: record.name)  # servers sort as a language does


def read_attack_rows(connection: Connection) -> Iterable[rows.Row]:
    """Attacks in the order they were recorded."""
    return _decoded(connection, select(schema.attack).order_by(schema.attack.c.id), schema.attack)


def read_attacks(connection: Connection) -> dict[str, rows.RecordedAttack]:
    """All attacks by their hash."""
    return {
        row["hash"]: rows.RecordedAttack(rows.attack_of(row), row["description"])
        for row in read_attack_rows(connection)
    }


def read_outcome_rows(
    connection: Connection, where: ColumnElement[bool] | None = None
) -> Iterable[rows.Row]:
    """Whole outcomes with the names and hashes of what they refer to, in a fixed order."""
    names = (_FUNCTION, *_IMAGES, schema.attack.c.hash)
    query = _joined(select(schema.outcome, *names)).order_by(*_order())
    query = query if where is None else query.where(where)
    return _decoded(connection, query.execution_options(yield_per=500), schema.outcome)


def read_slices(connection: Connection, where: ColumnElement[bool]) -> Iterator[rows.Slice]:
    """Bits alone in a fixed order, those of one board and then of one function together."""
    table = schema.outcome
    own = [table.c[name] for name in (*_SHARED, "attacked", "broken", *_TOTALS)]
    threat = (table.c.norm, table.c.epsilon)
    query = _joined(select(_FUNCTION, *_IMAGES, *threat, schema.attack.c.hash, *own)).where(where)
    query = query.order_by(*_order()).execution_options(yield_per=2000)
    with rows.believed(table):
        yield from map(rows.slice_of, connection.execute(query))


def read_ranges(
    connection: Connection, where: ColumnElement[bool]
) -> Iterator[tuple[str, str, int, int]]:
    """(attack hash, population, first, last) of stored outcomes."""
    table = schema.outcome
    columns = (schema.attack.c.hash, table.c.population, table.c.first, table.c.last)
    with rows.believed(table):
        for row in connection.execute(_joined(select(*columns)).where(where)):
            rows.check_range(row.first, row.last)
            yield row.hash, row.population, row.first, row.last


def read_run_ids(connection: Connection, where: ColumnElement[bool]) -> set[str]:
    """Ids of the runs that these outcomes came from; none of those recorded without one."""
    query = _joined(select(schema.run.c.uid).distinct()).join(
        schema.run, schema.run.c.id == schema.outcome.c.run_id
    )
    return set(connection.execute(query.where(where)).scalars())


def read_plan_rows(
    connection: Connection, where: ColumnElement[bool] | None = None
) -> Iterable[rows.Row]:
    """Plans with the names of what they refer to, in the order they were recorded."""
    return _rows_of(connection, schema.plan, where)


def read_failure_rows(
    connection: Connection, where: ColumnElement[bool] | None = None
) -> Iterable[rows.Row]:
    """Failures with the names of what they refer to, in the order they were recorded."""
    return _rows_of(connection, schema.failure, where)


def read_finding_rows(
    connection: Connection, where: ColumnElement[bool] | None = None
) -> Iterable[rows.Row]:
    """Findings with the names of what they refer to, in the order they were recorded."""
    return _rows_of(connection, schema.finding, where)


def read_measurement_rows(
    connection: Connection, where: ColumnElement[bool] | None = None
) -> Iterable[rows.Row]:
    """Measurements with the names of what they refer to, in the order they were recorded."""
    return _rows_of(connection, schema.measurement, where)


def read_gallery_rows(
    connection: Connection, where: ColumnElement[bool] | None = None
) -> Iterable[rows.Row]:
    """Pictures of datasets with the names of these, in the order they were recorded."""
    table = schema.gallery
    query = select(table, *_IMAGES).join_from(table, schema.images).order_by(table.c.id)
    return _decoded(connection, query if where is None else query.where(where), table)


def read_adversarial_rows(
    connection: Connection, where: ColumnElement[bool] | None = None
) -> Iterable[rows.Row]:
    """Adversarial pictures with the names of what they refer to, in the order of recording."""
    return _rows_of(connection, schema.adversarial, where)


def read_claim_rows(connection: Connection, **where: str | None) -> Iterable[rows.Row]:
    """Claims whose fields have these values, where given, in the order they were added."""
    table = schema.claim
    wanted = (table.c[name] == value for name, value in where.items() if value is not None)
    return _decoded(connection, select(table).where(*wanted).order_by(table.c.id), table)


def read_images(connection: Connection) -> list[rows.Images]:
    """All datasets, by name."""
    table = schema.images
    images = map(rows.images_of, _decoded(connection, select(table), table))
    return sorted(images, key=lambda one: (one.name, one.sha256))


def read_run_rows(connection: Connection) -> Iterable[rows.Row]:
    """Runs, the oldest first."""
    table = schema.run
    return _decoded(connection, select(table).order_by(table.c.started, table.c.id), table)


def restricted(
    table: Table,
    *,
    checkpoint: str | None = None,
    images: str | None = None,
    threat: ThreatModel | None = None,
) -> ColumnElement[bool]:
    """The condition for rows of a checkpoint digest, test images, threat model, where given."""
    conditions: list[ColumnElement[bool]] = []
    if checkpoint is not None:
        conditions.append(schema.function.c.digest == checkpoint)
    if images is not None:
        conditions.append(schema.images.c.sha256 == images)
    if threat is not None:
        conditions += [table.c[name] == value for name, value in rows.threat_row(threat).items()]
    return and_(True, *conditions)


def _rows_of(
    connection: Connection, table: Table, where: ColumnElement[bool] | None
) -> Iterable[rows.Row]:
    query = _with_names(select(table, _FUNCTION, *_IMAGES), table).order_by(table.c.id)
    query = query if where is None else query.where(where)
    return _decoded(connection, query, table)


def _decoded(connection: Connection, query: Select[Any], table: Table) -> Iterator[rows.Row]:
    """Rows one by one; what is no JSON, or no bytes, is found when its row is fetched.

    Raises:
        WrongRowError: the next row holds such a value.
    """
    with rows.believed(table):
        yield from connection.execute(query).mappings()


def _joined(query: Select[Any]) -> Select[Any]:
    return _with_names(query, schema.outcome).join(
        schema.attack, schema.attack.c.id == schema.outcome.c.attack_id
    )


def _with_names(query: Select[Any], table: Table) -> Select[Any]:
    return (
        query.select_from(table)
        .join(schema.function, schema.function.c.id == table.c.function_id)
        .join(schema.images, schema.images.c.id == table.c.images_id)
    )


def _order() -> tuple[ColumnElement[Any], ...]:
    return tuple(schema.outcome.c[name] for name in JOB_KEY)


class DecidedSlice(NamedTuple):
    """A slice with what was decided on its images, and when it was recorded.

    Args:
        piece: its bits.
        created: UTC, ISO 8601.
        predicted: [last - first], the class that the deployed function decides on each returned
            image, NaN where an image was not attacked; None where that was not recorded.
    """

    piece: rows.Slice
    created: str
    predicted: Numbers | None


def read_decisions(connection: Connection, where: ColumnElement[bool]) -> Iterator[DecidedSlice]:
    """As `read_slices`, with one column of each decoded."""
    table = schema.outcome
    own = [table.c[name] for name in (*_SHARED, "attacked", "broken", *_TOTALS)]
    threat = (table.c.norm, table.c.epsilon)
    more = (table.c.created, table.c["columns"])
    query = select(_FUNCTION, *_IMAGES, *threat, schema.attack.c.hash, *own, *more)
    query = _joined(query).where(where).order_by(*_order()).execution_options(yield_per=500)
    with rows.believed(table):
        for row in connection.execute(query):
            created, columns = row.created, row.columns
            if type(created) is not str or type(columns) is not bytes:
                raise ValueError(f"its date is {created!r:.40}, its columns {columns!r:.40}")
            piece = rows.slice_of(tuple(row)[: -len(more)])
            predicted = decode_column(columns, piece.last - piece.first, "predicted")
            yield DecidedSlice(piece, created, predicted)
