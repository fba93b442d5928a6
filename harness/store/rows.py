"""Plain values to rows and back; what cannot be true is refused on the way in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Column, Float, LargeBinary, Table, Text

from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Claim,
    Failure,
    Finding,
    Job,
    Measurement,
    Outcome,
    Plan,
    Runtime,
    digest,
)
from harness.store import schema
from harness.store.bits import decode_columns, encode_columns, pack, unpack
from harness.store.schema import CLAIM_TEXTS
from harness.threat import ThreatModel, format_fraction

Row = Mapping[Any, Any]

LARGEST_INDEX = 10_000_000
"""No test set is longer; a file that claims so would make every reader run out of memory."""

LARGEST_INTEGER = 2**63 - 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,@-]{0,119}")
_EPSILON = re.compile(r"[0-9]{1,30}([./][0-9]{1,30})?")

_PLAIN = {field.name for field in fields(CheckpointRecord)} - {
    "digest",
    "threat",
    "capabilities",
    "curves",
}


_MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)


class WrongRowError(ValueError):
    """A stored row that no harness wrote: SQLite keeps any value in any column."""


@contextmanager
def believed(table: Table) -> Iterator[None]:
    """Let nothing but `WrongRowError`, naming the table, come from reading its rows inside."""
    try:
        yield
    except WrongRowError:
        raise
    except _MALFORMED as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise WrongRowError(
            f"a row of its table '{table.name}' cannot be read: {said:.200}"
        ) from error


class Slice(NamedTuple):
    """The bits of one outcome without its columns: what standings are made of, cheap to read."""

    checkpoint: str
    dataset: str
    images: str
    norm: str
    epsilon: str
    attack: str
    population: str
    seed: int
    precision: str
    first: int
    last: int
    attacked: bytes
    broken: bytes
    forwards: int
    backwards: int
    queries: int
    seconds: float


@dataclass(frozen=True)
class Images:
    """The images of a test split: name, SHA-256 of its uint8 pixels in order, size, class names.

    `size` is 0 and `classes` empty until `record_dataset` said more.
    """

    name: str
    sha256: str
    size: int = 0
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordedAttack:
    """An attack and what the pages say about it (`description`, `source`, `knowledge`)."""

    spec: AttackSpec
    description: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """Where outcomes came from: one command on one machine; times in UTC, ISO 8601."""

    uid: str
    command: str
    versions: Mapping[str, str]
    device: str
    started: str
    finished: str = ""


def check_name(name: str) -> str:
    """The name of a checkpoint, if it can also be the name of a file and of a page.

    Raises:
        HarnessError: it cannot.
    """
    if _NAME.fullmatch(str(name)) is None:
        raise HarnessError(
            f"{str(name)[:60]!r} is no name for a checkpoint: use up to 120 letters, digits and "
            ". _ + = , @ - and begin with a letter or digit."
        )
    return name


def check_outcome(outcome: Outcome) -> None:
    """Refuse an outcome that contradicts itself.

    Raises:
        ValueError: lengths, bits, columns or totals cannot be those of its job.
    """
    job = outcome.job
    if not 0 <= job.first < job.last <= LARGEST_INDEX:
        raise ValueError(f"images {job.first} to {job.last} are no slice of a test set")
    length = job.last - job.first
    for name, values in (("attacked", outcome.attacked), ("broken", outcome.broken)):
        if len(values) != length:
            raise ValueError(f"{name} holds {len(values)} images, its slice {length}")
    if any(
        broken and not hit for hit, broken in zip(outcome.attacked, outcome.broken, strict=True)
    ):
        raise ValueError("an image is broken that was not attacked")
    if job.attack.hash == CLEAN.hash and not all(outcome.attacked):
        raise ValueError("the clean outcome must cover every image of its slice")
    _check_columns(outcome.columns, length)
    totals = (outcome.forwards, outcome.backwards, outcome.queries)
    if not all(0 <= total <= LARGEST_INTEGER for total in totals):
        raise ValueError(f"forwards, backwards, queries are {totals}")
    if not 0 <= outcome.seconds < math.inf:
        raise ValueError(f"seconds are {outcome.seconds}")


def _check_columns(columns: Mapping[str, tuple[float, ...]], length: int) -> None:
    for name, values in columns.items():
        if len(values) != length:
            raise ValueError(f"column {name} holds {len(values)} numbers for {length} images")
        if any(math.isinf(value) for value in values):
            raise ValueError(f"column {name} holds an infinite number: write NaN for 'none'")


def threat_row(threat: ThreatModel) -> dict[str, str]:
    """The two columns of a threat model; one text per epsilon."""
    return {"norm": threat.norm, "epsilon": format_fraction(threat.epsilon)}


def threat_of(row: Row) -> ThreatModel:
    """What `threat_row` wrote.

    Raises:
        ValueError: it did not write this.
    """
    norm, epsilon = row["norm"], row["epsilon"]
    if type(norm) is not str or type(epsilon) is not str:
        raise ValueError(f"its threat is {norm!r:.40}, {epsilon!r:.40}")
    return _threat(norm, epsilon)


@lru_cache(maxsize=1000)
def _threat(norm: str, epsilon: str) -> ThreatModel:
    if _EPSILON.fullmatch(epsilon) is None:
        raise ValueError(f"its epsilon is {epsilon!r:.80}")
    try:
        return ThreatModel(norm, Fraction(epsilon))
    except HarnessError as error:
        raise ValueError(str(error)) from error


def _is_plain(value: Any) -> bool:
    return type(value) in {str, bool} or _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= LARGEST_INTEGER)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_index(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_INDEX


Check = Callable[[Any], bool]


def _is_decision(value: Any) -> bool:
    return type(value) is int and (value == -1 or _is_index(value))


def _is_bit(value: Any) -> bool:
    return type(value) is int and value in (0, 1)


def _every(check: Check) -> Check:
    return lambda value: type(value) is list and all(map(check, value))


def _by_name(check: Check) -> Check:
    return lambda value: type(value) is dict and all(map(check, value.values()))


def _pairs(check: Check) -> Check:
    def is_pair(value: Any) -> bool:
        return type(value) is list and len(value) == 2 and _is_text(value[0]) and check(value[1])

    return _every(is_pair)


def _fields_of(example: Any) -> Check:
    """Entries by the names of a dataclass's fields, each of the type that it has in an example."""
    kinds: dict[str, Check] = {}
    for name, value in vars(example).items():
        kinds[name] = _every(_is_text) if type(value) is tuple else _like(value)
    return lambda value: (
        type(value) is dict
        and all(name in kinds and kinds[name](entry) for name, entry in value.items())
    )


def _like(example: Any) -> Check:
    if type(example) is float:
        return _is_number
    return lambda value: type(value) is type(example)


_JSON: Mapping[str, Check] = {
    **dict.fromkeys(("composition", "paper", "description", "versions"), _by_name(_is_text)),
    **dict.fromkeys(
        ("settings", "architecture_settings", "recipe", "training"), _by_name(_is_plain)
    ),
    **dict.fromkeys(("curves", "details", "values"), _by_name(_every(_is_number))),
    **dict.fromkeys(("changed", "classes"), _every(_is_text)),
    "parameters": _pairs(_is_plain),
    "attacks": _pairs(_is_text),
    **dict.fromkeys(("proof", "indices", "labels", "shape"), _every(_is_index)),
    "broken": _every(_is_bit),
    "predicted": _every(_is_decision),
    "capabilities": _fields_of(Capabilities(1)),
    "runtime": _fields_of(Runtime()),
}
"""What the JSON of a column is made of, by the column's name."""


def _check_of(column: Column[Any]) -> Check:
    if isinstance(column.type, schema.Json):
        return _JSON[column.name]
    kind: Check = _like(0)
    for type_, check in ((Text, _is_text), (Float, _is_number), (LargeBinary, _like(b""))):
        kind = check if isinstance(column.type, type_) else kind
    if column.nullable:
        return lambda value: value is None or kind(value)
    return kind


_CHECKS: Mapping[str, Mapping[str, Check]] = {
    table.name: {column.name: _check_of(column) for column in table.columns}
    for table in schema.metadata.sorted_tables
}
_NAMES = ("checkpoint", "dataset", "images", "digest", "hash")
"""Texts of the rows that a row refers to, where they are read with it."""


def check_types(table: Table, row: Row) -> None:
    """Refuse values of other types than those of their columns.

    Raises:
        ValueError: of the first.
    """
    checks = _CHECKS[table.name]
    for name, value in row.items():
        check = checks.get(name, _is_text if name in _NAMES else None)
        if check is not None and not check(value):
            raise ValueError(f"{name} is {value!r:.80}")


_SLICE = (*(str,) * 7, int, str, int, int, bytes, bytes, int, int, int, float)


def slice_of(row: tuple[Any, ...]) -> Slice:
    """A slice whose values are of their types and whose bits are those of its images.

    Raises:
        ValueError: they are not.
    """
    found = Slice._make(row)
    if tuple(map(type, row)) != _SLICE:
        raise ValueError(f"its values are of other types: {row!r:.150}")
    check_range(found.first, found.last)
    _threat(found.norm, found.epsilon)
    count = found.last - found.first
    spare = (1 << -count % 8) - 1
    for bits in (found.attacked, found.broken):
        if len(bits) != -(-count // 8) or bits[-1] & spare:
            raise ValueError(f"its {len(bits)} bytes of bits are not those of {count} images")
    return found


def check_range(first: Any, last: Any) -> None:
    """Refuse what is no slice of a test set.

    Raises:
        ValueError: it is not.
    """
    if not (_is_index(first) and _is_index(last) and first < last):
        raise ValueError(f"images {first!r:.40} to {last!r:.40} are no slice of a test set")


@believed(schema.images)
def images_of(row: Row) -> Images:
    """A dataset of the table `images`."""
    check_types(schema.images, row)
    if not _is_index(row["size"]):
        raise ValueError(f"its size is {row['size']}")
    return Images(row["name"], row["sha256"], row["size"], tuple(row["classes"]))


def checkpoint_row(record: CheckpointRecord) -> dict[str, Any]:
    """All columns of a checkpoint but its function."""
    row = {name: getattr(record, name) for name in _PLAIN}
    row |= threat_row(record.threat)
    for name, value in row.items():
        if isinstance(value, Mapping):
            row[name] = dict(value)
    row["capabilities"] = record.capabilities.to_json()
    row["curves"] = {name: list(values) for name, values in record.curves.items()}
    return row


@believed(schema.checkpoint)
def checkpoint_of(row: Row) -> CheckpointRecord:
    """What `checkpoint_row` wrote, with the column `digest` of its function."""
    check_types(schema.checkpoint, row)
    return CheckpointRecord(
        **{name: row[name] for name in _PLAIN},
        digest=row["digest"],
        threat=threat_of(row),
        capabilities=Capabilities.from_json(row["capabilities"]),
        curves={name: tuple(values) for name, values in row["curves"].items()},
    )


def attack_row(spec: AttackSpec) -> dict[str, Any]:
    """All columns of an attack but its description."""
    return {
        "hash": spec.hash,
        "name": spec.attack,
        "surface": spec.surface,
        "loss": spec.loss,
        "parameters": [list(pair) for pair in spec.parameters],
        "changed": list(spec.changed),
    }


@believed(schema.attack)
def attack_of(row: Row) -> AttackSpec:
    """What `attack_row` wrote."""
    check_types(schema.attack, row)
    return AttackSpec(
        row["name"],
        row["surface"],
        row["loss"],
        tuple((key, value) for key, value in row["parameters"]),
        tuple(row["changed"]),
    )


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """All columns of an outcome but the rows it refers to."""
    job = outcome.job
    return threat_row(job.threat) | {
        "population": job.population,
        "seed": job.seed,
        "precision": job.precision,
        "first": job.first,
        "last": job.last,
        "forwards": outcome.forwards,
        "backwards": outcome.backwards,
        "queries": outcome.queries,
        "seconds": outcome.seconds,
        "runtime": asdict(outcome.runtime),
        "attacked": pack(outcome.attacked),
        "broken": pack(outcome.broken),
        "columns": encode_columns(outcome.columns),
    }


@believed(schema.outcome)
def outcome_of(row: Row, spec: AttackSpec) -> Outcome:
    """What `outcome_row` wrote, with the names of what it refers to."""
    check_types(schema.outcome, row)
    check_range(row["first"], row["last"])
    length = row["last"] - row["first"]
    job = Job(
        checkpoint=row["checkpoint"],
        dataset=row["dataset"],
        images=row["images"],
        threat=threat_of(row),
        attack=spec,
        population=row["population"],
        seed=row["seed"],
        precision=row["precision"],
        first=row["first"],
        last=row["last"],
    )
    return Outcome(
        job=job,
        attacked=tuple(unpack(row["attacked"], length).tolist()),
        broken=tuple(unpack(row["broken"], length).tolist()),
        columns=decode_columns(row["columns"], length),
        forwards=row["forwards"],
        backwards=row["backwards"],
        queries=row["queries"],
        seconds=row["seconds"],
        runtime=Runtime(**row["runtime"]),
    )


def plan_row(plan: Plan) -> dict[str, Any]:
    """All columns of a plan but the rows it refers to."""
    attacks = [list(pair) for pair in plan.attacks]
    return threat_row(plan.threat) | {
        "seed": plan.seed,
        "precision": plan.precision,
        "protocol": plan.protocol,
        "attacks_sha256": digest(attacks),
        "attacks": attacks,
    }


@believed(schema.plan)
def plan_of(row: Row) -> Plan:
    """What `plan_row` wrote, with the names of what it refers to."""
    check_types(schema.plan, row)
    return Plan(
        checkpoint=row["checkpoint"],
        dataset=row["dataset"],
        images=row["images"],
        threat=threat_of(row),
        seed=row["seed"],
        precision=row["precision"],
        protocol=row["protocol"],
        attacks=tuple((attack, population) for attack, population in row["attacks"]),
    )


def failure_row(failure: Failure) -> dict[str, Any]:
    """All columns of a failure but the rows it refers to."""
    names = ("attack", "first", "last", "status", "message", "created")
    return threat_row(failure.threat) | {name: getattr(failure, name) for name in names}


@believed(schema.failure)
def failure_of(row: Row) -> Failure:
    """What `failure_row` wrote, with the names of what it refers to."""
    check_types(schema.failure, row)
    names = ("checkpoint", "dataset", "images", "attack")
    rest = ("status", "message", "created", "first", "last")
    return Failure(threat=threat_of(row), **{name: row[name] for name in names + rest})


_FINDING = (
    "seed",
    "examples",
    "diagnostic",
    "state",
    "value",
    "threshold",
    "note",
    "created",
)


def finding_row(finding: Finding) -> dict[str, Any]:
    """All columns of a finding but the rows it refers to."""
    plain = {name: getattr(finding, name) for name in _FINDING}
    return (
        threat_row(finding.threat)
        | plain
        | {
            "proof": list(finding.proof),
            "is_adaptive": int(finding.is_adaptive),
            "details": {name: list(values) for name, values in finding.details.items()},
        }
    )


@believed(schema.finding)
def finding_of(row: Row) -> Finding:
    """What `finding_row` wrote, with the names of what it refers to."""
    check_types(schema.finding, row)
    return Finding(
        checkpoint=row["checkpoint"],
        dataset=row["dataset"],
        images=row["images"],
        threat=threat_of(row),
        proof=tuple(row["proof"]),
        is_adaptive=bool(row["is_adaptive"]),
        details={name: tuple(values) for name, values in row["details"].items()},
        **{name: row[name] for name in _FINDING},
    )


_MEASUREMENT = ("seed", "examples", "analysis", "on", "note", "created")


def measurement_row(measurement: Measurement) -> dict[str, Any]:
    """All columns of a measurement but the rows it refers to."""
    plain = {name: getattr(measurement, name) for name in _MEASUREMENT}
    values = {name: list(numbers) for name, numbers in measurement.values.items()}
    return threat_row(measurement.threat) | plain | {"values": values}


@believed(schema.measurement)
def measurement_of(row: Row) -> Measurement:
    """What `measurement_row` wrote, with the names of what it refers to."""
    check_types(schema.measurement, row)
    return Measurement(
        checkpoint=row["checkpoint"],
        dataset=row["dataset"],
        images=row["images"],
        threat=threat_of(row),
        values={name: tuple(numbers) for name, numbers in row["values"].items()},
        **{name: row[name] for name in _MEASUREMENT},
    )


def claim_row(claim: Claim) -> dict[str, Any]:
    """All columns of a claim."""
    return {name: getattr(claim, name) for name in CLAIM_TEXTS}


@believed(schema.claim)
def claim_of(row: Row) -> Claim:
    """What `claim_row` wrote."""
    check_types(schema.claim, row)
    return Claim(**{name: row[name] for name in CLAIM_TEXTS})


def run_row(run: Run) -> dict[str, Any]:
    """All columns of a run."""
    return asdict(run) | {"versions": dict(run.versions)}


@believed(schema.run)
def run_of(row: Row) -> Run:
    """What `run_row` wrote."""
    check_types(schema.run, row)
    return Run(**{field.name: row[field.name] for field in fields(Run)})
