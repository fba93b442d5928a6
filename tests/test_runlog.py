"""The log of a run: what its lines hold, hide and survive."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runlog import EVENTS, event, run_log


def _lines(folder: Path) -> list[dict]:
    (file,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def test_a_log_begins_with_how_the_run_was_made_and_ends_with_how_it_ended(tmp_path):
    with run_log(tmp_path / "logs", "eval", seed=3):
        event("job done", attack="pgd", seconds=1.5)
    started, done, ended = _lines(tmp_path / "logs")

    assert (started["event"], started["command"], started["seed"]) == ("started", "eval", 3)
    assert (done["event"], done["attack"], done["seconds"]) == ("job done", "pgd", 1.5)
    assert (ended["event"], ended["exception"]) == ("ended", None)
    assert all(line["time"].endswith("+00:00") for line in (started, done, ended))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_is_logged_by_its_kind_and_goes_on(tmp_path, error):
    with pytest.raises(error), run_log(tmp_path, "eval"):
        raise error("too bad")
    last = _lines(tmp_path)[-1]

    assert (last["event"], last["exception"]) == ("ended", error.__name__)
    assert last["message"] == "too bad"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@host/name",
        "postgresql+psycopg://me:hunter2@host",
        "postgresql://host/name?password=hunter2",
        "postgresql://:hunter2/9@host",
        "cannot connect to 'postgresql://me:a@hunter2@host/name'",
        "PASSWORD=hunter2",
    ],
)
def test_no_password_reaches_the_file(tmp_path, text):
    with contextlib.suppress(OSError), run_log(tmp_path, "eval", line=[text]):
        event("said", deep={"list": [text]})
        raise OSError(text)

    (file,) = tmp_path.glob("*.jsonl")
    assert "hunter2" not in file.read_text()
    assert file.read_text().count("***") >= 3


def test_long_texts_and_lists_are_cut_and_no_character_moves_a_cursor(tmp_path):
    with run_log(tmp_path, "eval"):
        event("said", text="a" * 10**6, numbers=list(range(10**5)), name="\x1b[2J\n\u202e")
    line = _lines(tmp_path)[1]
    (file,) = tmp_path.glob("*.jsonl")

    assert len(file.read_bytes()) < 10_000
    assert line["name"] == "\x1b[2J\n\u202e"
    assert b"\x1b" not in file.read_bytes()


def test_every_line_is_strict_json(tmp_path):
    with run_log(tmp_path, "train"):
        event("epoch done", loss=math.nan, path=Path("/x"), other=[math.inf])

    def refuse(name: str) -> None:
        raise AssertionError(name)

    (file,) = tmp_path.glob("*.jsonl")
    for line in file.read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_what_the_library_says_is_in_the_log_too_however_quiet_it_is(tmp_path):
    logger = logging.getLogger("harness")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with run_log(tmp_path, "eval"):
            logging.getLogger("harness.campaign").warning("only %d", 3)
            event("job done")
    finally:
        logger.setLevel(before)
    assert [line["event"] for line in _lines(tmp_path)][1:-1] == ["only 3", "job done"]


def test_a_log_that_cannot_be_written_is_one_warning_and_not_the_end(tmp_path, caplog):
    in_the_way = tmp_path / "logs"
    in_the_way.write_text("a file")

    with caplog.at_level(logging.WARNING, "harness"), run_log(in_the_way, "eval"):
        for _ in range(5):
            event("job done")

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "cannot be written" in said[0]
    assert "going on without" in said[0]


def test_a_full_disk_in_the_middle_is_one_warning_and_not_the_end(tmp_path, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING, "harness"), run_log(tmp_path, "eval"):

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        event("job done")
        monkeypatch.setattr(Path, "open", full)
        event("job done")
        event("job done")

    assert len(caplog.records) == 1
    monkeypatch.undo()
    assert [line["event"] for line in _lines(tmp_path)] == ["started", "job done"]


def test_no_log_is_left_attached(tmp_path):
    before = list(EVENTS.handlers)
    with run_log(tmp_path, "eval"):
        assert len(EVENTS.handlers) == len(before) + 1
    event("after")

    assert EVENTS.handlers == before
    assert len(_lines(tmp_path)) == 2


def test_two_runs_of_one_second_have_a_file_each(tmp_path):
    for _ in range(3):
        with run_log(tmp_path, "eval"):
            pass
    assert len(list(tmp_path.glob("*-eval-*.jsonl"))) == 3


def test_a_killed_run_leaves_every_line_that_it_wrote(tmp_path):
    code = (
        "import sys; from pathlib import Path; from harness.runlog import event, run_log\n"
        "with run_log(Path(sys.argv[1]), 'eval'):\n"
        "    event('job done', number=1)\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        os.kill(running.pid, signal.SIGKILL)

    assert [line["event"] for line in _lines(tmp_path)] == ["started", "job done"]
