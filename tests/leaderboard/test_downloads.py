"""What may be taken away from a site: tables of every board, and the store as one file."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass

import pytest
from synthetic_boards import record

from harness.claims import claims
from harness.store.finished import MARK, finish, is_finished
from harness.store.store import Store
from leaderboard import addresses
from leaderboard.gathering import gather
from leaderboard.material import Empty, Material
from leaderboard.pages.downloads import LARGEST, links
from leaderboard.site import build, render


@pytest.fixture
def database(tmp_path):
    """A store that somebody still writes: one checkpoint, some claims."""
    path = tmp_path / "mine.db"
    with Store.open(path) as store:
        store.add_checkpoint(record())
        store.add_claims(claims()[:5])
    return path


def built_from(path, folder):
    with Store.open(path, create=False, read_only=True) as store, store.snapshot():
        return build(gather(store), folder)


@dataclass
class Sized(Empty):
    size: int

    def download_size(self):
        return self.size

    def download(self):
        return b"x"


def test_the_tables_hold_every_row_of_every_board(boards):
    files = render(Material(boards=boards))
    rows = sum(len(one.standings) for one in boards)
    assert len(list(csv.reader(io.StringIO(files["data/results.csv"].decode())))) == rows + 1
    told = json.loads(files["data/results.json"])
    found = told["boards"] if isinstance(told, dict) else told
    assert sum(len(one["standings"]) for one in found) == rows


def test_what_one_board_alone_has_is_not_written_twice(boards):
    material = Material(boards=boards[:1])
    page = addresses.board_page(boards[0], "json")
    assert links(material).json == page
    assert {page, addresses.RESULTS_CSV} <= render(material).keys()
    assert addresses.RESULTS_JSON not in render(material)


def test_the_site_carries_the_store_as_one_finished_file(database, tmp_path):
    site = built_from(database, tmp_path / "site").index.parent
    copy = site / addresses.DATABASE
    assert is_finished(copy)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (MARK,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Store.open(copy, create=False, read_only=True) as store:
        assert [one.name for one in store.checkpoints()] == [record().name]
        assert store.claims() == list(claims()[:5])


def test_a_finished_file_is_carried_byte_for_byte(database, tmp_path):
    finish(database, tmp_path / "finished.db")
    site = built_from(tmp_path / "finished.db", tmp_path / "site").index.parent
    assert (site / addresses.DATABASE).read_bytes() == (tmp_path / "finished.db").read_bytes()


def test_the_database_is_copied_again_only_when_something_stored_changed(database, tmp_path):
    folder = tmp_path / "site"
    built_from(database, folder)
    before = (folder / addresses.DATABASE).stat().st_mtime_ns
    assert built_from(database, folder).drawn == 0
    assert (folder / addresses.DATABASE).stat().st_mtime_ns == before
    with Store.open(database) as store:
        store.add_claims(claims()[5:6])
    built_from(database, folder)
    with Store.open(folder / addresses.DATABASE, create=False, read_only=True) as store:
        assert len(store.claims()) == 6


def test_a_copy_made_while_somebody_writes_is_whole(database, tmp_path):
    with Store.open(database) as writer:
        writer.add_claims(claims()[5:20])  # lies in the write-ahead log as long as this is open
        site = built_from(database, tmp_path / "site").index.parent
    with Store.open(site / addresses.DATABASE, create=False, read_only=True) as store:
        assert len(store.claims()) == 20


@pytest.mark.parametrize(
    ("material", "database", "says"),
    [
        (Material(), "", "built without a database"),
        (Material(archive=Sized(31_400_000)), "data/results.db", "about 31 MB"),
        (Material(archive=Sized(20_000)), "data/results.db", "less than 1 MB"),
        (Material(archive=Sized(LARGEST)), "data/results.db", "about 200 MB"),
        (Material(archive=Sized(LARGEST + 1)), "", "about 200 MB, too much for a site"),
        (Material(archive=Sized(20_000), only="digits"), "", "a site of one board"),
    ],
)
def test_the_size_of_the_database_is_said_or_why_there_is_none(material, database, says):
    found = links(material)
    assert found.database == database
    assert says in found.says
    assert (addresses.DATABASE in render(material)) == bool(database)


def test_the_size_that_is_said_is_near_that_of_the_file(database):
    with Store.open(database, create=False, read_only=True) as store:
        assert store.whole_size() == pytest.approx(len(store.whole_file()), rel=0.25)
