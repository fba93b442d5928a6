"""`harness site`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options
from harness.errors import HarnessError

if TYPE_CHECKING:
    from leaderboard.site import Built

_INTERRUPTED = 130


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("site"), show_default=True)
@click.option("--only", metavar="BOARD", default="", help="One board alone, such as digits.")
@click.option(
    "--serve", is_flag=True, help="Serve it until Ctrl-C; pages follow the rows that come in."
)
@click.option("--host", metavar="HOST", help="Where --serve listens. Default: 127.0.0.1.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Of --serve; 0 for any free one. Default: 8000.",
)
@options.everywhere
def site(
    out: Path,
    only: str,
    serve: bool,
    host: str | None,
    port: int | None,
    db: str | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Render what is stored as a static site in --out; open its index.html.

    Only pages whose rows changed since the last build are drawn again.
    """
    del device, verbose
    if serve:
        host, port = "127.0.0.1" if host is None else host, 8000 if port is None else port
        _serve(_chosen(db), out, only, host, port, quiet=quiet)
        return
    if (host, port) != (None, None):
        raise HarnessError("--host and --port say where to serve: give --serve too.")
    built = build_site(db, out, only)
    click.echo(built.index)
    options.say(f"{built.drawn} of {built.files} files drawn", quiet=quiet)


def build_site(db: str | None, out: Path, only: str) -> Built:
    """Build it once from what the database holds now."""
    from leaderboard.gathering import gather
    from leaderboard.site import build

    with options.open_store(db, create=False, read_only=True) as store, store.snapshot():
        material = gather(store)
        if only:
            material = material.cut_down_to(material.slug_of(only))
        return build(material, out)


def _serve(db: str | None, out: Path, only: str, host: str, port: int, *, quiet: bool) -> None:
    from leaderboard.serving import serve_site

    def news(line: str) -> None:
        options.say(line, quiet=quiet)

    try:
        serve_site(
            lambda: build_site(db, out, only),
            _stamp(db),
            out,
            host,
            port,
            ready=click.echo,
            news=news,
            warn=options.say,
        )
    except KeyboardInterrupt:  # how it is meant to end: without a word
        click.get_current_context().exit(_INTERRUPTED)


def _chosen(db: str | None) -> str | None:
    """The file that is meant now, whatever else appears beside it; a server by its own name."""
    with options.open_store(db, create=False, read_only=True) as store:
        return str(store.path) if store.path else db


def _stamp(db: str | None) -> Callable[[], object]:
    """What tells cheaply whether a database changed: times of files, or a server's stamps."""
    with options.open_store(db, create=False, read_only=True) as store:
        path = store.path
    if path is None:
        return lambda: _asked(db)
    return lambda: tuple(_times(Path(f"{path}{suffix}")) for suffix in ("", "-wal"))


def _times(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _asked(db: str | None) -> object:
    with options.open_store(db, create=False, read_only=True) as store:
        return store.stamps(), len(store.claims())
