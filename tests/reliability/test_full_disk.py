"""A full disk, a folder that may not be written, a full database: a sentence, and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import torch

from harness import files
from harness.cli import main
from harness.files import lock_file, replace_file
from harness.store import opening
from harness.store.store import Store

TRAIN = ("train", "standard", "--dataset", "digits", "--set", "width=2", "--epochs", "1")
EVAL = ("eval", "net", "--examples", "500", "--workers", "1", "--attacks", "fgsm,pgd(steps=2)")


@pytest.fixture
def harness(home, monkeypatch, capsys):
    """`harness("eval", "net")` -> exit code and stderr, in this process."""

    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a database in which `net` is trained and evaluated in part."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DB", str(folder / "results.db"))
        patch.delenv("HARNESS_CHECKPOINTS", raising=False)
        for command in ((*TRAIN, "--name", "net"), ("eval", "net", "--examples", "10")):
            attacks = ("--attacks", "fgsm", "--workers", "1") if command[0] == "eval" else ()
            patch.setattr(sys, "argv", ["harness", *command, *attacks, "-q"])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 0
    (folder / "linear.py").write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    state = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).state_dict()
    torch.save(state, folder / "linear.pt")
    return folder


@pytest.fixture
def stored(home, trained):
    shutil.copytree(trained, home, dirs_exist_ok=True)
    return home


COMMANDS = {
    "train": (*TRAIN, "--name", "other"),
    "add": (
        *("add", "other", "--model", "linear.py:build", "--weights", "linear.pt"),
        *("--dataset", "digits"),
    ),
    "site": ("site", "--out", "site"),
    "export": ("results", "export", "boards.json"),
    "bits": (*EVAL, "--bits", "bits.npz"),
}


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(folder):
    return {
        file.relative_to(folder): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "results.db" and file.suffix != ".jsonl"
    }


def is_a_sentence(said):
    last = said.strip().splitlines()[-1]
    return last.startswith("harness: ") and last.endswith((".", ")")) and "Traceback" not in said


def rows(database):
    """Counts by table, of a database that is whole."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
            for name in names
        }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_ends_a_command_that_writes_files_with_a_sentence(
    harness, stored, monkeypatch, name
):
    before = contents(stored)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)  # the last thing before a file gets its name
        code, said = harness(*COMMANDS[name])
    assert (code, is_a_sentence(said)) == (2, True), said
    assert "No space left" in said
    assert contents(stored) == before
    assert harness(*COMMANDS[name])[0] == 0  # with room it goes on


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_may_not_be_written_ends_a_command_with_a_sentence(
    harness, stored, monkeypatch, name
):
    def refuse(path, flags, *rest, **more):
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_(path, flags, *rest, **more)

    open_, before = os.open, contents(stored)
    monkeypatch.setattr(files.os, "open", refuse)
    code, said = harness(*COMMANDS[name])
    assert (code, is_a_sentence(said)) == (2, True), said
    assert "Permission denied" in said
    assert contents(stored) == before


def test_a_full_database_ends_an_evaluation_between_shards_and_keeps_those_it_has(
    harness, stored, monkeypatch
):
    database = stored / "results.db"
    before = rows(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("VACUUM")  # no free pages inside
        (size,) = connection.execute("PRAGMA page_count").fetchone()
    prepare = opening._prepare

    def limited(connection, **how):
        prepare(connection, **how)
        connection.execute(f"PRAGMA max_page_count={size}")

    with monkeypatch.context() as patch:
        patch.setattr(opening, "_prepare", limited)
        code, said = harness(*EVAL)
    assert (code, is_a_sentence(said)) == (2, True), said
    assert "the disk is full" in said
    kept = rows(database)
    assert all(kept[table] >= count for table, count in before.items())
    assert kept["outcome"] > before["outcome"]  # what still found room in the last pages
    assert harness(*EVAL)[0] == 0
    with Store.open(database, read_only=True) as store:
        found = [(piece.attack, piece.first) for piece in store.slices()]
    assert len(found) == len(set(found)) >= 3 * 5


@pytest.mark.parametrize("command", [("merge", "other.db"), ("remove", "net")])
def test_a_full_database_takes_all_of_a_merge_or_nothing(harness, stored, monkeypatch, command):
    shutil.copy(stored / "results.db", stored / "other.db")
    with Store.open(stored / "other.db") as store:
        for number in range(400):
            store.start_run(f"run {number}" * 9, versions={}, device="cpu")
    before = rows(stored / "results.db")
    prepare = opening._prepare

    def limited(connection, **how):
        prepare(connection, **how)
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes this as the size it has

    monkeypatch.setattr(opening, "_prepare", limited)
    code, said = harness(*(("results", *command) if command[0] == "merge" else command))
    if command[0] == "remove":
        assert code == 0, said  # what makes room needs none
        return
    assert (code, is_a_sentence(said)) == (2, True), said
    assert "the disk is full" in said
    assert rows(stored / "results.db") == before


def test_a_database_in_a_folder_that_is_a_file_is_refused_by_every_command(harness, home):
    (home / "folder").write_text("a file")
    for command in ((*TRAIN, "--name", "net"), EVAL, ("site",), ("results", "merge", "x.db")):
        code, said = harness(*command, "--db", "folder/results.db")
        assert (code, is_a_sentence(said)) == (2, True), said


@pytest.mark.parametrize("file", ["site", "boards.json", "bits.npz"])
def test_a_folder_where_a_file_should_be_and_a_file_where_a_folder_should_be(harness, stored, file):
    if file == "site":
        (stored / file).write_text("mine")
        code, said = harness("site", "--out", file)
    else:
        (stored / file).mkdir()
        code, said = harness(*COMMANDS["export" if file == "boards.json" else "bits"])
    assert (code, is_a_sentence(said)) == (2, True), said
    assert not [*stored.rglob(".*.part")]


def test_a_writer_takes_over_what_a_killed_one_left(tmp_path):
    path = tmp_path / "page.html"
    files.draft_of(path).write_bytes(b"half of a much longer page")
    replace_file(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert [*tmp_path.iterdir()] == [path]


def test_a_writer_waits_for_another_and_leaves_what_that_one_made_whole(tmp_path, monkeypatch):
    path, has_opened, flock = tmp_path / "page.html", threading.Event(), files.fcntl.flock

    def told(*arguments):
        has_opened.set()
        return flock(*arguments)

    with lock_file(files.draft_of(path), wait=True) as other, ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(files.fcntl, "flock", told)
        with pytest.raises(BlockingIOError):
            lock_file(files.draft_of(path), wait=False)
        has_opened.clear()
        second = threads.submit(replace_file, path, b"ours")
        assert has_opened.wait(30)  # the very draft that now becomes the page
        other.write(b"theirs")
        files.draft_of(path).replace(path)
        kept = path.open("rb")
        other.close()
        second.result(30)
    assert path.read_bytes() == b"ours"
    with kept:
        assert kept.read() == b"theirs"  # nothing was written into it


def test_where_the_file_system_has_no_locks_files_are_whole_all_the_same(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(files.fcntl, "flock", none)
    replace_file(tmp_path / "a", b"whole")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"whole")]


def test_no_file_is_written_past_the_one_way_to_write_files():
    """Whole or not at all: what is opened for writing elsewhere is scratch."""
    root = Path(files.__file__).parents[1]
    past = (
        ".write_text(",
        ".write_bytes(",
        '.open("w',
        '.open("x',
        '.open("a',
        ', "w")',
        "savefig(",
    )
    allowed = {
        "harness/files.py",
        "harness/data/download.py",  # into a folder that is thrown away
        "harness/analysis/pictures.py",  # into memory
        "harness/runlog.py",  # grows by whole lines
    }
    found = {
        str(file.relative_to(root))
        for package in ("harness", "leaderboard")
        for file in (root / package).rglob("*.py")
        if any(way in file.read_text() for way in past)
    }
    assert found <= allowed
