"""`harness analyse`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.campaign import Subjects
    from harness.campaign.analysis import Found
    from harness.identity import CheckpointRecord, Failure, Measurement
    from harness.store.store import Store
    from harness.threat import ThreatModel

POSITIVE = click.IntRange(min=1)


@click.command("analyse")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every stored checkpoint.")
@click.option("--analysis", metavar="A,B", help="Such as relationship_score. Default: all.")
@click.option("--dataset", metavar="D", help="Look at D; with --all, only its checkpoints.")
@options.DATA_DIR
@click.option(
    "--examples", type=POSITIVE, default=512, metavar="N", help="Test images. Default: 512."
)
@options.NORM
@options.EPSILON
@click.option("--seed", type=options.SEED, default=0, metavar="N", help="Default: 0.")
@click.option("--workers", type=POSITIVE, metavar="N", help="Default: one per processor.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write t-SNE and UMAP pictures of the features there, as SVG.",
)
@options.JSON
@options.NO_DOWNLOAD
@options.everywhere
@click.pass_context
def analyse(context: click.Context, /, **given: Any) -> None:
    """Measure what features have learnt; NAME is a checkpoint, or a defense.

    On clean images and under the stored attack that broke most of them. What is stored is not
    measured again, unless a worse attack has been stored since.
    """
    options.speak(quiet=given["quiet"], verbose=given["verbose"])
    _check_pictures(given["pictures"])
    with options.open_store(given["db"], create=False) as store:
        groups = _groups(store, given)
        came: dict[str, Any] = {}
        device = options.chosen_device(given["device"])
        with options.logged(store, "analyse", device=device, seed=given["seed"]):
            for group, threat in groups:
                came |= _run(store, group, threat, given)
        found = [
            (record, _asked(measurements, given["analysis"]))
            for group, threat in groups
            for record in group.records
            for measurements in [_stored(store, group, record, threat, given)]
        ]
    failures = _failures(came)
    if given["as_json"]:
        entries = [_to_json(*pair, failures.get(pair[0].digest)) for pair in found]
        click.echo(json.dumps(entries, indent=2, allow_nan=False))
    elif not given["quiet"]:
        for record, measurements in found:
            _print(record, measurements)
    _tell(found, came, failures, quiet=given["quiet"])
    if failures:
        context.exit(1)


def _check_pictures(folder: Path | None) -> None:
    """What pictures need, before anything runs."""
    if folder is not None:
        from harness.analysis.pictures import umap_module

        umap_module()
        options.make_folder(folder)


def _groups(store: Store, given: dict[str, Any]) -> list[tuple[Subjects, ThreatModel]]:
    """Checkpoints by dataset, everything checked before anything runs."""
    from harness.campaign.analysis import check_analyses
    from harness.cli.evaluate import groups_of

    check_analyses(_names(given["analysis"]))
    return groups_of(store, given)


def _run(store: Store, group: Subjects, threat: ThreatModel, given: dict[str, Any]) -> Found:
    from harness.campaign.analysis import analyse_all
    from harness.cli.progress import CampaignDisplay, Display

    runtime = options.chosen_runtime(given)
    command = f"analyse, {threat}, {len(group.records)} checkpoints"
    provenance = options.provenance(command, runtime.device)
    with Display(quiet=given["quiet"]) as display, options.models_print_to_stderr():
        report = CampaignDisplay(display)
        found = analyse_all(
            store,
            group,
            threat=threat,
            examples=given["examples"],
            runtime=runtime,
            wanted=_names(given["analysis"]),
            seed=given["seed"],
            pictures=given["pictures"],
            provenance=provenance,
            report=report,
        )
        if report.pieces == 0:
            display.line(f"{group.label}: nothing to do, all of it is stored.")
    return found


def _stored(
    store: Store,
    group: Subjects,
    record: CheckpointRecord,
    threat: ThreatModel,
    given: dict[str, Any],
) -> list[Measurement]:
    """Everything of this seed and so many images, as far as it is stored."""
    from harness.campaign.analysis import measurements_of

    count = min(given["examples"], len(group.data))
    return [
        one
        for one in measurements_of(store, group, record, threat)
        if (one.seed, one.examples) == (given["seed"], count)
    ]


def _asked(measurements: Sequence[Measurement], text: str | None) -> list[Measurement]:
    wanted = set(_names(text))
    return [one for one in measurements if not wanted or one.analysis in wanted]


def _names(text: str | None) -> list[str]:
    if text is None:
        return []
    found = [piece.strip().lower() for piece in text.split(",") if piece.strip()]
    if not found:
        raise HarnessError(
            "--analysis names no analysis: write for instance --analysis relationship_score."
        )
    return list(dict.fromkeys(found))


def _failures(came: Mapping[str, Any]) -> dict[str, Failure]:
    from harness.identity import Failure

    return {digest: one for digest, one in came.items() if isinstance(one, Failure)}


def _to_json(
    record: CheckpointRecord, measurements: Sequence[Measurement], failure: Failure | None
) -> dict[str, Any]:
    from harness.standings.export import numbers_json

    return {
        "name": record.name,
        "status": failure.status if failure else "ok",
        **({"message": failure.message} if failure else {}),
        "measurements": [
            {
                "analysis": one.analysis,
                "on": one.on,
                "norm": one.threat.norm,
                "epsilon": str(one.threat.epsilon),
                "seed": one.seed,
                "examples": one.examples,
                "values": numbers_json(one.values),
                "note": one.note,
            }
            for one in measurements
        ],
    }


def _print(record: CheckpointRecord, measurements: Sequence[Measurement]) -> None:
    from harness.cli.tables import table

    rows = [(one.analysis, one.on, _numbers(one), one.note) for one in measurements]
    if rows:
        table(f"\n{record.name}", ("analysis", "on", "numbers", "note"), rows)


def _numbers(one: Measurement) -> str:
    """`cosine 0.91 0.93 0.92`, of what its analysis wants shown."""
    from harness.analysis.analysis import ANALYSES

    shown = ANALYSES[one.analysis].shown if one.analysis in ANALYSES else ()
    found = [
        f"{name.replace('_', ' ')} {' '.join(f'{number:.4g}' for number in one.values[name])}"
        for name in shown
        if name in one.values
    ]
    return "; ".join(found) or "-"


def _tell(
    found: Sequence[tuple[CheckpointRecord, object]],
    came: Mapping[str, Any],
    failures: Mapping[str, Failure],
    *,
    quiet: bool,
) -> None:
    """What was drawn, what could not be, and what failed."""
    for record, _ in found:
        failure, piece = failures.get(record.digest), came.get(record.digest)
        if failure:
            click.echo(f"{record.name} failed ({failure.status}): {failure.message}", err=True)
        elif piece is not None:
            for path in piece.drawn:
                options.say(f"{record.name}: drawn {path}", quiet=quiet)
            if piece.undrawn:
                click.echo(f"{record.name}: no picture: {piece.undrawn}", err=True)
