"""`harness demo`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.cli.progress import Display
    from harness.identity import CheckpointRecord
    from harness.standings import Board
    from harness.store.store import Store

DEFENSES = ("standard", "pgd_at", "trades", "trades_he", "trades_frpat", "trades_ancra")
EXAMPLES = 200


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; default: processors.")
@partial(options.everywhere, db="Default: results.db in --out.")
@click.pass_context
def demo(
    context: click.Context,
    /,
    out: Path,
    workers: int | None,
    db: str | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Do everything once on scikit-learn's digits: train, attack, store, render.

    Six defenses, the protocol adaptive_quick on 200 test images, a site; minutes on a CPU.
    Database, weights and site go into --out; what is there already is not done again.
    """
    from harness.cli.progress import Display
    from harness.executors.local import processors
    from harness.standings import boards
    from leaderboard.gathering import gather
    from leaderboard.site import build

    options.speak(quiet=quiet, verbose=verbose)
    options.make_folder(out)
    count = workers or processors()
    chosen = options.chosen_device(device)
    with (
        options.open_store(db or str(out / "results.db")) as store,
        Display(quiet=quiet) as display,
    ):
        folder = options.checkpoint_folder(store)
        _train(store, folder, chosen, count, display)
        failed = _evaluate(store, folder, chosen, count, display)
        found = boards(store)
        page = build(gather(store), out / "site").index
    _print(found)
    click.echo(f"\nThe leaderboard: {page}")
    if failed:
        context.exit(1)


def _checkpoints(store: Store) -> list[CheckpointRecord]:
    """The demo's own; a database given with --db may hold the same defenses on other data."""
    return [r for r in store.checkpoints() if r.defense in DEFENSES and r.dataset == "digits"]


def _train(store: Store, folder: Path, device: str, workers: int, display: Display) -> None:
    from harness.executors.local import LocalExecutor
    from harness.training.work import TrainingWork, do

    stored = {record.defense for record in _checkpoints(store)}
    work = [
        TrainingWork(defense, "digits", folder, "smoke", device=device)
        for defense in reversed(DEFENSES)  # the longest first
        if defense not in stored
    ]
    if not work:
        return
    display.line(f"training {len(work)} defenses on digits")
    run = store.start_run(
        "demo: train", versions=options.versions(), device=options.device_name(device)
    )
    with LocalExecutor(workers) as executor:
        for number, record in enumerate(executor.map(do, work)):
            store.add_checkpoint(record)
            display.line(f"  {record.defense} trained in {record.training['seconds']} s")
            display.advance("training", number + 1, len(work))
    store.finish_run(run)


def _evaluate(store: Store, folder: Path, device: str, workers: int, display: Display) -> int:
    """Attack them; how many jobs failed."""
    from harness.campaign import Campaign, EvaluationRequest, Provenance, Subjects
    from harness.cli.progress import CampaignDisplay
    from harness.data import dataset, load
    from harness.identity import Runtime
    from harness.protocols import protocol_named

    known = dataset("digits")
    records = _checkpoints(store)
    subjects = Subjects(records, known, load("digits", "test"), None, folder)
    provenance = Provenance("demo: eval", options.versions(), options.device_name(device))
    failed = 0
    for name in ("standard_quick", "adaptive_quick"):
        display.line(f"attacking {len(records)} checkpoints: {name}, {EXAMPLES} images each")
        request = EvaluationRequest.of(protocol_named(name), EXAMPLES, known.threat)
        campaign = Campaign(store, subjects, request, Runtime(device, workers=workers), provenance)
        for failure in campaign.execute(CampaignDisplay(display)):
            display.line(f"failed ({failure.status}): {failure.attack}: {failure.message}")
            failed += 1
    return failed


def _print(found: Sequence[Board]) -> None:
    from harness.cli.tables import demo_table

    for board in found:
        demo_table(board)
