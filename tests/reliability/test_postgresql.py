"""What the store offers, on a PostgreSQL server: the same answers as on a file of SQLite."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from sqlalchemy import text

from harness.claims import claims
from harness.errors import HarnessError
from harness.identity import (
    CORRECT,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Failure,
    Finding,
    Job,
    Measurement,
    Outcome,
    Plan,
)
from harness.store.store import Store
from harness.threat import ThreatModel

DIGEST, IMAGES = "d" * 64, "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
PGD = AttackSpec("pgd", "logits", "ce", (("steps", 40),))
OWNED = (DIGEST, "digits", IMAGES, THREAT)


def record(name):
    return CheckpointRecord(
        name,
        DIGEST,
        "trained",
        dataset="digits",
        threat=THREAT,
        weights=f"{name}.safetensors",
        weights_sha256="e" * 64,
        capabilities=Capabilities(classes=10),
        curves={"loss": (1.0, math.nan)},
    )


def outcome(first, **rest):
    job = Job(*OWNED, PGD, CORRECT, 0, "float32", first, first + 10)
    return Outcome(job, (True,) * 10, (False, True) * 5, columns={"loss": (0.5,) * 10}, **rest)


def fill(store):
    """Something of everything; what the store said to each."""
    for name in ("b", "Z", "a-b", "aa"):
        store.add_checkpoint(record(name))
    store.record_dataset("digits", IMAGES, 100, ["0", "1"])
    run = store.start_run("harness eval", versions={"torch": "2.6"}, device="cpu")
    failure = Failure(*OWNED, PGD.label, "non_finite", "NaN", "2026", first=0, last=10)
    finding = Finding(*OWNED, 0, 9, "D01", "red", 0.5, "red: 1", created="2026")
    measured = Measurement(*OWNED, 0, 9, "margins", "clean", created="2026")
    said = [
        *(store.record_failure(failure) for _ in range(2)),
        *(store.record(outcome(first), run=run) for first in (0, 10, 40, 0)),
        store.record_failure(replace(failure, first=70, last=80)),
        *(store.record_finding(finding) for _ in range(2)),
        *(store.record_measurement(measured) for _ in range(2)),
        *(
            store.record_plan(Plan(*OWNED, 0, "float32", "x-1", ((PGD.hash, CORRECT),)))
            for _ in "ab"
        ),
        *(store.add_claims(claims()[:3]) for _ in range(2)),
    ]
    store.finish_run(run)
    store.remove("aa")
    return said


def everything(store):
    covered = {"dataset": "digits", "images": IMAGES, "threat": THREAT}
    return [
        [repr(one) for one in store.checkpoints()],
        store.outcomes(DIGEST, images=IMAGES, threat=THREAT),
        list(store.slices()),
        store.coverage(checkpoint=DIGEST, seed=0, precision="float32", **covered),
        store.attacks(),
        store.datasets(),
        store.plans(DIGEST),
        store.failures(),
        store.findings(DIGEST),
        store.measurements(analysis="margins"),
        store.claims(),
        [(run.command, run.versions, bool(run.finished)) for run in store.runs()],
    ]


def test_a_server_gives_the_same_answers_as_a_file(postgresql, tmp_path):
    with Store.open(postgresql) as server, Store.open(tmp_path / "results.db") as file:
        assert fill(server) == fill(file)
        assert everything(server) == everything(file)
    with Store.open(postgresql) as again:
        assert again.path is None
        assert len(again.outcomes(DIGEST)) == 3
        assert again.run_ids(DIGEST) == {run.uid for run in again.runs()}
        for name in ("b", "a-b", "Z"):
            again.remove(name)
        assert again.outcomes(DIGEST) == []
        with pytest.raises(HarnessError, match="no checkpoint"):
            again.record(outcome(0))


def test_a_file_is_merged_into_a_server(postgresql, tmp_path):
    with Store.open(tmp_path / "results.db") as file:
        fill(file)
        with Store.open(postgresql) as server:
            assert server.merge(tmp_path / "results.db").outcomes == 3
            assert server.merge(tmp_path / "results.db").known == 3
            assert everything(server) == everything(file)


def test_a_reader_cannot_write_and_its_snapshot_stays_while_others_do(postgresql):
    with pytest.raises(HarnessError, match="has schema none"):
        Store.open(postgresql, create=False)
    with Store.open(postgresql) as writer, Store.open(postgresql, read_only=True) as reader:
        fill(writer)
        with reader.snapshot():
            assert len(reader.outcomes(DIGEST)) == 3
            writer.record(outcome(90))
            assert len(reader.outcomes(DIGEST)) == 3
        assert len(reader.outcomes(DIGEST)) == 4
        with pytest.raises(HarnessError, match="for reading only"):
            reader.record(outcome(0))
        with (
            pytest.raises(HarnessError, match="allows no writing"),
            reader._database.reading() as connection,
        ):
            connection.execute(text("DELETE FROM outcome"))


def test_writers_wait_for_each_other_and_not_for_ever(postgresql):
    with Store.open(postgresql, timeout=0.2) as one, Store.open(postgresql, timeout=0.2) as other:
        with one._database.writing(), pytest.raises(HarnessError, match=r"locked for 0\.2 s"):
            other.start_run("eval", versions={}, device="cpu")
        assert other.start_run("eval", versions={}, device="cpu")


def test_what_is_wrong_with_a_server_is_a_sentence_without_the_password(postgresql, server):
    for url, reason in (
        (f"postgresql://postgres:secret@/absent?host={server}", "does not exist"),
        (f"postgresql://nobody:secret@/postgres?host={server}", "role"),
        ("postgresql://me:secret@/x?host=/nowhere", "No such file"),
    ):
        with pytest.raises(HarnessError, match=reason) as refused:
            Store.open(url)
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_newer_schema_and_a_stranger_s_tables_are_refused_and_kept(postgresql):
    with Store.open(postgresql) as store, store._database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(HarnessError, match="newer harness"):
        Store.open(postgresql)
