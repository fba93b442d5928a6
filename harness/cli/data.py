"""`harness data`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options


@click.group()
def data() -> None:
    """Fetch data sets."""


@data.command()
@click.argument("dataset")
@click.option("--folder", type=click.Path(path_type=Path), help="Default: HARNESS_DATA or cache.")
@options.everywhere
def fetch(
    dataset: str, folder: Path | None, db: str | None, device: str, quiet: bool, verbose: bool
) -> None:
    """Fetch DATASET, check it against its known digest and keep it for later."""
    del db, device
    from harness.data import fetch as fetch_dataset

    options.speak(quiet=quiet, verbose=verbose)
    click.echo(fetch_dataset(dataset, folder))
