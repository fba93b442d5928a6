"""`harness diagnose`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.campaign import Subjects
    from harness.identity import CheckpointRecord, Failure, Finding
    from harness.store.store import Store
    from harness.threat import ThreatModel

POSITIVE = click.IntRange(min=1)


@click.command("diagnose")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every stored checkpoint.")
@click.option("--only", metavar="D01,I3", help="Only these diagnostics. Default: all.")
@click.option("--dataset", metavar="D", help="Test on D; with --all, only its checkpoints.")
@options.DATA_DIR
@click.option(
    "--examples",
    type=POSITIVE,
    default=1000,
    metavar="N",
    help="Look at up to 500 correct and all wrong of the first N. Default: 1000.",
)
@options.NORM
@options.EPSILON
@click.option("--seed", type=options.SEED, default=0, metavar="N", help="Default: 0.")
@click.option("--workers", type=POSITIVE, metavar="N", help="Default: one per processor.")
@options.JSON
@options.NO_DOWNLOAD
@options.everywhere
@click.pass_context
def diagnose(context: click.Context, /, **given: Any) -> None:
    """Look for masked gradients and failed attacks; NAME is a checkpoint, or a defense.

    What is stored is not run again, unless the adaptive protocol has been completed since.
    """
    from harness.campaign.diagnosis import findings_of

    options.speak(quiet=given["quiet"], verbose=given["verbose"])
    with options.open_store(given["db"], create=False) as store:
        groups = _groups(store, given)
        device = options.chosen_device(given["device"])
        with options.logged(store, "diagnose", device=device, seed=given["seed"]):
            failures = {
                failure.checkpoint: failure
                for group, threat in groups
                for failure in _run(store, group, threat, given)
            }
        found = [
            (record, findings_of(store, group, record, threat))
            for group, threat in groups
            for record in group.records
        ]
    if given["as_json"]:
        entries = [_to_json(*pair, failures.get(pair[0].digest), given["only"]) for pair in found]
        click.echo(json.dumps(entries, indent=2))
    elif not given["quiet"]:
        for record, findings in found:
            _print(record, findings, given["only"])
    for record, _ in found:
        failure = failures.get(record.digest)
        if failure:
            click.echo(f"{record.name} failed ({failure.status}): {failure.message}", err=True)
    if failures:
        context.exit(1)


def _groups(store: Store, given: dict[str, Any]) -> list[tuple[Subjects, ThreatModel]]:
    """Checkpoints by dataset, everything checked before anything runs."""
    from harness.campaign.diagnosis import check_ids
    from harness.cli.evaluate import groups_of

    check_ids(_ids(given["only"]))
    return groups_of(store, given)


def _run(
    store: Store, group: Subjects, threat: ThreatModel, given: dict[str, Any]
) -> list[Failure]:
    from harness.campaign.diagnosis import diagnose_all
    from harness.cli.progress import CampaignDisplay, Display

    runtime = options.chosen_runtime(given)
    command = f"diagnose, {threat}, {len(group.records)} checkpoints"
    provenance = options.provenance(command, runtime.device)
    with Display(quiet=given["quiet"]) as display, options.models_print_to_stderr():
        report = CampaignDisplay(display)
        failures = diagnose_all(
            store,
            group,
            threat=threat,
            examples=given["examples"],
            runtime=runtime,
            wanted=_ids(given["only"]),
            seed=given["seed"],
            provenance=provenance,
            report=report,
        )
        if report.pieces == 0:
            display.line(f"{group.label}: nothing to do, all of it is stored.")
    return failures


def _chosen(findings: Sequence[Finding], only: str | None) -> list[Finding]:
    wanted = set(_ids(only))
    return [one for one in findings if not wanted or one.diagnostic in wanted]


def _ids(only: str | None) -> list[str]:
    if only is None:
        return []
    found = [piece.strip().upper() for piece in only.split(",") if piece.strip()]
    if not found:
        raise HarnessError("--only names no diagnostic: write for instance --only D01,D10.")
    return list(dict.fromkeys(found))


def _to_json(
    record: CheckpointRecord,
    findings: Sequence[Finding],
    failure: Failure | None,
    only: str | None,
) -> dict[str, Any]:
    from harness.standings import finding_json
    from harness.standings.levels import verdict

    return {
        "name": record.name,
        "status": failure.status if failure else "ok",
        **({"message": failure.message} if failure else {}),
        "verdict": str(verdict(findings)),
        "diagnostics": [finding_json(finding) for finding in _chosen(findings, only)],
    }


def _print(record: CheckpointRecord, findings: Sequence[Finding], only: str | None) -> None:
    from harness.cli.tables import findings_table
    from harness.diagnostics.diagnostic import DIAGNOSTICS
    from harness.standings.levels import verdict

    titles = {identity: DIAGNOSTICS[identity].title for identity in DIAGNOSTICS}
    findings_table(f"\n{record.name}: {verdict(findings)}", _chosen(findings, only), titles)
