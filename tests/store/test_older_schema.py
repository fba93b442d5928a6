"""A database of any earlier schema keeps all it holds, whatever happens while it is brought up."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from small_galleries import ATTACKED, GALLERY

from harness.claims import claims
from harness.errors import HarnessError
from harness.identity import Finding, Measurement
from harness.store import opening, revisions
from harness.store.finished import finish
from harness.store.schema import HEAD
from harness.store.store import Store

DIGEST, IMAGES = "d" * 64, "f" * 64
REVISIONS = sorted(
    script.revision
    for script in ScriptDirectory.from_config(revisions.migration_config()).walk_revisions()
)
OLDER = REVISIONS[:-1]

KILLED = """
import itertools, os, signal, sys
from alembic import command
from sqlalchemy import event
from sqlalchemy.engine import Engine
from harness.store.store import Store

def kill_before(number):
    seen = itertools.count()
    def look(*_):
        if next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)
    event.listen(Engine, "before_cursor_execute", look)
    event.listen(Engine, "commit", look)

number = int(sys.argv[2])
for number in range(number, number + int(sys.argv[3])):
    child = os.fork()
    if child == 0:
        kill_before(number)
        Store.open(sys.argv[1]).close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def full(tmp_path, record_of, outcome_of, plan, failure_of):
    """A database of today's schema with something in every table."""
    path = tmp_path / "full.db"
    finding = Finding(DIGEST, "digits", IMAGES, plan.threat, 0, 9, "D01", "red", 0.5, "red: 1")
    measured = Measurement(DIGEST, "digits", IMAGES, plan.threat, 0, 9, "margins", "clean")
    with Store.open(path) as store:
        store.add_checkpoint(record_of())
        store.record_dataset("digits", IMAGES, 100, ["0", "1"])
        run = store.start_run("harness eval", versions={"torch": "2.6"}, device="cpu")
        for first in range(0, 50, 10):
            store.record(outcome_of(first, first + 10, columns={"loss": (0.5,) * 10}), run=run)
        store.record_plan(plan)
        store.record_failure(failure_of(60, 70))
        store.record_finding(finding)
        store.record_measurement(measured)
        store.record_gallery(GALLERY)
        store.record_adversarial(ATTACKED)
        store.add_claims(claims()[:3])
    return path


@pytest.fixture(params=OLDER)
def older(request, tmp_path, full):
    """As a harness left it that knew the revisions up to this one: its path and its revision."""
    path, folder = tmp_path / "older" / "results.db", tmp_path / "migrations"
    path.parent.mkdir()
    shutil.copytree(revisions.MIGRATIONS, folder)
    for file in (folder / "versions").glob("[0-9]*.py"):
        if file.name[:4] > request.param:
            file.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revisions, "MIGRATIONS", folder)
        patch.setattr(revisions, "HEAD", request.param)
        Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ? AS today", (str(full),))
        for table, columns in tables(path).items():
            if table != "alembic_version":
                names = ", ".join(f'"{name}"' for name in columns)
                rows = f"SELECT {names} FROM today.{table}"  # noqa: S608
                connection.execute(f"INSERT INTO main.{table} ({names}) {rows}")
        connection.commit()
    return path, request.param


def tables(path):
    """Columns by table."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in sorted(found)
        }


def rows(path, columns):
    """What these columns of these tables hold."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {
            table: connection.execute(
                f"SELECT {', '.join(map(json.dumps, names))} FROM {table} ORDER BY 1"  # noqa: S608
            ).fetchall()
            for table, names in columns.items()
            if table != "alembic_version"
        }


def revision(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_an_older_database_is_copied_and_keeps_every_row(older, full):
    path, old = older
    known = tables(path)
    before = rows(path, known)
    with Store.open(path) as store, Store.open(full, read_only=True) as complete:
        assert store.outcomes(DIGEST) == complete.outcomes(DIGEST)
        assert store.checkpoints() == complete.checkpoints()
        assert store.plans() == complete.plans()
    assert rows(path, known) == before
    assert all(before.values())
    assert (tables(path), revision(path)) == (tables(full), HEAD)
    assert files(path) == ["results.db", f"results.db.schema-{old}"]
    copy = path.with_name(f"results.db.schema-{old}")
    assert (rows(copy, known), tables(copy), revision(copy)) == (before, known, old)


def test_a_reader_sees_an_older_database_through_a_copy_and_leaves_it_alone(
    older, full, tmp_path, monkeypatch
):
    path, _ = older
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = path.read_bytes()
    with Store.open(path, read_only=True) as store, Store.open(full, read_only=True) as complete:
        assert store.outcomes(DIGEST) == complete.outcomes(DIGEST)
        assert (store.path, store.where) == (path, str(path))
        assert [*(tmp_path / "temporary").iterdir()]
        with store.snapshot():
            assert len(store.plans()) == 1
        with pytest.raises(HarnessError, match="for reading only"):
            store.remove("trades")
    assert [*(tmp_path / "temporary").iterdir()] == []
    assert path.read_bytes() == before
    assert files(path) == ["results.db"]


def test_a_finished_database_of_an_older_schema_is_read_and_merged_and_stays_as_it_is(
    older, full, tmp_path
):
    path, _ = older
    finish(path, tmp_path / "finished.db")
    before = (tmp_path / "finished.db").read_bytes()
    with Store.open(tmp_path / "finished.db", create=False, read_only=True) as store:
        assert len(store.outcomes(DIGEST)) == 5
        assert store.gallery("digits", IMAGES) is None
        assert store.adversarial(DIGEST) == []
    with Store.open(tmp_path / "mine.db") as mine, Store.open(full, read_only=True) as complete:
        assert mine.merge(tmp_path / "finished.db").outcomes == 5
        assert mine.merge(path).known == 5
        assert mine.outcomes(DIGEST) == complete.outcomes(DIGEST)
    with pytest.raises(HarnessError, match="finished database"):
        Store.open(tmp_path / "finished.db")
    assert (tmp_path / "finished.db").read_bytes() == before


def test_an_older_database_that_no_copy_can_be_made_of_is_said_to_a_reader(
    older, tmp_path, monkeypatch
):
    path, _ = older
    monkeypatch.setattr(opening, "copy_database", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(HarnessError, match=r"through a copy.* disk is full.*TMPDIR"):
        Store.open(path, read_only=True)
    assert [*(tmp_path / "temporary").iterdir()] == []


def fail(*_):
    raise sqlite3.OperationalError("database or disk is full")


def test_a_full_disk_stops_before_the_database_is_changed(older, monkeypatch):
    path, old = older
    known = tables(path)
    before = rows(path, known)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(revisions, "copy_database", fail)
        with pytest.raises(HarnessError, match=r"disk is full.*make room .*it is as it was"):
            Store.open(path)
    assert (rows(path, known), tables(path), revision(path)) == (before, known, old)
    assert files(path) == ["results.db"]
    Store.open(path).close()
    assert revision(path) == HEAD


def test_an_earlier_copy_is_never_written_over(older):
    path, old = older
    kept = path.with_name(f"results.db.schema-{old}")
    kept.write_text("what somebody still needs")
    again = shutil.copy(path, path.with_name("again.db"))
    Store.open(path).close()
    assert kept.read_text() == "what somebody still needs"
    assert revision(path.with_name(f"{kept.name}.2")) == old

    shutil.copy(path.with_name(f"{kept.name}.2"), path.with_name(f"again.db.schema-{old}"))
    Store.open(again).close()
    assert not path.with_name(f"again.db.schema-{old}.2").exists()  # it was that very copy


def test_a_kill_at_any_statement_of_a_migration_leaves_the_old_database_or_the_new_one(
    older, tmp_path
):
    path, old = older
    known = tables(path)
    before = rows(path, known)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed, seen = 0, set()
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(path), "0", "1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as driver:
        for line in driver.stdout:
            assert rows(path, known) == before
            seen.add((revision(path), len(tables(path))))
            if line.strip() == "0":
                break
            killed += 1
            driver.stdin.write("\n")
            driver.stdin.flush()
        driver.kill()
    assert killed > 5
    assert seen == {(old, len(known)), (HEAD, len(tables(path)))}
    backups = [*path.parent.glob("results.db.schema-*")]
    assert backups
    assert all(rows(backup, known) == before for backup in backups)
    assert not [*path.parent.glob(".*")]
