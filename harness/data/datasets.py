"""What a dataset is: a name, its classes, and the ways in which its images are read and fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.augmentation import Augmentation
from harness.registry import Registry
from harness.threat import ThreatModel

TRAIN, TEST = "train", "test"
SPLITS = (TRAIN, TEST)


@dataclass(frozen=True, eq=False)
class Pixels:
    """One split as a reader found it, before it is checked against its dataset.

    Args:
        images: [N, H, W, C] uint8.
        labels: [N] integers.
        sha256: digest of the images as their file claims it; empty if it claims none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sha256: str = ""


@dataclass(frozen=True)
class Layout:
    """One way in which files may hold a dataset.

    Args:
        looks_for: what a person would put there, for errors and help.
        read: (path, dataset, split) -> the split, or None where this layout is not.
    """

    looks_for: str
    read: Callable[[Path, Dataset, str], Pixels | None]


@dataclass(frozen=True)
class Source:
    """One place from which a dataset can be fetched.

    Args:
        name: what it is, for progress and errors.
        fetch: (empty scratch folder, dataset) -> every split. It raises HarnessError or OSError
            where the place cannot be reached or holds something else.
    """

    name: str
    fetch: Callable[[Path, Dataset], Mapping[str, Pixels]]


@dataclass(frozen=True)
class Dataset:
    """Labelled images in named splits, with what is usual for them.

    Args:
        name: as in `--dataset`.
        classes: K names; a label is an index into them.
        shape: (C, H, W) of every image.
        threat: the default threat model.
        augmentation: the default augmentation of training images.
        description: one sentence for `harness list datasets`.
        layouts: how files given with `--data-dir` are read, in the order tried.
        sources: where it is fetched from, in the order tried.
        embedded: split -> the split, for what comes with an installed package or is named by
            its own path; then neither a folder nor a download is needed.
        sha256: pinned digests of the images per split: over uint8 [N, H, W, C] in index order.
        labels_sha256: pinned digests of the labels per split: over uint8 [N].
        index_lists: which images may be asked for; `first-n` are the first n in the dataset's
            own order, as RobustBench and AutoAttack count them.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    threat: ThreatModel
    augmentation: Augmentation
    description: str
    layouts: tuple[Layout, ...] = ()
    sources: tuple[Source, ...] = ()
    embedded: Callable[[str], Pixels] | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    labels_sha256: Mapping[str, str] = field(default_factory=dict)
    index_lists: tuple[str, ...] = ("first-n",)


DATASETS: Registry[Dataset] = Registry("dataset", "harness.data", "robust_harness.datasets")


def register(dataset: Dataset) -> Dataset:
    """Make `dataset` known under its name."""
    DATASETS.add(dataset.name, dataset)
    return dataset
