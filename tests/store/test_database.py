from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from harness.errors import HarnessError
from harness.store import revisions, schema
from harness.store.store import Store

Make = Callable[..., Any]

DIGEST = "d" * 64
NEXT = f"{int(schema.HEAD) + 1:04d}"
WRITER = """
    import os, sys
    sys.path.insert(0, {here!r})
    from fractions import Fraction
    from harness.identity import AttackSpec, Job, Outcome
    from harness.store.store import Store
    from harness.threat import ThreatModel

    path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    threat, spec = ThreatModel("linf", Fraction(8, 255)), AttackSpec("pgd", "logits", "ce")
    with Store.open(path) as store:
        for first in range(0, 10 * count, 10):
            job = Job("d" * 64, "digits", "f" * 64, threat, spec, "correct", seed, "float32",
                      first, first + 10)
            store.record(Outcome(job, (True,) * 10, (False, True) * 5))
            print(first, flush=True)
"""


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def start_writer(path: Path, seed: int, count: int) -> subprocess.Popen[str]:
    code = textwrap.dedent(WRITER.format(here=str(Path(__file__).parents[2])))
    command = [sys.executable, "-c", code, str(path), str(seed), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_finished_database_is_one_file(store: Store, path: Path, outcome_of: Make) -> None:
    store.record(outcome_of())
    store.close()
    assert files(path) == ["results.db"]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_reading_leaves_the_folder_and_every_byte_as_they_are(
    store: Store, path: Path, outcome_of: Make, mode: str
) -> None:
    store.record(outcome_of())
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    before = path.read_bytes()
    with Store.open(path, read_only=True) as reader:
        assert len(reader.outcomes(DIGEST)) == 1
        assert files(path) == ["results.db"]
    assert files(path) == ["results.db"]
    assert path.read_bytes() == before


def test_opening_and_closing_without_writing_changes_no_byte(store: Store, path: Path) -> None:
    store.close()
    before = path.read_bytes()
    with Store.open(path) as again:
        assert len(again.checkpoints()) == 1
    assert path.read_bytes() == before


def test_a_reader_sees_what_a_writer_that_is_still_open_has_recorded(
    store: Store, path: Path, outcome_of: Make
) -> None:
    store.record(outcome_of())
    with Store.open(path, read_only=True) as reader:
        assert len(reader.outcomes(DIGEST)) == 1
        store.record(outcome_of(10, 20))
        assert len(reader.outcomes(DIGEST)) == 2


def test_a_snapshot_sees_one_state_while_others_write(
    store: Store, path: Path, outcome_of: Make
) -> None:
    store.record(outcome_of())
    with Store.open(path, read_only=True) as reader:
        with reader.snapshot():
            assert len(reader.outcomes(DIGEST)) == 1
            store.record(outcome_of(10, 20))
            assert len(reader.outcomes(DIGEST)) == 1
        assert len(reader.outcomes(DIGEST)) == 2


def test_a_reader_cannot_write(store: Store, path: Path, outcome_of: Make) -> None:
    store.close()
    with (
        Store.open(path, read_only=True) as reader,
        pytest.raises(HarnessError, match="for reading only"),
    ):
        reader.record(outcome_of())


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_refused_and_kept(path: Path, read_only: bool) -> None:
    path.write_text("name,accuracy\n")
    with pytest.raises(HarnessError, match="no SQLite database: name another file"):
        Store.open(path, read_only=read_only)
    assert path.read_text() == "name,accuracy\n"


def test_a_damaged_database_is_refused_with_a_sentence(store: Store, path: Path) -> None:
    store.close()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    with pytest.raises(HarnessError, match="damaged"), Store.open(path) as again:
        again.checkpoints()


def test_the_database_of_another_program_is_refused_and_kept(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title)")
    before = path.read_bytes()
    with pytest.raises(HarnessError, match="belongs to another program"):
        Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", [{"create": False}, {"read_only": True}])
def test_a_missing_database_is_not_made_by_a_reader(path: Path, how: dict[str, bool]) -> None:
    with pytest.raises(HarnessError, match=r"no database .*results\.db"):
        Store.open(path, **how)
    assert files(path) == []


def test_an_empty_file_becomes_a_database_only_where_one_may_be_made(path: Path) -> None:
    path.touch()
    with pytest.raises(HarnessError, match="empty file"):
        Store.open(path, create=False)
    with Store.open(path) as store:
        assert store.checkpoints() == []


def test_a_missing_folder_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="absent does not exist"):
        Store.open(tmp_path / "absent" / "results.db")
    with pytest.raises(HarnessError, match="is a folder"):
        Store.open(tmp_path)


@pytest.fixture
def locked_folder(new_database: Path) -> Iterator[Path]:
    """A folder with a database, neither of which may be written, even where tests run as root."""
    folder = Path(tempfile.mkdtemp())
    shutil.copy(new_database, folder / "results.db").chmod(0o444)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # nobody
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_an_unwritable_folder_and_an_unwritable_file_are_named(locked_folder: Path) -> None:
    with pytest.raises(HarnessError, match="may be written"):
        Store.open(locked_folder / "new.db")
    with Store.open(locked_folder / "results.db") as store:
        assert store.checkpoints() == []
        with pytest.raises(HarnessError, match="check the permissions"):
            store.start_run("eval", versions={}, device="cpu")
    assert [file.name for file in locked_folder.iterdir()] == ["results.db"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "in memory"),
        ("nonsense://x/y", "driver"),
        ("postgresql+nodriver://me:secret@host/db", "driver"),
        ("postgresql://me:secret@localhost:1/db", "cannot be used"),
        ("://", "no database"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_its_password(
    url: str, reason: str
) -> None:
    with pytest.raises(HarnessError, match=reason) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_the_environment_names_the_database_and_results_db_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DB", raising=False)
    Store.open(None).close()
    monkeypatch.setenv("HARNESS_DB", "sqlite:///other.db")
    Store.open(None).close()
    assert files(tmp_path / "x") == ["other.db", "results.db"]


def test_a_locked_database_is_waited_for_and_then_named(
    store: Store, path: Path, outcome_of: Make
) -> None:
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(HarnessError, match=r"locked for 0\.1 s"):
            Store.open(path, timeout=0.1)
        other.execute("ROLLBACK")
        with Store.open(path, timeout=0.1) as again:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(HarnessError, match=r"locked for 0\.1 s"):
                again.record(outcome_of())
            other.execute("ROLLBACK")
            assert again.record(outcome_of())


def test_a_newer_schema_is_refused_and_kept(store: Store, path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num='9999'")
        connection.commit()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(HarnessError, match=r"newer harness .*upgrade the harness"):
            Store.open(path, read_only=read_only)
    assert path.read_bytes() == before


def test_an_older_schema_is_copied_and_brought_up_to_date_by_a_writer_only(
    store: Store, path: Path, outcome_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.record(outcome_of())
    store.close()
    folder = path.parent / "migrations"
    shutil.copytree(revisions.MIGRATIONS, folder)
    (folder / "versions" / f"{NEXT}_note.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision = '{NEXT}', '{schema.HEAD}'\n"
        "def upgrade():\n    op.add_column('run', sa.Column('note', sa.Text()))\n"
    )
    monkeypatch.setattr(revisions, "MIGRATIONS", folder)
    monkeypatch.setattr(revisions, "HEAD", NEXT)
    before = path.read_bytes()
    with Store.open(path, read_only=True) as reader:
        assert len(reader.outcomes(DIGEST)) == 1
    assert path.read_bytes() == before
    assert files(path) == ["migrations", "results.db"]
    with Store.open(path) as again:
        assert len(again.outcomes(DIGEST)) == 1
    assert files(path) == ["migrations", "results.db", f"results.db.schema-{schema.HEAD}"]
    assert _columns(path, "run") == [*schema.run.c.keys(), "note"]
    kept = path.with_name(f"results.db.schema-{schema.HEAD}")
    assert _columns(kept, "run") == schema.run.c.keys()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    folder = path.parent / "migrations"
    shutil.copytree(revisions.MIGRATIONS, folder)
    (folder / "versions" / f"{NEXT}_broken.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision = '{NEXT}', '{schema.HEAD}'\n"
        "def upgrade():\n    op.add_column('run', sa.Column('note', sa.Text()))\n    1 / 0\n"
    )
    with monkeypatch.context() as patched:
        patched.setattr(revisions, "MIGRATIONS", folder)
        patched.setattr(revisions, "HEAD", NEXT)
        with pytest.raises(ZeroDivisionError):
            Store.open(path)
    assert _columns(path, "run") == schema.run.c.keys()
    with Store.open(path, read_only=True) as again:
        assert len(again.checkpoints()) == 1


def test_the_migrations_make_exactly_the_tables_of_the_schema(store: Store) -> None:
    with store._database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        script = ScriptDirectory.from_config(revisions.migration_config())
        assert revisions.revision_of(connection) == schema.HEAD == script.get_current_head()


def test_making_a_database_prints_nothing_and_leaves_logging_alone(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (logging.root.level, list(logging.root.handlers))
    Store.open(path).close()
    assert capfd.readouterr() == ("", "")
    assert (logging.root.level, list(logging.root.handlers)) == before


def test_four_processes_that_write_at_once_lose_nothing(store: Store, path: Path) -> None:
    store.close()
    writers = [start_writer(path, seed, 100) for seed in range(4)]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 4
    with Store.open(path, read_only=True) as reader:
        found = {(piece.seed, piece.first) for piece in reader.slices()}
    assert found == {(seed, first) for seed in range(4) for first in range(0, 1000, 10)}
    assert files(path) == ["results.db"]


def test_four_processes_that_make_the_same_database_make_one(path: Path) -> None:
    code = f"from harness.store.store import Store; Store.open({str(path)!r}).close()"
    makers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [maker.wait(timeout=60) for maker in makers] == [0] * 4
    with Store.open(path, read_only=True) as reader:
        assert reader.checkpoints() == []


def test_a_writer_that_is_killed_keeps_every_outcome_it_had_recorded(
    store: Store, path: Path
) -> None:
    store.close()
    with start_writer(path, 0, 100_000) as writer:
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
    with Store.open(path, read_only=True) as reader:
        found = sorted(piece.first for piece in reader.slices())
    assert found[: last // 10 + 1] == list(range(0, last + 1, 10))
    with Store.open(path) as again:
        again.remove("trades")
    assert files(path) == ["results.db"]


def _columns(path: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
