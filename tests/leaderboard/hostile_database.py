"""A database that a hostile program wrote: one text in every place that can hold text."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from sqlalchemy import Text

from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
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
)
from harness.store import schema
from harness.store.store import Store
from harness.threat import ThreatModel

DIGEST, IMAGES = "d" * 64, "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
PGD = AttackSpec("pgd", "logits", "ce", (("steps", 40),))

KEYS = {
    *("digest", "hash", "sha256", "uid", "attacks_sha256", "norm", "epsilon", "population"),
    *("precision", "state", "knowledge", "unit", "printed"),
}
"""Columns that rows are found by, or whose words are fixed: other text there is no row at all."""


def write_database(path: Path, text: str) -> None:
    """A board with a row that is evaluated and one that failed; all other text is `text`."""
    with Store.open(path) as store:
        _fill(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for table in schema.metadata.tables.values():
            for column in table.columns:
                if column.name not in KEYS and isinstance(column.type, Text | schema.Json):
                    _overwrite(connection, table.name, column.name, column.type, text)
        connection.commit()


def _overwrite(
    connection: sqlite3.Connection, table: str, column: str, kind: Any, text: str
) -> None:
    rows = connection.execute(f'SELECT id, "{column}" FROM "{table}"').fetchall()  # noqa: S608
    for identity, old in rows:
        new = text.encode(errors="replace").decode()  # a lone surrogate is in JSON only
        new = f"{new}{identity}" if column in {"name", "diagnostic"} else new
        if isinstance(kind, schema.Json):
            new = json.dumps(_hostile(column, json.loads(old), text))
        connection.execute(
            f'UPDATE "{table}" SET "{column}"=? WHERE id=?',  # noqa: S608
            (new, identity),
        )


def _hostile(column: str, old: Any, text: str) -> Any:
    """The same shape with other words."""
    if column == "capabilities":
        return {**old, "hard": [text], "signs": [text]}
    if column == "parameters":
        return [[text, text]]
    if column == "attacks":
        return old
    if column == "description":
        return {"description": text, "source": text, "knowledge": text}
    if isinstance(old, list):
        return [text] if column in {"changed", "classes"} else old
    if column in {"curves", "details", "values"}:
        return {text: [1.0, 0.5]}
    known = ("title", "url", "arxiv", "note", "exact_images", "seconds", text)
    return dict.fromkeys(known, text)


def _record(name: str, digest: str = DIGEST, **more: Any) -> CheckpointRecord:
    return CheckpointRecord(
        name=name,
        digest=digest,
        kind="trained",
        dataset="digits",
        threat=THREAT,
        weights="w.safetensors",
        weights_sha256="e" * 64,
        capabilities=Capabilities(10, hard=("round",), signs=("bounded_logits",)),
        curves={"loss": (1.0, 0.5)},
        **more,
    )


def _fill(store: Store) -> None:
    store.add_checkpoint(_record("first"))
    store.add_checkpoint(_record("second", "1" * 64))
    store.record_dataset("digits", IMAGES, 100, ["0", "1"])
    run = store.start_run("harness eval", versions={"torch": "2.6"}, device="cpu")
    said = {"description": "climbs", "source": "a paper", "knowledge": "white_box"}
    for outcome in _outcomes():
        store.record(outcome, description=said, run=run)
    members = ((CLEAN.hash, EVERY), (PGD.hash, CORRECT))
    store.record_plan(Plan(DIGEST, "digits", IMAGES, THREAT, 0, "float32", "standard-2", members))
    for digest in (DIGEST, "1" * 64):
        where = (digest, "digits", IMAGES, THREAT)
        store.record_failure(Failure(*where, PGD.label, "non_finite", "NaN", first=10, last=20))
        store.record_finding(
            Finding(
                *where, 0, 10, "D01", "red", 0.5, "amber: > 1", (1,), "seen", details={"a": (1,)}
            )
        )
        store.record_finding(Finding(*where, 0, 10, "X99", "not_run", None, ""))
        store.record_measurement(
            Measurement(*where, 0, 10, "gaps", "clean", {"a": (1.0,)}, "a note")
        )
    store.add_claims([Claim(*("x",) * 12, "1.0", "percent", "", "", "a note")])


def _outcomes() -> Iterable[Outcome]:
    for attack, population, broken in ((CLEAN, EVERY, (False,) * 10), (PGD, CORRECT, (True,) * 10)):
        job = Job(DIGEST, "digits", IMAGES, THREAT, attack, population, 0, "float32", 0, 10)
        yield Outcome(job, (True,) * 10, broken, forwards=10, seconds=1.0)
