"""A command that is killed or interrupted leaves no process and a whole database; repeat it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from harness.store.store import Store

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

SLOWLY = """
import time
from harness.cli import main
from harness.training.loop import Training

step = Training.step
Training.step = lambda *rest: (time.sleep(0.05), step(*rest))[1]
main()
"""
TRAIN = [
    *("train", "trades_ancra", "--dataset", "digits", "--name", "run", "--epochs", "4"),
    *("--set", "width=4", "--set", "inner_steps=1"),
]
EVAL = ["eval", "gated", "--attack", "pgd(steps=100)", "--examples", "150", "--workers", "2"]


@contextmanager
def running(
    code: str, arguments: list[str], environment: dict[str, str]
) -> Iterator[subprocess.Popen]:
    """A command in a process group of its own; whatever it leaves is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def living(group: int) -> list[int]:
    """Processes of a group that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(folder.name))
    return found


def outcomes(database: Path) -> list[tuple]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT id, created, seconds FROM outcome").fetchall()


def weights(database: Path) -> str:
    with Store.open(database, read_only=True) as store:
        return store.checkpoint("run").weights_sha256


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_training_goes_on_and_ends_with_the_very_same_weights(
    home, outside, harness, how
):
    with running(SLOWLY, TRAIN, outside) as process:
        wait_until(lambda: [*home.glob("checkpoints/unfinished-*.pt")] or process.poll())
        os.killpg(process.pid, how)
        _, err = process.communicate(timeout=30)
    assert process.returncode == (-how if how == signal.SIGKILL else 130)
    assert "Traceback" not in err
    assert "epoch 4/4" not in err

    resumed = harness(*TRAIN)
    undisturbed = harness(*TRAIN, "--db", "other.db")

    assert (resumed.code, undisturbed.code) == (0, 0)
    assert "goes on after" in resumed.err
    assert "goes on after" not in undisturbed.err
    assert weights(home / "results.db") == weights(home / "other.db")
    assert not [*home.glob("checkpoints/unfinished-*.pt")]


def test_ctrl_c_stops_an_evaluation_with_its_workers_and_the_same_line_ends_it(
    stored, outside, harness
):
    database = stored / "results.db"
    before = len(outcomes(database))
    with running("from harness.cli import main; main()", EVAL, outside) as process:
        wait_until(lambda: len(outcomes(database)) >= before + 2 or process.poll())  # clean ones
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=30)
        wait_until(lambda: not living(process.pid))
    kept = outcomes(database)

    assert process.returncode == 130
    assert out == ""
    assert err.strip().startswith("harness: interrupted.")
    assert len(err.strip().splitlines()) == 1
    done = harness(*EVAL[:-1], "1", "--json")
    assert done.code == 0
    assert done.json()[0]["examples"] == 150
    assert outcomes(database)[: len(kept)] == kept


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_do_not_outlive_a_command_that_was_killed(stored, outside, how):
    before = len(outcomes(stored / "results.db"))
    with running("from harness.cli import main; main()", EVAL, outside) as process:
        wait_until(lambda: len(outcomes(stored / "results.db")) >= before + 2 or process.poll())
        assert len(living(process.pid)) > 2
        process.send_signal(how)
        process.wait()
        wait_until(lambda: not living(process.pid))
