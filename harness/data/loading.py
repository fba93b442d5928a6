"""From the name of a dataset to its checked images: find, read, fetch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.data.datasets import DATASETS, SPLITS, Dataset, Pixels
from harness.data.image_folder import folder_dataset
from harness.data.parquet import parquet_dataset
from harness.data.saved import SAVED, cache_folder, file_of, save
from harness.data.splits import Split, check
from harness.errors import HarnessError, unknown_name

logger = logging.getLogger("harness.data")

BY_PATH: Mapping[str, Callable[[str], Dataset]] = {
    "folder": folder_dataset,
    "parquet": parquet_dataset,
}
"""Datasets that are named by where they are: `folder:PATH`."""


def dataset(name: str) -> Dataset:
    """The dataset called `name`, or the one that `folder:PATH` or `parquet:PATH` points to.

    Raises:
        HarnessError: nothing has that name, or there is no dataset at that path.
    """
    kind, colon, path = name.partition(":")
    if not colon:
        return DATASETS[name]
    if kind not in BY_PATH:
        raise unknown_name("kind of dataset", kind, BY_PATH)
    return BY_PATH[kind](path)


def load(name: str, split: str, *, data_dir: Path | None = None, download: bool = True) -> Split:
    """Read one split into memory, fetching it first if nobody has yet.

    Args:
        name: a registered dataset, `folder:PATH` or `parquet:PATH`.
        split: `train` or `test`.
        data_dir: where the files are, in any layout the dataset knows; without it, the cache.
        download: whether a dataset that is not in the cache may be fetched.

    Raises:
        HarnessError: the dataset is unknown, not there, damaged, or not what it should be.
    """
    found = dataset(name)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if found.embedded is not None:
        if data_dir is not None:
            raise HarnessError(f"{name} needs no files: leave away --data-dir {data_dir}.")
        return check(found, split, found.embedded(split))
    if data_dir is not None:
        return check(found, split, _read(found, split, Path(data_dir).expanduser()))
    if not file_of(cache_folder(), name, split).is_file():
        if not download:
            raise _not_here(found, cache_folder(), ["downloads are switched off"])
        fetch(name)
    return check(found, split, _read(found, split, cache_folder()))


def is_here(name: str, split: str, *, data_dir: Path | None = None) -> bool:
    """Whether a split can be had without fetching it; what is there may still be damaged.

    Args:
        name: as for `load`.
        split: `train` or `test`.
        data_dir: as for `load`.
    """
    if dataset(name).embedded is None and data_dir is None:
        return file_of(cache_folder(), name, split).is_file()
    try:
        load(name, split, data_dir=data_dir)
    except HarnessError as error:
        logger.debug("%s %s: %s", name, split, error)
        return False
    return True


def fetch(name: str, folder: Path | None = None, *, data_dir: Path | None = None) -> Path:
    """Bring every split of a dataset into `folder`, in the harness's own files.

    What is already there and whole stays. Every source is checked against the pinned digests.

    Args:
        name: a registered dataset.
        folder: where to; the cache by default. `load` reads it with `data_dir=folder`.
        data_dir: convert the files found here instead of downloading; it saves decoding them
            again at every run.

    Returns:
        The folder.

    Raises:
        HarnessError: no source delivered it; the sentence says why for each.
    """
    found = dataset(name)
    target = Path(folder).expanduser() if folder is not None else cache_folder()
    if found.embedded is not None:
        logger.info("%s needs no files: nothing to fetch.", name)
        return target
    if data_dir is not None:
        origin = Path(data_dir).expanduser()
        _keep(found, {split: _read(found, split, origin) for split in SPLITS}, target)
    elif not _is_whole(found, target):
        _from_sources(found, target)
    return target


def _read(found: Dataset, split: str, folder: Path) -> Pixels:
    if not folder.exists():
        raise HarnessError(
            f"there is no {folder}: --data-dir must name a folder or file that exists."
        )
    try:
        for layout in (SAVED, *found.layouts):
            pixels = layout.read(folder, found, split)
            if pixels is not None:
                return pixels
    except OSError as error:
        raise HarnessError(f"{folder} cannot be read: {error}.") from error
    known = "; ".join(layout.looks_for for layout in (*found.layouts, SAVED))
    raise HarnessError(f"no {found.name} {split} images in {folder}. It may hold: {known}.")


def _is_whole(found: Dataset, folder: Path) -> bool:
    """Whether `fetch` has nothing to do: every split is there, undamaged and as pinned."""
    try:
        for split in SPLITS:
            pixels = SAVED.read(folder, found, split)
            if pixels is None or check(found, split, pixels).is_exact is False:
                return False
    except HarnessError:
        return False
    return True


def _from_sources(found: Dataset, target: Path) -> None:
    failures = []
    for source in found.sources:
        logger.info("%s: fetching from %s", found.name, source.name)
        try:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target, prefix=".fetching-") as scratch:
                _keep(found, source.fetch(Path(scratch), found), target)
        except (HarnessError, OSError) as error:
            logger.info("%s: %s did not deliver: %s", found.name, source.name, error)
            failures.append(f"{source.name}: {str(error).rstrip('.')}")
        else:
            return
    raise _not_here(found, target, failures)


def _keep(found: Dataset, splits: Mapping[str, Pixels], target: Path) -> None:
    """Check every split before the first is written."""
    checked = [check(found, split, pixels) for split, pixels in splits.items()]
    for split in checked:
        if split.is_exact is False:
            raise HarnessError(
                f"its {len(split)} {split.split} images have SHA-256 {split.sha256[:12]} and not "
                "the pinned one. Only exact images are kept; read others with --data-dir."
            )
    for split in checked:
        logger.info("%s: wrote %s, %d images", found.name, save(target, split), len(split))


def _not_here(found: Dataset, folder: Path, failures: list[str]) -> HarnessError:
    known = "; ".join(layout.looks_for for layout in found.layouts)
    return HarnessError(
        f"{found.name} is not in {folder} and could not be fetched ({'; '.join(failures)}). "
        f"If you have it, name its folder with --data-dir; it may hold: {known}. Or run "
        f"`harness data fetch {found.name}` where the network allows it."
    )
