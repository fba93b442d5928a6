"""Getting files from elsewhere: over HTTP, or with a package manager's own client."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO

from harness.data.datasets import SPLITS, Dataset, Layout, Pixels
from harness.errors import HarnessError

logger = logging.getLogger("harness.data")

_TIMEOUT = 10.0  # seconds without a byte; a network that refuses must say so quickly
_CHUNK = 1024**2
_CIFAR_LIMIT = 256 * 1024**2
_PROGRESS = 20 * 1024**2


def download(url: str, folder: Path, *, md5: str, limit: int) -> Path:
    """Fetch one file over HTTP.

    Args:
        url: http or https.
        folder: where it is written, under its own name.
        md5: digest that its publisher or torchvision gives.
        limit: bytes that it may not exceed.

    Returns:
        The file.

    Raises:
        HarnessError: it is too large, breaks off, or is not the file of that digest.
        OSError: the network refuses or falls silent.
    """
    target = folder / url.rsplit("/", 1)[-1]
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT) as answer,  # noqa: S310 - our own URLs
            target.open("wb") as file,
        ):
            for chunk in _chunks(answer, url, limit):
                digest.update(chunk)
                file.write(chunk)
    except HTTPException as error:
        raise HarnessError(f"{url} broke off ({error!r})") from error
    if digest.hexdigest() != md5:
        raise HarnessError(f"{url} has MD5 {digest.hexdigest()} and not {md5}: it was changed.")
    return target


def _chunks(answer: IO[bytes], url: str, limit: int) -> Iterator[bytes]:
    """What `answer` delivers, with a line of progress for every 20 MiB."""
    count = 0
    while chunk := answer.read(_CHUNK):
        count += len(chunk)
        if count > limit:
            raise HarnessError(f"{url} is above {limit} bytes: it is not what it should be.")
        if count // _PROGRESS > (count - len(chunk)) // _PROGRESS:
            logger.info("%s: %d MiB", url, count // 1024**2)
        yield chunk


def run_client(command: Sequence[str], folder: Path, *, seconds: float) -> None:
    """Run a package manager's client in `folder`.

    Raises:
        HarnessError: it is not installed, fails, or takes longer than `seconds`.
    """
    program = shutil.which(command[0])
    if program is None:
        raise HarnessError(f"`{command[0]}` is not installed")
    try:
        subprocess.run(
            [program, *command[1:]], cwd=folder, check=True, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"`{' '.join(command)}` took more than {seconds:.0f} seconds") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise HarnessError(f"`{' '.join(command)}` failed: {reason[:200]}") from error


def torchvision_cifar(name: str, layout: Layout) -> Callable[[Path, Dataset], Mapping[str, Pixels]]:
    """A fetch of the archive that torchvision's class `name` points to, read by `layout`.

    torchvision itself would wait for a silent network without end, and run the pickles.
    """

    def fetch(scratch: Path, dataset: Dataset) -> Mapping[str, Pixels]:
        import torchvision  # noqa: PLC0415 - seconds to import

        published = getattr(torchvision.datasets, name)
        download(published.url, scratch, md5=published.tgz_md5, limit=_CIFAR_LIMIT)
        return read_every_split(scratch, dataset, layout)

    return fetch


def read_every_split(folder: Path, dataset: Dataset, layout: Layout) -> Mapping[str, Pixels]:
    """Both splits, where a source has just put them.

    Raises:
        HarnessError: one of them is not there.
    """
    found = {split: layout.read(folder, dataset, split) for split in SPLITS}
    if any(pixels is None for pixels in found.values()):
        raise HarnessError(f"{folder} does not hold {layout.looks_for}")
    return {split: pixels for split, pixels in found.items() if pixels is not None}
