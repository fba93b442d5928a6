"""Small true records, changed where a test says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from harness.identity import (
    CORRECT,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Failure,
    Job,
    Outcome,
    Plan,
)
from harness.store.store import Store
from harness.threat import ThreatModel

DIGEST = "d" * 64
IMAGES = "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
PGD = AttackSpec("pgd", "logits", "ce", (("relative_step", 0.1), ("steps", 40)))


@pytest.fixture
def record_of() -> Callable[..., CheckpointRecord]:
    def make(name: str = "trades", **changes: Any) -> CheckpointRecord:
        values = {
            "name": name,
            "digest": DIGEST,
            "kind": "trained",
            "dataset": "digits",
            "threat": THREAT,
            "weights": f"{name}.safetensors",
            "weights_sha256": "e" * 64,
            "capabilities": Capabilities(classes=10, auxiliary=2, select=True, scale=15.0),
        }
        return CheckpointRecord(**{**values, **changes})

    return make


@pytest.fixture
def outcome_of() -> Callable[..., Outcome]:
    def make(
        first: int = 0,
        last: int = 10,
        *,
        attacked: tuple[bool, ...] | None = None,
        broken: tuple[bool, ...] | None = None,
        checkpoint: str = DIGEST,
        threat: ThreatModel = THREAT,
        attack: AttackSpec = PGD,
        population: str = CORRECT,
        seed: int = 0,
        precision: str = "float32",
        **rest: Any,
    ) -> Outcome:
        job = Job(
            checkpoint,
            "digits",
            IMAGES,
            threat,
            attack,
            population,
            seed,
            precision,
            first,
            last,
        )
        count = last - first
        attacked = (True,) * count if attacked is None else attacked
        broken = tuple(i % 3 == 0 for i in range(count)) if broken is None else broken
        return Outcome(job, attacked, broken, **rest)

    return make


@pytest.fixture
def plan() -> Plan:
    members = ((PGD.hash, CORRECT), ("0" * 64, "survivors:adaptive-1"))
    return Plan(DIGEST, "digits", IMAGES, THREAT, 0, "float32", "adaptive-1", members)


@pytest.fixture
def failure_of() -> Callable[..., Failure]:
    def make(first: int = 0, last: int = 10, attack: str = PGD.label) -> Failure:
        return Failure(
            DIGEST,
            "digits",
            IMAGES,
            THREAT,
            attack,
            "non_finite",
            "3 logits are NaN",
            created="2026-01-01T00:00:00+00:00",
            first=first,
            last=last,
        )

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without rows; copying it is faster than migrating."""
    path = tmp_path_factory.mktemp("new") / "results.db"
    Store.open(path).close()
    return path


@pytest.fixture
def store(
    path: Path, new_database: Path, record_of: Callable[..., CheckpointRecord]
) -> Iterator[Store]:
    """A new store that knows one checkpoint."""
    shutil.copy(new_database, path)
    with Store.open(path) as opened:
        opened.add_checkpoint(record_of())
        yield opened
