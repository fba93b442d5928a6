"""`make results`: the project's own results, from nothing; what is there is not done again.

Every number of the finished `results.db` comes from a command that a reader can type. This program
types them, in a database of its own that survives a kill, and finishes that database at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.executors.local import LocalExecutor

EXAMPLES = 100
"""Test images that each defense is attacked on, the first ones."""

THIN = (
    *("standard", "fast_at", "pgd_at", "trades"),
    *("trades_ra", "trades_ancra", "pgd_at_he", "trades_frpat"),
)
"""Defenses trained on CIFAR-10 where there is no GPU: ResNet-18 of width 16, 10 epochs, 3 inner
steps, bfloat16."""

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
    from harness.executors.local import LocalExecutor

    if finish:
        _check_replaceable(out)
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    database = work / "results.db"
    stages = {"digits": _digits, "cifar10": _cifar10}
    _add_claims(database)
    failed: list[Command] = []
    os.environ["HARNESS_DB"] = str(database.resolve())
    with LocalExecutor(workers) as executor:
        for name in only or tuple(stages):
            for commands in stages[name]():
                failed += _run(commands, executor)
    minutes = (time.monotonic() - started) / 60
    click.echo(f"this call took {minutes:.0f} minutes")
    for command in failed:
        click.echo(f"failed: harness {' '.join(command)}", err=True)
    if failed:
        click.echo("nothing was finished: mend these and run the same command again.", err=True)
        raise SystemExit(1)
    if finish:
        _finish(database, out, table)


Stages = Iterable[Sequence[Command]]
"""Commands that may run at the same time, stage after stage."""


def _digits() -> Stages:
    """Every defense: seed 0 under everything, seeds 1 and 2 without queries and diagnostics.

    All are trained first: a surrogate that came later would be more work for rows that were done.
    """
    from harness.catalogue import DEFENSES

    names = {
        seed: [f"{defense}-digits-small_resnet-smoke-s{seed}" for defense in DEFENSES]
        for seed in SEEDS
    }
    few = ("--examples", str(EXAMPLES), "--workers", "1", "-q")
    for seed in SEEDS:
        settings = ("--dataset", "digits", "--seed", str(seed), "-q")
        yield [("train", defense, *settings) for defense in DEFENSES]
    for seed in SEEDS:
        protocol = "adaptive_gradient" if seed else "adaptive"
        yield [("eval", name, "--protocol", protocol, *few) for name in names[seed]]
    yield [("diagnose", name, *few) for name in names[0]]
    yield [("analyse", name, *few) for name in names[0]]


def _cifar10() -> Stages:
    """Thin networks under the adaptive protocol; one recipe, so that defenses are compared."""
    common = ("--recipe", "H-C10", "--scale", "smoke", "--epochs", "10")
    settings = (*common, "--set", "precision=bfloat16", "-q")
    yield [("train", defense, "--dataset", "cifar10", *settings) for defense in THIN]
    few = ("--examples", str(EXAMPLES), "--workers", "1", "-q")
    names = [f"{defense}-cifar10-resnet18-smoke-s0" for defense in THIN]
    yield [("eval", name, "--adaptive", *few) for name in names]


def _run(commands: Sequence[Command], executor: LocalExecutor) -> list[Command]:
    """Run commands in processes that stay; which of them failed."""
    failed = []
    for typed in executor.map(_type, commands):
        click.echo(f"{typed.seconds:7.1f} s  harness {' '.join(typed.command)}"[:160])
        if typed.message:
            failed.append(typed.command)
            click.echo(f"  {typed.message}", err=True)
    return failed


class Typed(NamedTuple):
    """A command that was run: how long it took, and what went wrong if anything did."""

    command: Command
    seconds: float
    message: str


def _type(command: Command) -> Typed:
    """Run one command in this process; it reads HARNESS_DB like any other."""
    from harness.cli import harness

    started, message = time.monotonic(), ""
    try:
        code = harness.main([*command], prog_name="harness", standalone_mode=False)
        message = f"exit code {code}" if isinstance(code, int) and code else ""
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return Typed(command, time.monotonic() - started, message)


def _add_claims(database: Path) -> None:
    from harness.claims import claims
    from harness.store.store import Store

    with Store.open(database) as store:
        click.echo(f"{store.add_claims(claims())} new claims of {len(claims())}")


def _check_replaceable(out: Path) -> None:
    """Refuse to put the finished file in the place of somebody's own."""
    from harness.store.finished import is_finished

    if out.exists() and not is_finished(out):
        raise HarnessError(
            f"{out} is there and was not made by this program: move it away or give --out."
        )


def _finish(database: Path, out: Path, table: Path) -> None:
    from harness.cli.results_page import results_page
    from harness.models.weights import write_whole
    from harness.store.finished import finish
    from harness.store.store import Store

    _check_replaceable(out)  # hours have passed
    finish(database, out)
    with Store.open(out, create=False, read_only=True) as store:
        write_whole(table, results_page(store).encode())
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; {table}")


def main() -> None:
    """Exit with 0 (done), 1 (some commands failed) or 2 (to be fixed by the person)."""
    try:
        published(standalone_mode=False)
    except (HarnessError, click.ClickException) as error:
        click.echo(f"make results: {error}", err=True)
        raise SystemExit(2) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: the same command goes on from there.", err=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
