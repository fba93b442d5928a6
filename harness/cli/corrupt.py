"""`harness corrupt`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.evaluate import POSITIVE, check_fit, chosen
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.campaign.corruptions import CorruptionCampaign, CorruptionRequest
    from harness.identity import CheckpointRecord, Failure
    from harness.standings.corruptions import CorruptionStanding
    from harness.store.store import Store

Standings = list[tuple["CorruptionCampaign", "CheckpointRecord", "CorruptionStanding | None"]]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every stored checkpoint.")
@click.option("--corruptions", metavar="A,B", help="Default: the 15 that the mean counts.")
@click.option("--severities", metavar="S,T", help="Default: 1,2,3,4,5.")
@click.option("--dataset", metavar="D", help="Test on D; with --all, only its checkpoints.")
@options.DATA_DIR
@click.option(
    "--corrupted-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="CIFAR-10-C's .npy files or ImageNet-C's folders; default: generate.",
)
@click.option("--examples", type=POSITIVE, default=1000, metavar="N", help="Default: 1000.")
@click.option("--batch-size", type=POSITIVE, default=100, metavar="N", help="Default: 100.")
@click.option("--workers", type=POSITIVE, metavar="N", help="Default: one per processor.")
@options.JSON
@options.NO_DOWNLOAD
@options.everywhere
@click.pass_context
def corrupt(context: click.Context, /, **given: Any) -> None:
    """Judge stored checkpoints on corrupted test images.

    Another threat: stored and shown apart, never part of a board or of "all attacks". What is
    stored is not run again. Names: harness list corruptions.
    """
    options.speak(quiet=given["quiet"], verbose=given["verbose"])
    with options.open_store(given["db"], create=False) as store:
        campaigns = _campaigns(store, given)
        failures = _execute(campaigns, quiet=given["quiet"])
        standings: Standings = [
            (campaign, record, None if record.digest in failures else campaign.standing(record))
            for campaign in campaigns
            for record in campaign.subjects.records
        ]
    if given["as_json"]:
        found = [_to_json(record, row, failures) for _, record, row in standings]
        click.echo(json.dumps(found, indent=2))
    else:
        _print(standings, failures, quiet=given["quiet"])
    if failures:
        context.exit(1)


def _campaigns(store: Store, given: dict[str, Any]) -> list[CorruptionCampaign]:
    """One campaign per dataset, everything checked before anything runs."""
    from harness.campaign.corruptions import CorruptionRequest
    from harness.corruptions import chosen_corruptions, chosen_severities

    request = CorruptionRequest(
        chosen_corruptions(given["corruptions"]),
        chosen_severities(given["severities"]),
        given["examples"],
        given["corrupted_dir"],
    )
    by_dataset: dict[str, list[CheckpointRecord]] = {}
    for record in chosen(store, given):
        by_dataset.setdefault(given["dataset"] or record.dataset, []).append(record)
    for option in ("data_dir", "corrupted_dir"):
        if given[option] and len(by_dataset) > 1:
            raise HarnessError(
                f"--{option.replace('_', '-')} fits one dataset but the checkpoints need "
                f"{', '.join(by_dataset)}: choose one with --dataset."
            )
    return [_campaign(store, given, request, *pair) for pair in by_dataset.items()]


def _campaign(
    store: Store,
    given: dict[str, Any],
    request: CorruptionRequest,
    name: str,
    group: list[CheckpointRecord],
) -> CorruptionCampaign:
    from harness.campaign import Provenance, Subjects
    from harness.campaign.corruptions import CorruptionCampaign
    from harness.data import dataset, load
    from harness.executors.local import processors
    from harness.identity import Runtime

    known = dataset(name)
    check_fit(group, known)
    data = load(name, "test", data_dir=given["data_dir"], download=not given["no_download"])
    device = options.chosen_device(given["device"])
    workers = given["workers"] or (processors() if device == "cpu" else 1)
    cells = len(request.corruptions) * len(request.severities)
    return CorruptionCampaign(
        store,
        Subjects(group, known, data, given["data_dir"], options.checkpoint_folder(store)),
        request,
        Runtime(device, given["batch_size"], workers),
        Provenance(
            f"corrupt {cells} cells, {len(group)} checkpoints",
            options.versions(),
            options.device_name(device),
        ),
    )


def _execute(campaigns: list[CorruptionCampaign], *, quiet: bool) -> dict[str, Failure]:
    from harness.cli.progress import CampaignDisplay, Display

    failures: dict[str, Failure] = {}
    with Display(quiet=quiet) as display:
        for campaign in campaigns:
            report = CampaignDisplay(display)
            with options.models_print_to_stderr():
                failed = campaign.execute(report)
            for failure in failed:
                failures.setdefault(failure.checkpoint, failure)
            if report.pieces == 0:
                display.line(f"{campaign.label}: nothing to do, all of it is stored.")
    return failures


def _to_json(
    record: CheckpointRecord, standing: CorruptionStanding | None, failures: dict[str, Failure]
) -> dict[str, Any]:
    from harness.standings.corruptions import corruption_json

    if standing is not None:
        return {"name": record.name, "status": "ok", **corruption_json(standing)}
    failure = failures[record.digest]
    return {"name": record.name, "status": failure.status, "message": failure.message}


def _print(standings: Standings, failures: dict[str, Failure], *, quiet: bool) -> None:
    from harness.cli.tables import cells_table, corruptions_table

    for campaign in dict.fromkeys(campaign for campaign, _, _ in standings):
        rows = [found for owner, _, found in standings if owner is campaign and found]
        if rows and not quiet:
            corruptions_table(campaign.label, rows)
            for row in rows:
                cells_table(row)
    for _, record, found in standings:
        if found is None:
            failure = failures[record.digest]
            where = f"{failure.attack} at severity {failure.threat.epsilon}"
            click.echo(
                f"{record.name} failed ({failure.status}), {where}: {failure.message}", err=True
            )
