"""`harness museum`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.museum.tour import Sight


@click.command()
@click.option(
    "--only",
    metavar="NAME|ID",
    multiple=True,
    help="An exhibit or a diagnostic such as D15; may be given again.",
)
@options.JSON
@options.everywhere
@click.pass_context
def museum(
    context: click.Context,
    /,
    only: tuple[str, ...],
    as_json: bool,
    db: str | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show models that pretend to be robust to the diagnostics that must catch them.

    Builds or trains every exhibit on scikit-learn's digits and runs exactly the diagnostics that
    it names, with shortened attacks; about a minute on a CPU. Exits with 1 if one is missed.
    """
    del db, device
    from harness.museum.hall import Hall
    from harness.museum.tour import tour

    options.speak(quiet=quiet, verbose=verbose)
    sights: list[Sight] = []
    for sight in tour(Hall(), only):
        if not sights or sights[-1].exhibit != sight.exhibit:
            options.say(f"  {sight.exhibit}", quiet=quiet)
        sights.append(sight)
    missed = [sight for sight in sights if not sight.is_as_expected]
    if as_json:
        click.echo(json.dumps([_plain(sight) for sight in sights], indent=2))
    else:
        _print(sights, missed)
    if missed:
        context.exit(1)


def _plain(sight: Sight) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(sight), "ok": sight.is_as_expected}


def _print(sights: list[Sight], missed: list[Sight]) -> None:
    from harness.cli.tables import table

    table(
        "",
        ("exhibit", "what is wrong", "diagnostic", "expected", "found", "ok"),
        [
            (
                sight.exhibit,
                sight.wrong,
                f"{sight.diagnostic} {sight.title}",
                sight.expected,
                sight.found,
                "yes" if sight.is_as_expected else "MISSED",
            )
            for sight in sights
        ],
    )
    for sight in missed:
        click.echo(f"\n{sight.exhibit}, {sight.diagnostic}: {sight.note}")
    click.echo(f"\n{len(sights) - len(missed)} of {len(sights)} as expected.")
