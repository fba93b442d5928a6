"""`harness` commands in processes of their own, started by the dozen; run as a program.

Importing PyTorch takes longer than what is tested here. So this program imports everything first
and runs nothing; each command is then a fork of it that calls `harness.cli.main`. That is a process
like any other: a process group of its own, its own memory, its own connections and
locks, an exit code or a signal that ended it. SIGKILL ends it wherever it is, no handler and no
`finally` runs, and whatever was not on the disk is lost. Workers of an evaluation are forks too, in
the group of their command.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

_MOST = 60

LIMIT = 300.0
"""Seconds after which a command hangs."""


class Commands:
    """This program, from a test: `commands(do="together", ...)` is what that function returns."""

    def __init__(self) -> None:
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        self._program = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def __call__(self, **values: Any) -> Any:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        print(json.dumps(values, default=str), file=self._program.stdin, flush=True)
        answer = self._program.stdout.readline()
        assert answer, "the program has failed: its stderr says why"
        return json.loads(answer)

    def close(self) -> None:
        """End it, by telling it that nothing more is wanted."""
        self._program.communicate(timeout=60)


def together(folder: str, database: str, commands: list[list[str]]) -> list[dict[str, Any]]:
    """Run commands at once; exit code, stdout and stderr of each."""
    children = [
        start(command, Path(folder), database, log=str(number))
        for number, command in enumerate(commands)
    ]
    return [wait(child, Path(folder), str(number)) for number, child in enumerate(children)]


def killed(folder: str, commands: list[list[str]], kills: int, seed: int) -> dict[str, Any]:
    """Run commands one after the other, undisturbed and elsewhere with kills at random moments.

    Each command is killed equally often and started again each time, and at the end left alone.
    The moments lie in its first two thirds, so that it does not end before it was met half way;
    one that never was is killed some more. Which kills met a command half way: one that had left
    the state of a training, or some of its outcomes.
    """
    quiet, loud = Path(folder, "undisturbed"), Path(folder, "killed")
    draws, counted, met = random.Random(seed), 0, []  # noqa: S311 - moments, not secrets
    for number, command in enumerate(commands):
        before, whole = outcomes(quiet), seconds(command, quiet)
        after, halfway, real = outcomes(quiet), 0, 0
        share = kills // len(commands) + (number < kills % len(commands))
        for _ in range(_MOST):
            if real >= share and halfway:
                break
            child = start(command, loud, str(loud / "results.db"), log="killed")
            time.sleep(draws.uniform(0, whole * 2 / 3))
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            wait_for_the_end(child)
            real += os.WIFSIGNALED(status)
            has_state = any(loud.glob("checkpoints/unfinished-*.pt"))
            halfway += has_state or before < outcomes(loud) < after
        counted += real
        met.append(halfway)
        seconds(command, loud)
    return {"kills": counted, "met": met}


def seconds(command: list[str], folder: Path) -> float:
    """How long a command takes that must end well."""
    started = time.monotonic()
    (done,) = together(str(folder), str(folder / "results.db"), [command])
    assert done["code"] == 0, done
    return time.monotonic() - started


def outcomes(folder: Path) -> int:
    """How many are stored."""
    if not (folder / "results.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "results.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with suppress(sqlite3.OperationalError):  # killed before the tables were there
            return int(connection.execute("SELECT count(*) FROM outcome").fetchone()[0])
    return 0


def start(command: list[str], folder: Path, database: str, *, log: str) -> int:
    """Start a command in a process group of its own; its process id."""
    folder.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        with suppress(OSError):  # the child may have been faster, or have ended
            os.setpgid(child, child)
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        for descriptor, kind in ((1, "out"), (2, "err")):
            file = os.open(f"{folder}.{log}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.pop("HARNESS_CHECKPOINTS", None)
        os.environ["HARNESS_DB"] = database
        sys.argv = ["harness", *command]
        from harness.cli import main

        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, folder: Path, log: str) -> dict[str, Any]:
    """What a command left; one that hangs is killed and has no exit code."""
    deadline = time.monotonic() + LIMIT
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    wait_for_the_end(child)
    said = {kind: Path(f"{folder}.{log}.{kind}").read_text() for kind in ("out", "err")}
    return {"code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None, **said}


def wait_for_the_end(group: int) -> None:
    """Wait until no process of a group is left."""
    deadline = time.monotonic() + 30
    while living(group):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {living(group)} outlive their command")
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


def import_everything() -> None:
    """What commands would import later, so that forks have it."""
    import alembic.command
    import sklearn.datasets
    import torch

    for name in ("cli", "cli.progress", "campaign", "evaluation.work", "training.checkpoint"):
        importlib.import_module(f"harness.{name}")
    for name in ("harness.training.loop", "harness.standings", "leaderboard.site", "psycopg"):
        importlib.import_module(name)
    del alembic
    sklearn.datasets.load_digits()
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first one imports for seconds
    torch.set_num_threads(1)


if __name__ == "__main__":
    import_everything()
    fork = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda *_: fork
    for line in sys.stdin:
        wanted = json.loads(line)
        print(json.dumps(globals()[wanted.pop("do")](**wanted)), flush=True)
