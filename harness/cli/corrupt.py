"""`harness corrupt`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.evaluate import POSITIVE, chosen, execute, subjects_of

if TYPE_CHECKING:
    from harness.campaign import Subjects
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
@options.CORRUPTED_DIR
@click.option("--examples", type=POSITIVE, default=1000, metavar="N", help="Default: 1000.")
@click.option("--batch-size", type=POSITIVE, default=100, metavar="N", help="Default: 100.")
@click.option("--workers", type=POSITIVE, metavar="N", help="Default: one per processor.")
@options.TIME_LIMIT
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
        device = options.chosen_device(given["device"])
        with options.logged(store, "corrupt", device=device):
            failures = execute(campaigns, quiet=given["quiet"])
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
    groups = subjects_of(store, chosen(store, given), given)
    return [_campaign(store, given, request, subjects) for subjects in groups]


def _campaign(
    store: Store, given: dict[str, Any], request: CorruptionRequest, subjects: Subjects
) -> CorruptionCampaign:
    from harness.campaign.corruptions import CorruptionCampaign

    runtime = options.chosen_runtime(given)
    cells = len(request.corruptions) * len(request.severities)
    command = f"corrupt {cells} cells, {len(subjects.records)} checkpoints"
    provenance = options.provenance(command, runtime.device)
    return CorruptionCampaign(store, subjects, request, runtime, provenance)


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
            corruptions_table(campaign.dataset, rows)
            for row in rows:
                cells_table(row)
    for _, record, found in standings:
        if found is None:
            failure = failures[record.digest]
            where = f"{failure.attack} at severity {failure.threat.epsilon}"
            click.echo(
                f"{record.name} failed ({failure.status}), {where}: {failure.message}", err=True
            )
