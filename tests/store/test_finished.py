"""A finished database is read by everybody and written by nobody."""

import sqlite3
from contextlib import closing

import pytest

from harness.errors import HarnessError
from harness.store.finished import MARK, finish, is_finished
from harness.store.store import Store


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A folder with a finished `results.db`, as in a checkout of the project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DB", raising=False)
    with Store.open(tmp_path / "work.db") as store:
        store.start_run("one", versions={}, device="cpu")
    finish(tmp_path / "work.db", tmp_path / "results.db")
    return tmp_path


def test_a_finished_file_is_one_file_in_rollback_mode_that_says_so(finished):
    assert is_finished(finished / "results.db")
    assert not is_finished(finished / "work.db")
    assert not is_finished(finished / "absent.db")
    assert (finished / "results.db").read_bytes()[18:20] == b"\x01\x01"  # 2 is write-ahead
    assert not [name for name in files(finished) if name.startswith((".results", "results.db-"))]
    with closing(sqlite3.connect(finished / "results.db")) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (MARK,)
        assert connection.execute("SELECT command FROM run").fetchall() == [("one",)]


def test_reading_leaves_a_finished_file_and_its_folder_as_they_are(finished):
    before, names = (finished / "results.db").read_bytes(), files(finished)
    with Store.open(read_only=True, create=False) as store:
        assert store.path.name == "results.db"
        assert store.checkpoints() == []
    assert (finished / "results.db").read_bytes() == before
    assert files(finished) == names


def test_a_named_finished_file_is_not_written(finished):
    before = (finished / "results.db").read_bytes()
    with pytest.raises(HarnessError, match=r"results merge .*results\.db"):
        Store.open(finished / "results.db")
    assert (finished / "results.db").read_bytes() == before


def test_beside_a_finished_file_one_s_own_work_goes_to_local_db(finished):
    with Store.open() as store:
        assert store.path.name == "local.db"
    with Store.open(read_only=True, create=False) as store:
        assert store.path.name == "local.db"


def test_without_a_finished_file_the_default_is_results_db(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DB", raising=False)
    with Store.open() as store:
        assert store.path.name == "results.db"


def test_its_rows_can_be_merged_into_one_s_own(finished):
    with Store.open(finished / "mine.db") as store:
        assert store.merge(finished / "results.db").outcomes == 0


def test_finishing_again_replaces_the_file_and_nothing_less(finished):
    with Store.open(finished / "work.db") as store:
        store.start_run("two", versions={}, device="cpu")
    finish(finished / "work.db", finished / "results.db")
    with closing(sqlite3.connect(finished / "results.db")) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (2,)
    before = (finished / "results.db").read_bytes()
    (finished / "bad.db").write_text("dear diary, this is no database " * 40)
    with pytest.raises(HarnessError, match="cannot finish"):
        finish(finished / "bad.db", finished / "results.db")
    with pytest.raises(HarnessError, match="no database"):
        finish(finished / "absent.db", finished / "results.db")
    assert (finished / "results.db").read_bytes() == before
