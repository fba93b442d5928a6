"""Plain values to rows and back; what cannot be true is refused on the way in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, NamedTuple

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
from harness.store.bits import decode_columns, encode_columns, pack, unpack
from harness.store.schema import CLAIM_TEXTS
from harness.threat import ThreatModel, format_fraction

Row = Mapping[Any, Any]

LARGEST_INDEX = 10_000_000
"""No test set is longer; a file that claims so would make every reader run out of memory."""

LARGEST_INTEGER = 2**63 - 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,@-]{0,119}")

_PLAIN = {field.name for field in fields(CheckpointRecord)} - {
    "digest",
    "threat",
    "capabilities",
    "curves",
}


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
    """What `threat_row` wrote."""
    return ThreatModel(row["norm"], Fraction(row["epsilon"]))


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


def checkpoint_of(row: Row) -> CheckpointRecord:
    """What `checkpoint_row` wrote, with the column `digest` of its function."""
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


def attack_of(row: Row) -> AttackSpec:
    """What `attack_row` wrote."""
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


def outcome_of(row: Row, spec: AttackSpec) -> Outcome:
    """What `outcome_row` wrote, with the names of what it refers to."""
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


def plan_of(row: Row) -> Plan:
    """What `plan_row` wrote, with the names of what it refers to."""
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


def failure_of(row: Row) -> Failure:
    """What `failure_row` wrote, with the names of what it refers to."""
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


def finding_of(row: Row) -> Finding:
    """What `finding_row` wrote, with the names of what it refers to."""
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


def measurement_of(row: Row) -> Measurement:
    """What `measurement_row` wrote, with the names of what it refers to."""
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


def claim_of(row: Row) -> Claim:
    """What `claim_row` wrote."""
    return Claim(**{name: row[name] for name in CLAIM_TEXTS})


def run_row(run: Run) -> dict[str, Any]:
    """All columns of a run."""
    return asdict(run) | {"versions": dict(run.versions)}


def run_of(row: Row) -> Run:
    """What `run_row` wrote."""
    return Run(**{field.name: row[field.name] for field in fields(Run)})
