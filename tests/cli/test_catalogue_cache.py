"""Listings are kept between commands: the same bytes without PyTorch, and never what is not so."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import catalogue_cache
from harness.cli.catalogue_cache import is_grid, remembered
from harness.cli.listing import list_
from harness.files import draft_of, lock_file

(KINDS,) = (p.type.choices for p in list_.params if p.name == "kind")
LINES = [
    *(
        ("list", kind, *more)
        for kind in KINDS
        if kind != "checkpoints"
        for more in ([], ["--json"])
    ),
    ("list", "claims", "--defense", "trades"),
    ("show", "trades_ancra"),
    ("show", "trades+awp+he"),
    ("show", "trades_wn"),
]
CONTENT = {"rows": [1, "two", {"three": [0.1, None]}]}


class Counted:
    """How often something had to be computed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> object:
        self.times += 1
        return CONTENT

    def asked(self, fits: Callable[[object], bool] = lambda _: True) -> object:
        return remembered("list something", self, fits)


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package in the place of the harness and the defenses; small, and free to be changed."""
    folder = tmp_path / "sources" / "packed"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("one = 1\n")
    (folder / "inner" / "table.csv").write_text("a,b\n")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(catalogue_cache, "_PACKAGES", ("packed",))
    importlib.invalidate_caches()
    return folder


@pytest.fixture
def kept(package, tmp_path) -> Path:
    """The file of a listing that is kept."""
    Counted().asked()
    (file,) = (tmp_path / "cache" / "robust-harness" / "listings").iterdir()
    return file


def test_a_second_command_prints_the_same_bytes_without_torch_in_less_than_a_second(
    harness, outside
):
    first = "".join(harness(*line).out for line in LINES)
    code = (
        "import json, sys, time\n"
        "from harness.cli import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    started, sys.argv = time.process_time(), ['harness', *line]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "    sys.stdout.flush()\n"
        "    print(time.process_time() - started, file=sys.stderr)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(LINES)],
        env=outside,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == first
    assert max(map(float, done.stderr.split())) < 0.7  # beyond 0.1 s of importing the commands


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("trades+nonsense", "no addition named 'nonsense'"),
        ("trades+trades", "no addition named 'trades'"),
        ("trade_ancra", "Did you mean 'trades_ancra'?"),
    ],
)
def test_a_name_that_nothing_has_is_told_the_nearest_of_those_that_are_kept(
    harness, stored, name, told
):
    for _ in range(2):
        found = harness("show", name)
        assert found.code == 2
        assert told in found.err


def test_a_defense_that_cannot_be_composed_is_refused_every_time(harness):
    refused = harness("show", "free_at+ra")
    assert refused.code == 2
    assert "harness: " in refused.err
    assert harness("show", "free_at+ra") == refused


def test_what_is_kept_is_not_computed_again(kept):
    counted = Counted()
    assert counted.asked() == CONTENT
    assert counted.times == 0


DAMAGES = {
    "nothing in it": lambda content: b"",
    "cut short": lambda content: content[:-3],
    "one digit changed": lambda content: content.replace(b"0.1", b"0.2"),
    "no seal": lambda content: content.partition(b"\n")[2],
    "another seal": lambda content: b"0" * 64 + content[64:],
    "bytes of something else": lambda content: bytes(range(256)) * 40,
    "nested without end": lambda content: sealed(b"[" * 1_000_000),
    "no JSON behind the seal": lambda content: sealed(b"{'rows': 1}"),
}


def sealed(body: bytes) -> bytes:
    """What only somebody who knows the sources can write."""
    sources = catalogue_cache._sources()
    return hashlib.sha256(sources + body).hexdigest().encode() + b"\n" + body


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_computed_anew_and_mended(kept, damage):
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    counted = Counted()

    assert counted.asked() == CONTENT
    assert counted.times == 1
    assert kept.read_bytes() == good


def test_content_of_another_shape_is_computed_anew(kept):
    kept.write_bytes(sealed(b'{"columns": 3}'))
    counted = Counted()
    assert counted.asked(lambda found: "rows" in found) == CONTENT
    assert counted.times == 1


def test_a_file_too_large_to_be_a_listing_is_not_read(kept, monkeypatch):
    monkeypatch.setattr(catalogue_cache, "_LARGEST", 10)
    counted = Counted()
    assert counted.asked() == CONTENT
    assert counted.times == 1


CHANGES = {
    "a line": lambda folder: (folder / "__init__.py").write_text("one = 2\n"),
    "a table": lambda folder: (folder / "inner" / "table.csv").write_text("a,c\n"),
    "a file more": lambda folder: (folder / "new.py").touch(),
    "a file less": lambda folder: (folder / "inner" / "table.csv").unlink(),
    "another name": lambda folder: (folder / "inner").rename(folder / "outer"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_the_sources_is_seen(kept, package, change):
    change(package)
    counted = Counted()
    counted.asked()
    counted.asked()
    assert counted.times == 1


def test_what_python_compiles_is_no_change(kept, package):
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "table.cpython-311.pyc").touch()
    counted = Counted()
    counted.asked()
    assert counted.times == 0


def test_a_source_that_changes_while_it_is_imported_is_not_remembered(package):
    counted = Counted()

    def edited() -> object:
        (package / "__init__.py").write_text(f"one = {counted.times + 2}\n")
        return counted()

    for _ in range(2):
        remembered("list something", edited, lambda _: True)
    assert counted.times == 2


def test_plugins_count_with_name_version_and_source(kept, package, monkeypatch):
    plugin = package.parent / "plugged.py"
    plugin.write_text("one = 1\n")
    for version in ("1", "2"):
        point = ("robust_harness.defenses", "mine", "plugged:entry", version)
        monkeypatch.setattr(catalogue_cache, "_plugins", lambda point=point: [point])
        importlib.invalidate_caches()
        counted = Counted()
        counted.asked()
        assert counted.times == 1
    plugin.write_text("one = 2\n")
    counted = Counted()
    counted.asked()
    assert counted.times == 1
    assert "plugged" not in sys.modules


def test_a_plugin_that_is_not_there_stops_nothing(package, monkeypatch):
    point = ("robust_harness.defenses", "mine", "gone.away:entry", "1")
    monkeypatch.setattr(catalogue_cache, "_plugins", lambda: [point])
    assert Counted().asked() == CONTENT


def test_where_nothing_can_be_kept_it_is_computed_every_time(package, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    counted = Counted()
    assert [counted.asked(), counted.asked()] == [CONTENT, CONTENT]
    assert counted.times == 2


def test_a_folder_in_the_place_of_the_file_stops_nothing(kept):
    kept.unlink()
    kept.mkdir()
    assert Counted().asked() == CONTENT


def test_a_writer_that_never_ends_stops_nobody(kept):
    kept.unlink()
    with lock_file(draft_of(kept), wait=False):
        assert Counted().asked() == CONTENT
    assert not kept.exists()


def test_a_folder_that_is_not_absolute_is_not_used(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Counted().asked() == CONTENT
    assert not Path("relative").exists()


def test_a_person_without_a_home_has_no_cache(package, monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert Counted().asked() == CONTENT


def test_what_computing_raises_is_raised_and_nothing_kept(package, tmp_path):
    def broken() -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        remembered("list something", broken, lambda _: True)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("columns", "cells", "fits"),
    [
        (["a", "b"], [["1", "2"]], True),
        ([], [], True),
        (["a", "b"], [["1"]], False),
        (["a"], [[1]], False),
        (["a"], "b", False),
        (None, [], False),
    ],
)
def test_a_grid_is_texts_as_many_as_heads(columns, cells, fits):
    assert is_grid(columns, cells) is fits
