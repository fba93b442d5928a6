"""`python -m benchmarks.memory`: the most memory that an evaluation takes, in a process of its own.

A few images and all of them, so that one sees what grows with their number.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import click

from benchmarks.setting import MODEL, made
from harness.cli.options import checkpoint_folder
from harness.errors import HarnessError
from harness.store.store import Store

LIMIT = 1.5 * 1000**3
"""Bytes within which all test images of CIFAR-10 are to be evaluated."""

ATTACK = "pgd(steps=3)"
FEW = 100
_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what the system counts the resident set by."""


@click.command()
@click.option("--images", type=click.IntRange(1, 10_000), default=10_000, show_default=True)
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--model", default=MODEL, show_default=True, help="A stored checkpoint.")
@click.option("--db", type=click.Path(path_type=Path), help="The database it is in.")
@click.pass_context
def main(context: click.Context, /, images: int, threads: int, model: str, db: Path | None) -> None:
    """Evaluate one attack in one process; ends with 1 if it took more than 1.5 GB."""
    source = db or made()
    peaks = {count: peak_of(model, source, count, threads) for count in sorted({FEW, images})}
    for count, peak in peaks.items():
        click.echo(f"{ATTACK} on {count:,} images: {peak / 1000**3:.2f} GB at the peak")
    if max(peaks.values()) > LIMIT:
        context.exit(1)


def peak_of(model: str, source: Path, images: int, threads: int) -> int:
    """Bytes of the largest resident set of `harness eval`, on a copy of the database.

    Raises:
        HarnessError: the evaluation failed.
    """
    with Store.open(str(source), create=False, read_only=True) as store:
        weights = checkpoint_folder(store)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy.db"
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(copy)) as new:
            old.backup(new)
        words = ("eval", model, "--attack", ATTACK, "--examples", str(images), "--workers", "1")
        command = [sys.executable, "-c", "from harness.cli import main; main()", *words]
        environment = os.environ | {
            "HARNESS_DB": str(copy),
            "HARNESS_CHECKPOINTS": str(weights),
            "OMP_NUM_THREADS": str(threads),
        }
        process = subprocess.Popen(
            [*command, "--device", "cpu", "-q"], env=environment, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise HarnessError(f"harness {' '.join(words)} ended with {process.returncode}.")
    return usage.ru_maxrss * _UNIT


if __name__ == "__main__":
    main()
