"""`harness site`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("site"), show_default=True)
@options.everywhere
def site(out: Path, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Render what is stored as a static site in --out; open its index.html."""
    del device, quiet, verbose
    from harness.standings import boards
    from harness.standings.corruptions import corruption_standings
    from leaderboard.site import build

    with options.open_store(db, create=False, read_only=True) as store:
        found, corrupted = boards(store), corruption_standings(store)
    click.echo(build(found, out, corruptions=corrupted))
