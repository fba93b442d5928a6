"""Which commands keep a log, where it lies, and what it says of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.store.store import Store

ONE = ("--workers", 1, "-q")


def _logs(command: str = "*") -> list[list[dict]]:
    files = sorted(Path("logs").glob(f"*-{command}-*.jsonl"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def _events(lines: list[dict]) -> list[str]:
    return [line["event"] for line in lines]


@pytest.fixture
def bare(small: Path) -> Path:
    """The small database without the logs of the runs that made it."""
    for file in Path("logs").iterdir():
        file.unlink()
    return small


def test_an_evaluation_says_how_it_was_made_and_every_job_that_it_did(bare, harness):
    command = ("eval", "plain", "--attacks", "mim", "--examples", 20, "--seed", 5, *ONE)
    assert harness(*command).code == 0
    (lines,) = _logs("eval")
    started = lines[0]

    assert started["line"][1:4] == ["eval", "plain", "--attacks"]
    assert started["seed"] == 5
    assert started["versions"].keys() >= {"harness", "python", "torch", "numpy"}
    assert started["threads"] >= 1
    assert started["device"].startswith("cpu")
    done = [line for line in lines if line["event"] == "job done"]
    with Store.open(read_only=True) as store:
        digest = store.checkpoint("plain").digest
    assert [line["attack"] for line in done] == ["none@logits:none", "mim@logits:ce"]
    assert {(line["checkpoint"], line["first"], line["last"]) for line in done} == {(digest, 0, 20)}
    assert all(line["seconds"] >= 0 for line in done)
    assert (lines[-1]["event"], lines[-1]["exception"]) == ("ended", None)


def test_a_training_says_every_epoch_and_what_came_of_it(bare, harness):
    thin = ("--epochs", 2, "--set", "width=8", "--set", "inner_steps=1", "--name", "other")
    assert harness("train", "trades", "--dataset", "digits", *thin, "-q").code == 0
    (lines,) = _logs("train")

    assert _events(lines) == ["started", "planned", "epoch done", "epoch done", "trained", "ended"]
    with Store.open(read_only=True) as store:
        assert lines[-2]["checkpoint"] == store.checkpoint("other").digest


def test_a_failure_is_logged_with_its_status(bare, harness, add):
    add("broken", "failing")
    assert harness("eval", "broken", "--attacks", "fgsm", "--examples", 5, *ONE).code == 1
    (lines,) = _logs("eval")
    (failed,) = (line for line in lines if line["event"] == "failed")

    assert failed["status"] == "raised"
    assert "out of order" in failed["message"]
    assert _logs("add")[0][1]["event"] == "added"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("diagnose", "--only", "D01", "--examples", 10), "piece done"),
        (("search", "--budget", 100, "--examples", 10), "searched"),
        (("analyse", "--analysis", "angular_margins", "--examples", 10), "piece done"),
        (
            ("corrupt", "--corruptions", "brightness", "--severities", 1, "--examples", 5),
            "job done",
        ),
    ],
)
def test_other_commands_that_write_keep_a_log_too(bare, harness, command, expected):
    name, *rest = command
    found = harness(name, "plain", *rest, *ONE)
    assert found.code == 0, found.err
    (lines,) = _logs(name)

    assert expected in _events(lines)
    assert _events(lines)[-1] == "ended"


@pytest.mark.parametrize(
    "command",
    [
        ("show", "plain"),
        ("list", "checkpoints"),
        ("verify", "plain", "--sample", 1, *ONE),
        ("results", "verify"),
        ("eval", "plain", "--dry-run"),
    ],
)
def test_commands_that_write_nothing_keep_none(bare, harness, command):
    assert harness(*command).code == 0
    assert _logs() == []


def test_an_interruption_is_the_last_line(bare, harness, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.campaign.campaign.do", interrupt)
    assert harness("eval", "plain", "--attacks", "mim", "--examples", 5, *ONE).code == 130
    (lines,) = _logs("eval")

    assert (lines[-1]["event"], lines[-1]["exception"]) == ("ended", "KeyboardInterrupt")


def test_a_log_that_cannot_be_written_never_stops_a_run(bare, harness):
    Path("logs").rmdir()
    Path("logs").write_text("a file in the way")
    found = harness("eval", "plain", "--attacks", "mim", "--examples", 5, *ONE)

    assert found.code == 0
    assert found.err.count("cannot be written") == 1
