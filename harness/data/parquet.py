"""Parquet files as the Hugging Face hub keeps them: a column of images, a column of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from harness.data.augmentation import Augmentation
from harness.data.datasets import SPLITS, TEST, TRAIN, Dataset, Layout, Pixels
from harness.data.decoding import decode_all, measure
from harness.data.parquet_shard import Shard
from harness.errors import HarnessError
from harness.threat import ThreatModel

TEST_FILES = ("test", "val", "valid", "validation")
"""How `parquet:PATH` may call its test split; the first that is there is taken."""

_FOLDERS = ("", "data", "plain_text", "fashion_mnist", "cifar100")
_MAX_CLASSES = 100_000
_NUMBERED = re.compile(r"-(\d+)-of-(\d+)\.parquet$")


def parquet(test: Sequence[str] = (TEST,)) -> Layout:
    """The layout of a dataset that is kept as parquet files.

    Args:
        test: how the files of the test split may be called.
    """
    names = " or ".join(f"{name}-*.parquet" for name in test)
    return Layout(f"train-*.parquet and {names}, also in data/", partial(_read_layout, test=test))


def parquet_dataset(path: str) -> Dataset:
    """The dataset `parquet:PATH`: classes as the files name them, images of one size.

    Raises:
        HarnessError: there are no such files, or they hold no labelled images.
    """
    path = str(Path(path).expanduser().resolve())  # one key, from whichever directory
    files = {split: _files(Path(path), split, TEST_FILES) for split in SPLITS}
    shards = [Shard.open(file) for file in files[TRAIN] or files[TEST]]
    if not shards:
        raise HarnessError(
            f"{path} holds no train-*.parquet or test-*.parquet files, nor does its folder data/."
        )
    classes = shards[0].classes or _numbered(shards)
    where, first = next(shards[0].images(), (f"the first image of {path}", b""))
    dataset = Dataset(
        name=f"parquet:{path}",
        classes=classes,
        shape=measure(first, where),
        threat=ThreatModel("linf", Fraction(8, 255)),
        augmentation=Augmentation(),  # nothing is known that would leave the label alone
        description=f"The parquet files in {path}.",
        embedded=lambda split: _read(files[split], dataset, split),
    )
    return dataset


def _read_layout(path: Path, dataset: Dataset, split: str, *, test: Sequence[str]) -> Pixels | None:
    files = _files(path, split, test)
    return _read(files, dataset, split) if files else None


def _files(folder: Path, split: str, test: Sequence[str]) -> list[Path]:
    for name in (split,) if split == TRAIN else test:
        for place in _FOLDERS:
            files = sorted((folder / place).glob(f"{name}-*.parquet"))
            files = files or sorted((folder / place).glob(f"{name}.parquet"))
            if files:
                return files
    return []


def _read(files: Sequence[Path], dataset: Dataset, split: str) -> Pixels:
    if not files:
        raise HarnessError(f"{dataset.name} has no {split} split: there are no such parquet files.")
    _check_complete(files)
    shards = [Shard.open(file) for file in files]
    for shard in shards:
        if shard.classes and len(shard.classes) != len(dataset.classes):
            raise HarnessError(
                f"{shard.path} declares {len(shard.classes)} classes, but {dataset.name} has "
                f"{len(dataset.classes)}: these are other data."
            )
    images = (item for shard in shards for item in shard.images())
    count = sum(shard.rows for shard in shards)
    return Pixels(
        decode_all(images, count, dataset.shape),
        np.concatenate([shard.labels() for shard in shards]),
    )


def _check_complete(files: Sequence[Path]) -> None:
    """`train-00000-of-00002.parquet` alone is half a training set."""
    for file in files:
        shard = _NUMBERED.search(file.name)
        if shard is not None and int(shard[2]) != len(files):
            raise HarnessError(
                f"{file.parent} has {len(files)} of the {int(shard[2])} files that {file.name} "
                "belongs to: add the others, or remove what does not belong."
            )


def _numbered(shards: Sequence[Shard]) -> tuple[str, ...]:
    count = max(int(shard.labels().max(initial=-1)) for shard in shards) + 1
    if count > _MAX_CLASSES:
        raise HarnessError(
            f"{shards[0].path.parent} has labels up to {count - 1}, which is above any number of "
            f"classes: the limit is {_MAX_CLASSES - 1}."
        )
    return tuple(str(number) for number in range(count))
