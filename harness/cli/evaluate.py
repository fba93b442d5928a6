"""`harness eval`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from harness.cli import options
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.campaign import Campaign, EvaluationRequest, Report, Subjects
    from harness.data import Dataset
    from harness.identity import CheckpointRecord, Failure
    from harness.standings import AttackStanding, Standing
    from harness.store.store import Store
    from harness.threat import ThreatModel

POSITIVE = click.IntRange(min=1)

AFTER_ADAPTIVE = ("D20", "D21")
"""Diagnostics that every adaptive evaluation ends with; `harness diagnose` runs the others."""


@click.command("eval")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every stored checkpoint.")
@click.option("--adaptive", is_flag=True, help="The same as --protocol adaptive.")
@click.option("--protocol", metavar="P", help="Default: standard.")
@click.option("--attacks", metavar="A,B", help="Attacks by name instead: pgd,apgd_ce.")
@click.option("--attack", multiple=True, metavar="A", help="Such as 'pgd(steps=100,loss=margin)'.")
@click.option("--dataset", metavar="D", help="Test on D; with --all, only its checkpoints.")
@options.DATA_DIR
@click.option(
    "--examples",
    type=POSITIVE,
    default=1000,
    metavar="N",
    help="Default: 1000; more add to what is stored.",
)
@options.NORM
@options.EPSILON
@click.option("--seed", type=options.SEED, default=0, metavar="N", help="Default: 0.")
@click.option("--batch-size", type=POSITIVE, metavar="N", help="Default: 250; on a GPU what fits.")
@click.option("--workers", type=POSITIVE, metavar="N", help="Default: one per processor.")
@options.PRECISION
@options.TIME_LIMIT
@options.JSON
@click.option(
    "--keep-adversarial",
    type=click.Choice(["uint8", "float32"]),
    metavar="TYPE",
    help="Keep broken images: uint8 or float32.",
)
@click.option("--bits", type=click.Path(path_type=Path), metavar="FILE.npz", help="Per-image bits.")
@options.NO_DOWNLOAD
@options.DRY_RUN
@options.everywhere
@click.pass_context
def evaluate(context: click.Context, /, **given: Any) -> None:
    """Attack stored checkpoints; NAME is one, or a defense: all of its own."""
    options.speak(quiet=given["quiet"], verbose=given["verbose"])
    with options.open_store(given["db"], create=False) as store:
        campaigns = _campaigns(store, given)
        if given["dry_run"]:
            _estimate(campaigns, as_json=given["as_json"])
            return
        runtime = campaigns[0].runtime
        facts = {"seed": given["seed"], "workers": runtime.workers}
        with options.logged(store, "eval", device=runtime.device, **facts):
            failures = execute(campaigns, quiet=given["quiet"])
            for campaign in campaigns:
                _diagnose(store, campaign, failures, given)
        standings = [
            (campaign, record, None if record.digest in failures else campaign.standing(record))
            for campaign in campaigns
            for record in campaign.records
        ]
        if given["bits"]:
            _write_bits(given["bits"], standings)
    if given["as_json"]:
        found = [_to_json(*row, failures.get(row[1].digest)) for row in standings]
        click.echo(json.dumps(found, indent=2))
    else:
        _print(standings, failures, quiet=given["quiet"])
    for campaign in campaigns:
        _tell_kept(campaign, quiet=given["quiet"])
    if failures:
        context.exit(1)


def _tell_kept(campaign: Campaign, *, quiet: bool) -> None:
    """How many images are kept, and which are right again when rounded."""
    if not campaign.kept:
        return
    images = sum(len(kept.images) for _, kept in campaign.kept)
    lost = sum(len(kept.lost) for _, kept in campaign.kept)
    options.say(
        f"{campaign.dataset}: {images} adversarial images kept as {campaign.request.keep}"
        + (f"; {lost} are right again when rounded, and not kept:" if lost else "."),
        quiet=quiet,
    )
    for job, kept in campaign.kept:
        if kept.lost:
            options.say(f"  {job.attack.label}: {', '.join(map(str, kept.lost))}", quiet=quiet)


def _campaigns(store: Store, given: dict[str, Any]) -> list[Campaign]:
    """One campaign per dataset, everything checked before anything runs."""
    records = chosen(store, given)
    _check_bits(given["bits"], len(records))
    return [_campaign(store, given, group) for group in subjects_of(store, records, given)]


def subjects_of(
    store: Store, records: list[CheckpointRecord], given: dict[str, Any]
) -> list[Subjects]:
    """The checkpoints by the dataset that they are tested on, each with its test images."""
    from harness.campaign import Subjects
    from harness.data import dataset, load

    by_dataset: dict[str, list[CheckpointRecord]] = {}
    for record in records:
        by_dataset.setdefault(given["dataset"] or record.dataset, []).append(record)
    for option in ("data_dir", "corrupted_dir"):
        if given.get(option) and len(by_dataset) > 1:
            raise HarnessError(
                f"--{option.replace('_', '-')} fits one dataset but the checkpoints need "
                f"{', '.join(by_dataset)}: choose one with --dataset."
            )
    found = []
    for name, group in by_dataset.items():
        known = dataset(name)
        check_fit(group, known)
        data = load(name, "test", data_dir=given["data_dir"], download=not given["no_download"])
        folder = options.checkpoint_folder(store)
        found.append(Subjects(group, known, data, given["data_dir"], folder))
    return found


def groups_of(store: Store, given: dict[str, Any]) -> list[tuple[Subjects, ThreatModel]]:
    """The checkpoints that were asked for, by test split, each group with its threat model."""
    return [
        (group, options.chosen_threat(given["norm"], given["epsilon"], group.dataset.threat))
        for group in subjects_of(store, chosen(store, given), given)
    ]


def _campaign(store: Store, given: dict[str, Any], subjects: Subjects) -> Campaign:
    from dataclasses import replace

    from harness.campaign import Campaign

    threat = options.chosen_threat(given["norm"], given["epsilon"], subjects.dataset.threat)
    request = replace(
        _request(given, threat),
        keep=given["keep_adversarial"] or "",
        precision=given["precision"],
    )
    runtime = options.chosen_runtime(given)
    command = f"eval {request.protocol or 'custom'}, {threat}, {len(subjects.records)} checkpoints"
    provenance = options.provenance(command, runtime.device)
    return Campaign(store, subjects, request, runtime, provenance)


def chosen(store: Store, given: dict[str, Any]) -> list[CheckpointRecord]:
    """The checkpoints that `names`, or `everything` and `dataset`, stand for."""
    from harness.data import dataset
    from harness.errors import unknown_name

    if bool(given["names"]) == given["everything"]:
        raise HarnessError(
            "name the checkpoints to evaluate, or give --all (not both). "
            "See: harness list checkpoints."
        )
    records = store.checkpoints()
    if given["everything"]:
        only = given["dataset"] and dataset(given["dataset"]).name
        chosen = [r for r in records if only in {None, r.dataset}]
        if not chosen:
            raise HarnessError(
                f"no checkpoint {f'on {only} ' if only else ''}is stored in {store.where} yet: "
                "train one with `harness train`, or add one with `harness add`."
            )
        return chosen
    found: dict[str, CheckpointRecord] = {}
    for name in given["names"]:
        matches = [r for r in records if r.name == name] or [
            r for r in records if r.defense == name
        ]
        if not matches:
            raise unknown_name(
                "checkpoint",
                name,
                {r.name for r in records} | {r.defense for r in records if r.defense},
            )
        found |= {record.name: record for record in matches}
    return list(found.values())


def _check_bits(file: Path | None, checkpoints: int) -> None:
    if file is not None and checkpoints != 1:
        raise HarnessError(f"--bits takes exactly one checkpoint but {checkpoints} were chosen.")
    if file is not None and (file.suffix != ".npz" or file.is_dir()):
        raise HarnessError(f"--bits writes a file that ends in .npz, not '{file}'.")


def check_fit(records: list[CheckpointRecord], dataset: Dataset) -> None:
    """Refuse checkpoints that decide between another number of classes or see other channels."""
    for record in records:
        if record.capabilities.classes != len(dataset.classes):
            raise HarnessError(
                f"'{record.name}' decides between {record.capabilities.classes} classes but "
                f"{dataset.name} has {len(dataset.classes)}."
            )
        channels = _channels(record)
        if channels not in {None, dataset.shape[0]}:
            raise HarnessError(
                f"'{record.name}' was made for {record.dataset} and cannot take the images of "
                f"{dataset.name}: their channels are {channels} and {dataset.shape[0]}."
            )


def _channels(record: CheckpointRecord) -> int | None:
    """Of the images that a checkpoint was made for; None where its own dataset is not here."""
    from harness.data import dataset

    try:
        return dataset(record.dataset).shape[0]
    except HarnessError:
        return None


def _request(given: dict[str, Any], threat: ThreatModel) -> EvaluationRequest:
    from harness.attacks.attack import parse_attack, split_outside_parentheses
    from harness.campaign import EvaluationRequest
    from harness.identity import CORRECT
    from harness.protocols import protocol_named

    texts = [*split_outside_parentheses(given["attacks"] or ""), *given["attack"]]
    if given["attacks"] is not None and not texts:
        raise HarnessError("--attacks names no attack: write for instance --attacks pgd,apgd_ce.")
    ways = [bool(texts), given["adaptive"], given["protocol"] is not None]
    if sum(ways) > 1 and not (given["adaptive"] and given["protocol"] == "adaptive"):
        raise HarnessError("choose one of --adaptive, --protocol and --attacks/--attack.")
    if texts:
        specs = tuple(dict.fromkeys(parse_attack(text) for text in texts))
        wanted = tuple((spec, CORRECT) for spec in specs)
        return EvaluationRequest("", lambda _: wanted, given["examples"], threat, given["seed"])
    given_name = "standard" if given["protocol"] is None else given["protocol"]
    name = "adaptive" if given["adaptive"] else given_name
    return EvaluationRequest.of(protocol_named(name), given["examples"], threat, given["seed"])


class Runs(Protocol):
    """A campaign, of whatever kind of attack."""

    @property
    def dataset(self) -> str:
        """What it is run on, in words."""

    def execute(self, report: Report) -> list[Failure]:
        """Do what is missing; the failures."""


def execute(campaigns: Sequence[Runs], *, quiet: bool) -> dict[str, Failure]:
    """Run campaigns, telling how far they are; the first failure of each checkpoint digest."""
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
                display.line(f"{campaign.dataset}: nothing to do, all of it is stored.")
    return failures


def _diagnose(
    store: Store, campaign: Campaign, failures: dict[str, Failure], given: dict[str, Any]
) -> None:
    """What an adaptive evaluation alone can tell: the gap, and heads that decide already."""
    from dataclasses import replace

    from harness.campaign.diagnosis import diagnose_all

    if campaign.request.restarts is None:
        return
    alive = [record for record in campaign.records if record.digest not in failures]
    with options.models_print_to_stderr():
        failed = diagnose_all(
            store,
            replace(campaign.subjects, records=alive),
            threat=campaign.request.threat,
            examples=campaign.examples,
            runtime=campaign.runtime,
            wanted=AFTER_ADAPTIVE,
            seed=given["seed"],
        )
    for failure in failed:
        failures.setdefault(failure.checkpoint, failure)


def _write_bits(path: Path, standings: list[tuple[Campaign, CheckpointRecord, Any]]) -> None:
    import io

    import numpy as np

    from harness.models.weights import write_whole

    campaign, record, standing = standings[0]
    if standing is None:
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **campaign.bits(record))  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def _to_json(
    campaign: Campaign,
    record: CheckpointRecord,
    standing: Standing | None,
    failure: Failure | None,
) -> dict[str, Any]:
    from harness.standings import finding_json
    from harness.threat import format_fraction

    request = campaign.request
    name, _, version = request.protocol.rpartition("-")
    head = {
        "name": record.name,
        "scale": record.scale or None,
        "collapsed_at": record.training.get("collapsed_at") or None,
        "status": "ok" if standing else failure.status if failure else "failed",
        "dataset": campaign.dataset,
        "protocol": name or "custom",
        "protocol_version": int(version) if version else None,
        "norm": request.threat.norm,
        "epsilon": format_fraction(request.threat.epsilon),
        "seed": request.seed,
        "precision": request.precision,
        "examples": campaign.examples,
    }
    if standing is None:
        nothing = dict.fromkeys(
            ("clean_accuracy", "robust_accuracy", "interval", "standard_accuracy", "adaptive_gap")
        )
        return {**head, **nothing, "message": failure.message if failure else "", "attacks": []}
    standard = standing.standard
    return {
        **head,
        "clean_accuracy": standing.clean.fraction,
        "robust_accuracy": standing.robust.fraction,
        "interval": [standing.robust.low, standing.robust.high],
        "standard_accuracy": standard.fraction if standard else None,
        "adaptive_gap": standing.adaptive_gap,
        "level": standing.level,
        "lacking": list(standing.lacking),
        "verdict": str(standing.verdict),
        "diagnostics": [finding_json(finding) for finding in standing.findings],
        "attacks": [_attack_to_json(attack, standing.examples) for attack in standing.attacks],
    }


def _attack_to_json(attack: AttackStanding, examples: int) -> dict[str, Any]:
    """One attack; where it saw survivors only, its accuracy is that of both stages together."""
    both_stages = (attack.attacked - attack.broken) / examples
    return {
        "attack": attack.attack,
        "surface": attack.surface,
        "loss": attack.loss,
        "label": attack.label,
        "population": attack.population,
        "attacked": attack.attacked,
        "broken": attack.broken,
        "robust_accuracy": attack.robust.fraction if attack.robust else both_stages,
        "seconds": round(attack.seconds, 3),
        "forwards": attack.forwards,
        "backwards": attack.backwards,
        "queries": attack.queries,
    }


def _print(
    standings: list[tuple[Campaign, CheckpointRecord, Any]],
    failures: dict[str, Failure],
    *,
    quiet: bool,
) -> None:
    from harness.cli.tables import standings_table
    from harness.identity import CLEAN

    for campaign in dict.fromkeys(campaign for campaign, _, _ in standings):
        rows = [(r, found) for owner, r, found in standings if owner is campaign and found]
        if rows and not quiet:
            standings_table(rows)
    for _, record, _ in standings:
        failure = failures.get(record.digest)
        if failure:
            where = failure.attack.replace(CLEAN.label, "clean images")
            click.echo(
                f"{record.name} failed ({failure.status}), {where}: {failure.message}", err=True
            )


def _estimate(campaigns: list[Campaign], *, as_json: bool) -> None:
    from harness.errors import ModelError

    rows = []
    for campaign in campaigns:
        try:
            with options.models_print_to_stderr():
                found = campaign.estimate()
        except ModelError as error:
            raise HarnessError(f"nothing can be estimated: {error}") from error
        rows.append({"dataset": campaign.dataset, **found._asdict()})
        if not as_json:
            click.echo(
                f"{campaign.dataset}, {campaign.request.threat}: {found.pieces} pieces of work on "
                f"{found.images} images, at most about {options.duration(found.seconds)} on one "
                "worker."
            )
    click.echo(json.dumps(rows, indent=2) if as_json else "Nothing was run.")
