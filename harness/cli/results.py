"""`harness results` and `harness remove`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options
from harness.errors import HarnessError


@click.group()
def results() -> None:
    """Merge, compare and export stored results."""


@results.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.everywhere
def merge(file: Path, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Add the rows of another machine's database FILE, all of them or none."""
    del device, quiet, verbose
    if not file.is_file():
        raise HarnessError(f"there is no file {file}: name another machine's database.")
    with options.open_store(db) as store:
        found = store.merge(file)
    click.echo(
        f"{file}: {len(found.checkpoints)} new checkpoints, {found.outcomes} new outcomes, "
        f"{found.known} known already, {found.failures} failures, {found.findings} findings, "
        f"{found.measurements} measurements, {found.claims} claims."
    )


@results.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.JSON
@options.everywhere
def compare(
    file: Path, as_json: bool, db: str | None, device: str, quiet: bool, verbose: bool
) -> None:
    """Compare with an independent re-run in the database FILE; agreement makes a row E4.

    Only checkpoints whose adaptive protocol is complete here are compared, image by image and
    attack by attack. Nothing is merged.
    """
    del device, verbose
    import json

    from harness.standings.agreement import agreements
    from harness.store.store import Store

    if not file.is_file():
        raise HarnessError(f"there is no file {file}: name another machine's database.")
    with (
        options.open_store(db, create=False) as store,
        Store.open(file, create=False, read_only=True) as theirs,
    ):
        try:
            found = list(agreements(store, theirs))
        except (ValueError, TypeError) as error:
            raise HarnessError(f"{file} contradicts itself: {error}.") from error
        for one in found:
            store.record_finding(one.finding())
    if not found:
        raise HarnessError(
            f"nothing to compare: no checkpoint with a complete adaptive protocol is in {file} too."
        )
    if as_json:
        rows = [
            {
                "name": one.checkpoint.name,
                "dataset": one.dataset,
                "threat": str(one.threat),
                "examples": one.examples,
                "agreement": one.share,
                "is_enough": one.is_enough,
                "lacking": one.lacking,
                "shared_runs": one.shared_runs,
                "differing": list(one.differing),
            }
            for one in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for one in found:
        verdict = "agrees" if one.is_enough else "does not count"
        options.say(f"{one.checkpoint.name}: {verdict}: {one.sentence()}", quiet=quiet)


@results.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.everywhere
def export(file: Path, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Write every board to FILE.json or FILE.csv."""
    del device, verbose
    from harness.models.weights import write_whole
    from harness.standings import as_csv, as_json, boards

    writers = {".json": as_json, ".csv": as_csv}
    if file.suffix not in writers:
        raise HarnessError(f"{file} must end in .json or .csv.")
    with options.open_store(db, create=False, read_only=True) as store:
        found = boards(store)
    write_whole(file, writers[file.suffix](found).encode())
    options.say(f"{sum(len(b.standings) for b in found)} rows written to {file}", quiet=quiet)


@click.command()
@click.argument("name")
@options.everywhere
def remove(name: str, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Forget checkpoint NAME with its outcomes and weights.

    Weights that another name in this database needs stay.
    """
    del device, verbose
    with options.open_store(db, create=False) as store:
        folder = options.checkpoint_folder(store)
        files = store.checkpoint(name).files
        store.remove(name)
        needed = {file for record in store.checkpoints() for file in record.files}
        for file in dict.fromkeys(files):
            if file not in needed:
                _delete(folder / file)
    options.say(f"{name} is removed.", quiet=quiet)


def _delete(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise HarnessError(
            f"the rows are removed, but {file} cannot be deleted: {error.strerror}."
        ) from error
