"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness import __version__
from harness.errors import HarnessError
from harness.identity import EXACT, PRECISIONS, Runtime, Value
from harness.printable import printable

if TYPE_CHECKING:
    from harness.campaign import Provenance
    from harness.store.store import Store
    from harness.threat import ThreatModel

Command = TypeVar("Command", bound=Callable[..., Any])

LARGEST = 2**63 - 1
"""The largest whole number that a database holds."""

SEED = click.IntRange(0, LARGEST)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
DATA_DIR = click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="torchvision's files, parquet or image folder.",
)
CORRUPTED_DIR = click.option(
    "--corrupted-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="CIFAR-10-C's .npy files or ImageNet-C's folders; default: generate.",
)
NO_DOWNLOAD = click.option("--no-download", is_flag=True, help="Never fetch missing data.")
NORM = click.option("--norm", metavar="NORM", help="linf or l2; default: the dataset's.")
EPSILON = click.option("--epsilon", metavar="E", help="Such as 8/255; default: the dataset's.")
TIME_LIMIT = click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help=f"Of one job. Default: {Runtime.time_limit:.0f}.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    default=EXACT,
    metavar="P",
    help="Of searches: float32 (default), folded or mixed.",
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would run and how long.")


def everywhere(command: Command, db: str = "Default: HARNESS_DB or results.db.") -> Command:
    """Add --db (with this help), --device, -q, -v and --version."""
    for option in (
        click.version_option(__version__, prog_name="harness"),
        click.option("-v", "--verbose", is_flag=True, help="Say more."),
        click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            help="Default: cuda if there is one.",
        ),
        click.option("--db", metavar="URL", help=db),
    ):
        command = option(command)
    return command


def open_store(db: str | None, *, create: bool = True, read_only: bool = False) -> Store:
    """The database that --db, HARNESS_DB or the default names."""
    from harness.store.store import Store

    return Store.open(db, create=create, read_only=read_only)


def open_copy(db: str | None) -> Store:
    """The same as it is now, for reading at length while others write."""
    from harness.store.store import Store

    return Store.open(db, create=False, read_only=True, is_copied=True)


def checkpoint_folder(store: Store) -> Path:
    """Where weights lie: HARNESS_CHECKPOINTS, else `checkpoints/` beside the database."""
    import os

    chosen = os.environ.get("HARNESS_CHECKPOINTS")
    if chosen:
        return Path(chosen).expanduser()
    beside = store.path.resolve().parent if store.path else Path.cwd()
    return beside / "checkpoints"


@contextlib.contextmanager
def logged(store: Store, command: str, *, device: str, **facts: Any) -> Iterator[None]:
    """Keep a log of the body in `logs/` beside the database, or in the working folder.

    Args:
        store: what is written.
        command: its name.
        device: `cpu` or `cuda`.
        facts: seeds and what else the first line should say.
    """
    import torch

    from harness.runlog import run_log

    beside = store.path.resolve().parent if store.path else Path.cwd()
    made = {
        "line": sys.argv,
        "database": store.where,
        "versions": versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }
    with run_log(beside / "logs", command, **made, **facts):
        yield


def chosen_runtime(given: Mapping[str, Any]) -> Runtime:
    """Device, batch size, time limit and workers: one per processor, on a GPU one.

    Batches that nobody chose are as large as the memory of a GPU allows.

    Raises:
        HarnessError: as `chosen_device`.
    """
    from harness.evaluation.batching import AUTOMATIC
    from harness.executors.local import processors

    device = chosen_device(given["device"])
    workers = given["workers"] or (processors() if device == "cpu" else 1)
    size = given.get("batch_size") or (Runtime.batch_size if device == "cpu" else AUTOMATIC)
    return Runtime(device, size, workers, given.get("time_limit") or Runtime.time_limit)


def provenance(command: str, device: str) -> Provenance:
    """How this run is made, recorded with its outcomes."""
    from harness.campaign import Provenance

    return Provenance(command, versions(), device_name(device))


def chosen_device(device: str) -> str:
    """`cpu` or `cuda`.

    Raises:
        HarnessError: cuda was asked for and is not there.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("no CUDA device was found: use --device cpu.")
    return device


def parse_settings(settings: Iterable[str]) -> dict[str, Value]:
    """`--set KEY=VALUE` options as a mapping.

    Raises:
        HarnessError: not of that form, a key twice, or a number beyond every range.
    """
    from harness.attacks.attack import parse_value

    found: dict[str, Value] = {}
    for text in settings:
        key, equals, value = (piece.strip() for piece in text.partition("="))
        if not equals or not key or not value:
            raise HarnessError(f"'{text[:80]}' is no setting: write KEY=VALUE.")
        if key in found:
            raise HarnessError(f"--set {key} is given twice.")
        number = found[key] = parse_value(value)
        if isinstance(number, float) and math.isnan(number):
            raise HarnessError(
                f"--set {key}=nan is no number: what a setting takes must lie in its range "
                "(harness show DEFENSE)."
            )
        if isinstance(number, int | float) and abs(number) > LARGEST:
            raise HarnessError(f"--set {key}={value[:20]}... is too large: no setting takes that.")
    return found


def check_new_name(name: str) -> None:
    """Refuse what cannot name a checkpoint.

    Raises:
        HarnessError: it is no name, or that of a defense, which stands for all its checkpoints,
            or of a quoted method, which `harness show` shows.
    """
    from harness.catalogue import DEFENSES, QUOTED
    from harness.store.store import check_name

    check_name(name)
    if name in DEFENSES:
        raise HarnessError(
            f"'{name}' is a defense, and its name means all its checkpoints: choose another name."
        )
    if name in QUOTED:
        raise HarnessError(f"'{name}' is a method that the papers quote: choose another name.")


@contextlib.contextmanager
def models_print_to_stderr() -> Iterator[None]:
    """Keep what the code of a model prints away from stdout, which is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


class _Printable(logging.Formatter):
    """Messages name what is stored and what files hold."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def speak(*, quiet: bool, verbose: bool) -> None:
    """Send the library's messages to stderr."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logger = logging.getLogger("harness")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Printable("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(level)


def tell(message: str) -> None:
    """A line of results on stdout; a terminal obeys some of what texts may hold."""
    click.echo(printable(message))


def say(message: str, *, quiet: bool = False) -> None:
    """A line for the person, on stderr, so that stdout stays for results."""
    if not quiet:
        click.echo(printable(message), err=True)


def versions() -> dict[str, str]:
    """What a run depends on."""
    import platform

    import numpy as np
    import torch

    from harness import __version__

    return {
        "harness": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "system": platform.platform(),
    }


def device_name(device: str) -> str:
    """The device in words, for provenance."""
    import platform

    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def chosen_threat(norm: str | None, epsilon: str | None, default: ThreatModel) -> ThreatModel:
    """What --norm and --epsilon say, the rest from the dataset.

    Raises:
        HarnessError: no norm, or another one without its epsilon: the dataset's would mean
            something else.
    """
    from harness.errors import unknown_name
    from harness.threat import NORMS, ThreatModel, parse_fraction

    if norm is not None and norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if norm is not None and norm != default.norm and epsilon is None:
        ThreatModel(norm, default.epsilon)
        raise HarnessError(
            f"--norm {norm} needs its own --epsilon: {default} is this dataset's default."
        )
    value = default.epsilon if epsilon is None else parse_fraction(epsilon)
    return ThreatModel(norm or default.norm, value)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def make_folder(folder: Path) -> None:
    """Make a folder to write into.

    Raises:
        HarnessError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"cannot make the folder {folder}: {error.strerror}. Choose another with --out."
        ) from error
