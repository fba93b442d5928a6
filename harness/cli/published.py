"""`make results`: the project's own results, from nothing; what is there is not done again.

Every number of the finished `results.db` comes from a command that a reader can type. This program
types them, in a database of its own that survives a kill, and finishes that database at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from harness.errors import HarnessError

EXAMPLES = 100
"""Digits that each defense is attacked on: the first of the 500 test images."""

THIN = (
    *("standard", "fast_at", "pgd_at", "trades"),
    *("trades_ra", "trades_ancra", "pgd_at_he", "trades_frpat"),
)
"""Defenses trained on CIFAR-10 where there is no GPU: ResNet-18 of width 16, 10 epochs, 3 inner
steps, bfloat16."""

THIN_EXAMPLES = 200
"""CIFAR-10 images that they are attacked on."""

SEEDS = (0, 1, 2)

Command = tuple[str, ...]


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/results"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("results.db"))
@click.option("--table", type=click.Path(path_type=Path), default=Path("docs/results.md"))
@click.option("--only", multiple=True, type=click.Choice(["digits", "cifar10"]))
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--finish/--no-finish", default=True, help="Write --out and --table at the end.")
def published(
    work: Path, out: Path, table: Path, only: tuple[str, ...], workers: int, finish: bool
) -> None:
    """Make the project's results and finish them as one file."""
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    database = work / "results.db"
    stages = {"digits": _digits, "cifar10": _cifar10}
    _add_claims(database)
    failed: list[Command] = []
    for name in only or tuple(stages):
        for commands, at_once in stages[name](workers):
            failed += _run(commands, database, at_once)
    minutes = (time.monotonic() - started) / 60
    click.echo(f"this call took {minutes:.0f} minutes")
    for command in failed:
        click.echo(f"failed: harness {' '.join(command)}", err=True)
    if finish:
        _finish(database, out, table)
    if failed:
        raise SystemExit(1)


Stage = Iterable[tuple[Sequence[Command], int]]
"""Commands that may run at the same time, and how many of them at once."""


def _digits(workers: int) -> Stage:
    """Every defense: seed 0 under everything, seeds 1 and 2 without queries and diagnostics."""
    from harness.catalogue import DEFENSES

    names = {
        seed: [f"{defense}-digits-small_resnet-smoke-s{seed}" for defense in DEFENSES]
        for seed in SEEDS
    }
    train = [
        ("train", defense, "--dataset", "digits", "--seed", str(seed), "-q")
        for seed in SEEDS
        for defense in DEFENSES
    ]
    yield train, workers
    common = ("--examples", str(EXAMPLES), "--workers", "1", "-q")
    yield [("eval", name, "--adaptive", *common) for name in names[0]], workers
    further = [name for seed in SEEDS[1:] for name in names[seed]]
    reduced = ("--protocol", "adaptive_gradient")
    yield [("eval", name, *reduced, *common) for name in further], workers
    yield [("diagnose", name, *common) for name in names[0]], workers
    yield [("analyse", name, "--examples", "500", "-q") for name in names[0]], workers


def _cifar10(workers: int) -> Stage:
    """Thin networks, each under the adaptive protocol."""
    settings = ("--scale", "smoke", "--epochs", "10", "--set", "precision=bfloat16", "-q")
    yield [("train", defense, "--dataset", "cifar10", *settings) for defense in THIN], workers
    common = ("--examples", str(THIN_EXAMPLES), "--workers", str(workers))
    for defense in THIN:
        name = f"{defense}-cifar10-resnet18-smoke-s0"
        yield [("eval", name, "--adaptive", *common, "-q")], 1


def _run(commands: Sequence[Command], database: Path, at_once: int) -> list[Command]:
    """Run commands; which of them failed."""
    environment = {**os.environ, "HARNESS_DB": str(database.resolve()), "OMP_NUM_THREADS": "1"}

    def run(command: Command) -> Command | None:
        call = [str(Path(sys.executable).with_name("harness")), *command]
        started = time.monotonic()
        code = subprocess.run(call, env=environment, stdout=subprocess.DEVNULL, check=False)
        seconds = time.monotonic() - started
        click.echo(f"{seconds:7.0f} s  harness {' '.join(command)}"[:160])
        return command if code.returncode else None

    with ThreadPoolExecutor(at_once) as executor:
        return [one for one in executor.map(run, commands) if one is not None]


def _add_claims(database: Path) -> None:
    from harness.claims import claims
    from harness.store.store import Store

    with Store.open(database) as store:
        click.echo(f"{store.add_claims(claims())} new claims of {len(claims())}")


def _finish(database: Path, out: Path, table: Path) -> None:
    from harness.cli.results_page import results_page
    from harness.store.finished import finish, is_finished
    from harness.store.store import Store

    if out.exists() and not is_finished(out):
        raise HarnessError(
            f"{out} is there and was not made by this program: move it away or give --out."
        )
    finish(database, out)
    with Store.open(out, create=False, read_only=True) as store:
        table.write_text(results_page(store), encoding="utf-8")
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; {table}")


if __name__ == "__main__":
    published()
