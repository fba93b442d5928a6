"""Corrupted test images from files in the two published layouts, checked as if hostile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.corruptions import Corruption
from harness.data.datasets import Dataset
from harness.data.decoding import decode_all
from harness.data.image_folder import Member, class_numbers, members
from harness.data.splits import Split, sha256
from harness.data.tree import open_tree
from harness.errors import HarnessError
from harness.identity import SHARD, digest
from harness.threat import SEVERITIES

Image = NDArray[np.uint8]
LABELS = "labels.npy"


class ArrayFiles:
    """CIFAR-10-C's layout: NAME.npy of uint8 [5 N, H, W, C], one severity after the other.

    `labels.npy` holds the labels of all 5 N images, or of N where a copy was shortened; they must
    be those of the test split, since the images are paired with it one by one.

    Args:
        folder: of the files.
        split: the clean test images, N of them.

    Raises:
        HarnessError: the labels are missing or are not those of the split.
    """

    pixels = "files"
    made_by = "NAME.npy"

    def __init__(self, folder: Path, split: Split) -> None:
        self._folder = folder
        _, channels, height, width = split.images.shape
        self._count, self._shape = len(split), (height, width, channels)
        labels = _mapped(folder / LABELS)
        expected = split.labels.numpy()
        if labels.shape == (len(SEVERITIES) * self._count,):
            expected = np.tile(expected, len(SEVERITIES))
        if not np.issubdtype(labels.dtype, np.integer) or not np.array_equal(labels, expected):
            raise HarnessError(
                f"{folder / LABELS} holds {labels.dtype} {labels.shape} that are not the labels of "
                f"the {self._count} test images of {split.dataset}: these files belong to another "
                "dataset, order or part of it."
            )

    def fingerprint(self, corruption: Corruption, severity: int) -> str:
        """SHA-256 of all images of this corruption and severity."""
        return sha256(self.read(corruption, severity, 0, self._count))

    def read(self, corruption: Corruption, severity: int, first: int, last: int) -> Image:
        """Images first to last - 1, [last - first, H, W, C]."""
        path = self._folder / f"{corruption.name}.npy"
        images = _mapped(path)
        wanted = (len(SEVERITIES) * self._count, *self._shape)
        if images.dtype != np.uint8 or images.shape != wanted:
            raise HarnessError(
                f"{path} holds {images.dtype} {images.shape}, not uint8 {wanted}: "
                f"{len(SEVERITIES)} severities of {self._count} images each."
            )
        start = (severity - 1) * self._count
        return np.ascontiguousarray(images[start + first : start + last])


class FolderFiles:
    """ImageNet-C's layout: NAME/SEVERITY/CLASS/*.JPEG, in a folder or a zip archive.

    Args:
        folder: of the corruptions.
        dataset: of the test images; its images have one size, and so must these.
        split: the clean test images, in the order in which an image folder is read.
    """

    pixels = "files"
    made_by = "NAME/SEVERITY/CLASS"

    def __init__(self, folder: Path, dataset: Dataset, split: Split) -> None:
        self._tree, self._dataset, self._split = open_tree(folder), dataset, split
        self._members: dict[tuple[str, int], Sequence[Member]] = {}

    def fingerprint(self, corruption: Corruption, severity: int) -> str:
        """SHA-256 over the names of all images and the pixels of the first hundred.

        Not over all pixels: decoding ImageNet-C costs more than judging it.
        """
        names = [member.file for member in self._found(corruption, severity)]
        last = min(SHARD, len(names))
        return digest([names, sha256(self.read(corruption, severity, 0, last))])

    def read(self, corruption: Corruption, severity: int, first: int, last: int) -> Image:
        """Images first to last - 1, [last - first, H, W, C]."""
        wanted = self._found(corruption, severity)[first:last]
        items = ((f"{m.file} in {self._tree.where}", self._tree.read(m.file)) for m in wanted)
        return decode_all(items, len(wanted), self._dataset.shape)

    def _found(self, corruption: Corruption, severity: int) -> Sequence[Member]:
        """The images of one corruption and severity, if they pair with the test split."""
        key = (corruption.name, severity)
        if key not in self._members:
            found = members(self._tree, f"{corruption.name}/{severity}")
            numbers = class_numbers(self._dataset, {m.label for m in found}, self._tree.where)
            labels = [numbers[member.label] for member in found]
            if labels != self._split.labels.tolist():
                raise HarnessError(
                    f"{corruption.name}/{severity} in {self._tree.where} holds {len(found)} images "
                    f"that do not pair with the {len(self._split)} test images of "
                    f"{self._dataset.name}: there must be one of each, named like it."
                )
            self._members[key] = found
        return self._members[key]


def corrupted_files(folder: Path, dataset: Dataset, split: Split) -> ArrayFiles | FolderFiles:
    """The files in `folder`, in the layout that they have.

    Raises:
        HarnessError: there are none, or they do not fit the test images.
    """
    if (folder / LABELS).is_file():
        return ArrayFiles(folder, split)
    if not folder.exists():
        raise HarnessError(f"there is no {folder}: --corrupted-dir must name what exists.")
    if folder.is_dir() and next(folder.glob("*.npy"), None) is not None:
        raise HarnessError(
            f"{folder} has no {LABELS}: it says which test image each row is, copy it too."
        )
    return FolderFiles(folder, dataset, split)


def _mapped(path: Path) -> NDArray[np.generic]:
    """An array that stays on disk; nothing in the file is ever executed."""
    if not path.is_file():
        raise HarnessError(
            f"there is no {path}: --corrupted-dir must hold NAME.npy and {LABELS}, as CIFAR-10-C "
            "does, or NAME/SEVERITY/CLASS folders of images, as ImageNet-C does."
        )
    try:
        found: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise HarnessError(f"{path} is no whole .npy file ({error}).") from error
    return found
