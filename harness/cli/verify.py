"""`harness verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.evaluate import chosen
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.campaign.rechecking import Agreement, Recheck
    from harness.identity import CheckpointRecord
    from harness.store.store import Store

POSITIVE = click.IntRange(min=1)
_SHOWN = 10


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every stored checkpoint.")
@click.option(
    "--sample", type=POSITIVE, default=20, metavar="N", help="Images of each row. Default: 20."
)
@click.option("--whole", is_flag=True, help="Every image instead of a sample.")
@click.option("--seed", type=options.SEED, default=0, metavar="N", help="Of the draw. Default: 0.")
@click.option("--attack", default="", metavar="A", help="Only A: a label, or as for eval.")
@click.option("--kept", is_flag=True, help="Judge the images that eval kept; attack nothing.")
@click.option("--dataset", metavar="D", help="Only rows on D.")
@options.DATA_DIR
@options.CORRUPTED_DIR
@click.option("--workers", type=POSITIVE, metavar="N", help="Default: one per processor.")
@options.TIME_LIMIT
@options.JSON
@options.NO_DOWNLOAD
@options.everywhere
@click.pass_context
def verify(context: click.Context, /, **given: Any) -> None:
    """Run stored results again and compare them bit by bit; NAME is a checkpoint, or a defense.

    Everything follows from the recorded identity: weights, test images, attack, surface, loss,
    population, seed and slice. On the CPU the bits must be the same. Nothing is stored.

    Exit code 0: all agree. 1: something differs. 2: something could not be checked.
    """
    options.speak(quiet=given["quiet"], verbose=given["verbose"])
    with options.open_store(given["db"], create=False, read_only=True) as store:
        records = chosen(store, given)
        found = _found(store, records, given)
    if given["as_json"]:
        click.echo(json.dumps(_to_json(found, given), indent=2))
    else:
        _print(found, quiet=given["quiet"])
    for sentence in dict.fromkeys(one.unchecked for one in found if one.unchecked):
        click.echo(f"harness: not checked: {sentence}", err=True)
    if any(one.differing for one in found):
        context.exit(1)
    if any(one.unchecked for one in found):
        context.exit(2)


def _found(store: Store, records: list[CheckpointRecord], given: dict[str, Any]) -> list[Agreement]:
    from harness.campaign.rechecking import Place, recheck, recheck_kept
    from harness.cli.progress import CampaignDisplay, Display

    asked, runtime = _asked(given), options.chosen_runtime(given)
    place = Place(
        folder=options.checkpoint_folder(store),
        data_dir=given["data_dir"],
        corrupted_dir=given["corrupted_dir"],
        may_download=not given["no_download"],
    )
    with Display(quiet=given["quiet"]) as display, options.models_print_to_stderr():
        if given["kept"]:
            return recheck_kept(store, records, asked, place, runtime)
        return recheck(store, records, asked, place, runtime, CampaignDisplay(display))


def _asked(given: dict[str, Any]) -> Recheck:
    from harness.campaign.rechecking import Recheck

    if given["kept"] and given["whole"]:
        raise HarnessError("--kept judges every kept image: leave --whole out.")
    sample = None if given["whole"] else given["sample"]
    return Recheck(sample, given["seed"], given["attack"], given["dataset"] or "")


def _to_json(found: list[Agreement], given: dict[str, Any]) -> dict[str, Any]:
    compared, agreeing = _totals(found)
    return {
        "compared": compared,
        "agreeing": agreeing,
        "sample": None if given["whole"] or given["kept"] else given["sample"],
        "seed": given["seed"],
        "kept": given["kept"],
        "attacks": [{**asdict(one), "agreeing": one.agreeing} for one in found],
    }


def _totals(found: list[Agreement]) -> tuple[int, int]:
    return sum(one.compared for one in found), sum(one.agreeing for one in found)


def _print(found: list[Agreement], *, quiet: bool) -> None:
    from harness.cli.tables import table

    compared, agreeing = _totals(found)
    shown = [one for one in found if one.compared or one.unchecked]
    if not quiet and shown:
        columns = ("checkpoint", "attack", "threat", "compared", "agree", "images that differ")
        table("", columns, [_cells(one) for one in shown])
    options.say(f"{agreeing} of {compared} pairs of attack and image agree.", quiet=quiet)


def _cells(one: Agreement) -> tuple[str, ...]:
    differing = ", ".join(map(str, one.differing[:_SHOWN]))
    more = len(one.differing) - _SHOWN
    said = f"{differing} and {more} more" if more > 0 else differing
    where = f"{one.dataset}, {one.threat}"
    label = f"{one.attack}, seed {one.seed}" if one.seed else one.attack
    said = said or ("not checked" if one.unchecked else "-")
    return one.checkpoint, label, where, str(one.compared), str(one.agreeing), said
