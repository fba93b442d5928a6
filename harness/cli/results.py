"""`harness results` and `harness remove`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.store.store import Store


@click.group()
def results() -> None:
    """Merge, compare, export and verify stored results."""


@results.command()
@click.argument("file", type=click.Path(path_type=Path))
@options.everywhere
def merge(file: Path, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Add the rows of another machine's database FILE, all of them or none."""
    del device, quiet, verbose
    if not file.is_file():
        raise HarnessError(f"there is no file {file}: name another machine's database.")
    with options.open_store(db) as store:
        found = store.merge(file, check_new_name=options.check_new_name)
    click.echo(
        f"{file}: {len(found.checkpoints)} new checkpoints, {found.outcomes} new outcomes, "
        f"{found.known} known already, {found.failures} failures, {found.findings} findings, "
        f"{found.measurements} measurements, {found.claims} claims, {found.galleries} galleries, "
        f"{found.adversarial} sets of adversarial pictures."
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
    write_whole(file, writers[file.suffix](found).encode(errors="replace"))
    options.say(f"{sum(len(b.standings) for b in found)} rows written to {file}", quiet=quiet)


@results.command("verify")
@click.option("--site", type=click.Path(path_type=Path), metavar="DIR", help="Check its pages too.")
@options.DATA_DIR
@options.JSON
@options.everywhere
@click.pass_context
def verify_results(
    context: click.Context,
    site: Path | None,
    data_dir: Path | None,
    as_json: bool,
    db: str | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Check what is stored without running a model: every problem, one line each.

    Hashes and digests anew from what they are of, bits against counts and columns, references,
    files that are here, claims against the package, and every derived number anew from the bits.

    Exit code 0: no problem. 1: at least one.
    """
    del device, verbose
    import json

    with options.open_copy(db) as store, store.snapshot():
        problems = store.problems()
        unfinished = store.unfinished()
        problems += _audited(store, data_dir, site, is_sound=not problems)
    if as_json:
        click.echo(json.dumps({"problems": problems, "unfinished": unfinished}, indent=2))
    else:
        for problem in problems:
            click.echo(problem)
        for sentence in unfinished:
            options.say(f"not finished: {sentence}", quiet=quiet)
        options.say(f"{len(problems) or 'no'} problem{'s' * (len(problems) != 1)}.", quiet=quiet)
    if problems:
        context.exit(1)


def _audited(
    store: Store, data_dir: Path | None, site: Path | None, *, is_sound: bool
) -> list[str]:
    """What files, derived numbers and pages say."""
    from harness.audit import drawing_problems, file_problems, number_problems, page_problems
    from harness.standings import boards
    from harness.standings.corruptions import corruption_standings

    problems: list[str] = []
    with _as_far_as_readable(problems, "files", is_sound=is_sound):
        problems += file_problems(store, options.checkpoint_folder(store), data_dir)
    with _as_far_as_readable(problems, "derived numbers", is_sound=is_sound):
        found = boards(store)
        problems += number_problems(store, found, corruption_standings(store))
        if site is not None:
            from leaderboard.gathering import gather

            problems += page_problems(site, found)
            problems += drawing_problems(site, gather(store))
    return problems


@contextlib.contextmanager
def _as_far_as_readable(problems: list[str], what: str, *, is_sound: bool) -> Iterator[None]:
    """Rows that contradict themselves may forbid to look further; sound ones never do."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        if is_sound:
            raise
        problems.append(f"{what}: not checked, since rows above cannot be read ({error!s:.200})")


@click.command()
@click.argument("name")
@options.everywhere
def remove(name: str, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Forget checkpoint NAME with its outcomes, weights and kept images.

    Weights that another name in this database needs stay.
    """
    del device, verbose
    with options.open_store(db, create=False) as store:
        folder = options.checkpoint_folder(store)
        record = store.checkpoint(name)
        store.remove(name)
        needed = {file for other in store.checkpoints() for file in other.files}
        for file in dict.fromkeys(record.files):
            if file not in needed:
                _delete(folder / file)
        if record.digest not in {other.digest for other in store.checkpoints()}:
            _forget_kept(folder, record.digest)
    options.say(f"{name} is removed.", quiet=quiet)


def _forget_kept(folder: Path, checkpoint: str) -> None:
    from harness.store.kept import forget, kept_folder

    try:
        forget(kept_folder(folder), checkpoint)
    except OSError as error:
        raise HarnessError(
            f"the rows are removed, but kept images in {kept_folder(folder)} cannot be deleted: "
            f"{error.strerror}."
        ) from error


def _delete(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise HarnessError(
            f"the rows are removed, but {file} cannot be deleted: {error.strerror}."
        ) from error
