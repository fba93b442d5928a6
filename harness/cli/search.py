"""`harness search`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.campaign import Campaign, Subjects
    from harness.evaluation.attack_search import Catch, Hunt
    from harness.identity import AttackSpec, CheckpointRecord, Failure
    from harness.store.store import Store
    from harness.threat import ThreatModel

POSITIVE = click.IntRange(min=1)


@click.command("search")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every stored checkpoint.")
@click.option(
    "--budget",
    type=click.IntRange(min=100),
    default=30_000,
    metavar="N",
    help="Passes per held image, a backward pass counts as two. Default: 30000.",
)
@click.option("--dataset", metavar="D", help="Test on D; with --all, only its checkpoints.")
@options.DATA_DIR
@click.option("--examples", type=POSITIVE, default=1000, metavar="N", help="Default: 1000.")
@options.NORM
@options.EPSILON
@click.option("--seed", type=options.SEED, default=0, metavar="N", help="Default: 0.")
@click.option("--workers", type=POSITIVE, metavar="N", help="Default: one per processor.")
@options.JSON
@options.NO_DOWNLOAD
@options.everywhere
@click.pass_context
def search(context: click.Context, /, **given: Any) -> None:
    """Search over surfaces, losses, step rules and starts; run what wins on the survivors.

    Training images decide what wins, so that no test image does. What is found is stored under
    the protocol search and counts in the headline like every verified attack.
    """
    from harness.cli.evaluate import chosen, subjects_of

    options.speak(quiet=given["quiet"], verbose=given["verbose"])
    with options.open_store(given["db"], create=False) as store:
        groups = subjects_of(store, chosen(store, given), given)
        device = options.chosen_device(given["device"])
        with options.logged(store, "search", device=device, seed=given["seed"]):
            found = [entry for group in groups for entry in _searched(store, group, given)]
    if given["as_json"]:
        click.echo(json.dumps(found, indent=2))
    else:
        for entry in found:
            _print(entry, quiet=given["quiet"])
    if any(entry["status"] != "ok" for entry in found):
        context.exit(1)


def _searched(store: Store, subjects: Subjects, given: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found for each checkpoint, as plain values; the attacks have been run then."""
    from dataclasses import replace

    from harness.identity import Failure

    threat = options.chosen_threat(given["norm"], given["epsilon"], subjects.dataset.threat)
    hunted = _hunt(subjects, threat, given)
    catches = {key: each for key, each in hunted.items() if not isinstance(each, Failure)}
    failures = {key: each for key, each in hunted.items() if isinstance(each, Failure)}
    caught = replace(subjects, records=[r for r in subjects.records if r.digest in catches])
    campaign = _campaign(store, caught, threat, catches, given)
    for failure in _execute(campaign, quiet=given["quiet"]) if catches else []:
        failures.setdefault(failure.checkpoint, failure)
    return [
        _lost(record, failures[record.digest])
        if record.digest in failures
        else _to_json(campaign, record, catches[record.digest])
        for record in subjects.records
    ]


def _hunt(
    subjects: Subjects, threat: ThreatModel, given: dict[str, Any]
) -> dict[str, Catch | Failure]:
    """What was found for each checkpoint, by digest."""
    from harness.cli.progress import CampaignDisplay, Display
    from harness.evaluation.attack_search import Hunt
    from harness.executors.local import LocalExecutor
    from harness.runlog import event

    runtime = options.chosen_runtime(given)
    work = [
        Hunt(
            record,
            subjects.dataset.name,
            subjects.folder,
            subjects.data_dir,
            threat,
            given["seed"],
            given["budget"],
            runtime.device,
        )
        for record in {one.digest: one for one in subjects.records}.values()
    ]
    found: dict[str, Catch | Failure] = {}
    with Display(quiet=given["quiet"]) as display, options.models_print_to_stderr():
        display.line(f"{subjects.label}: searching for attacks on training images")
        report = CampaignDisplay(display)
        report.planned(len(work))
        with LocalExecutor(runtime.workers) as executor:
            for digest, result in executor.map(_named_hunt, work):
                report.done("search", 0.0)
                found[digest] = result
                event("searched", checkpoint=digest, found=type(result).__name__)
    return found


def _named_hunt(work: Hunt) -> tuple[str, Catch | Failure]:
    from harness.evaluation.attack_search import hunt

    return work.record.digest, hunt(work)


def _campaign(
    store: Store,
    subjects: Subjects,
    threat: ThreatModel,
    catches: dict[str, Catch],
    given: dict[str, Any],
) -> Campaign:
    from harness.campaign import Campaign, EvaluationRequest
    from harness.protocols import SEARCH, with_found

    wanted = with_found({digest: catch.winners for digest, catch in catches.items()})
    request = EvaluationRequest(SEARCH, wanted, given["examples"], threat, given["seed"])
    runtime = options.chosen_runtime(given)
    command = f"search, budget {given['budget']}, {threat}, {len(subjects.records)} checkpoints"
    provenance = options.provenance(command, runtime.device)
    return Campaign(store, subjects, request, runtime, provenance)


def _execute(campaign: Campaign, *, quiet: bool) -> list[Failure]:
    from harness.cli.progress import CampaignDisplay, Display

    with Display(quiet=quiet) as display, options.models_print_to_stderr():
        return campaign.execute(CampaignDisplay(display))


def _lost(record: CheckpointRecord, failure: Failure) -> dict[str, Any]:
    return {"name": record.name, "status": failure.status, "message": failure.message}


def _to_json(campaign: Campaign, record: CheckpointRecord, catch: Catch) -> dict[str, Any]:
    standing = campaign.standing(record)
    by_label = {attack.label: attack for attack in standing.attacks}
    return {
        "name": record.name,
        "status": "ok",
        "held": catch.held,
        "held_standing": catch.standing,
        "candidates": catch.candidates,
        "passes": catch.passes,
        "standard_accuracy": standing.standard.fraction if standing.standard else None,
        "robust_accuracy": standing.robust.fraction,
        "examples": standing.examples,
        "winners": [
            {
                "attack": as_text(spec),
                "label": spec.label,
                "hash": spec.hash,
                "broken": by_label[spec.label].broken if spec.label in by_label else 0,
                "held_alone": next((t.alone for t in catch.tried if _same(t.spec, spec)), 0),
            }
            for spec in catch.winners
        ],
        "tried": [
            {"attack": as_text(one.spec), "broke": one.broke, "alone": one.alone}
            for one in catch.tried
        ],
    }


def as_text(spec: AttackSpec) -> str:
    """What `harness eval --attack` takes to run it again."""
    settings = [f"{key}={value}" for key, value in spec.parameters if key in spec.changed]
    settings.append(f"surface={spec.surface}")
    if spec.loss != "own":
        settings.append(f"loss={spec.loss}")
    return f"{spec.attack}({','.join(settings)})"


def _same(tried: AttackSpec, winner: AttackSpec) -> bool:
    """Whether they differ in nothing but steps and restarts."""
    free = {"steps", "restarts"}
    first, second = (
        (one.attack, one.surface, one.loss, [p for p in one.parameters if p[0] not in free])
        for one in (tried, winner)
    )
    return first == second


def _print(entry: dict[str, Any], *, quiet: bool) -> None:
    from harness.cli.tables import table

    if entry["status"] != "ok":
        failure = f"{entry['name']} failed ({entry['status']}): {entry['message']}"
        click.echo(failure, err=True)
        return
    if quiet:
        return
    standard = entry["standard_accuracy"]
    click.echo(
        f"\n{entry['name']}: {entry['candidates']} candidates on {entry['held']} training images, "
        f"{entry['held_standing']} of which standard attacks left; {entry['passes']:,} passes each."
        f"\nOn {entry['examples']} test images: "
        + (f"standard {100 * standard:.1f}, " if standard is not None else "")
        + f"with what was found {100 * entry['robust_accuracy']:.1f}."
    )
    if not entry["winners"]:
        click.echo("Nothing broke an image that the standard attacks had left.")
        return
    table(
        "",
        ("attack (harness eval NAME --attack '...')", "test images broken", "held alone"),
        [(w["attack"], str(w["broken"]), str(w["held_alone"])) for w in entry["winners"]],
    )
