"""A split in memory: checked images and labels, and the digests that identify them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.datasets import Dataset, Pixels
from harness.errors import HarnessError


@dataclass(frozen=True, eq=False)
class Split:
    """All images of one split, in the dataset's own order.

    Args:
        dataset: name of the dataset.
        split: `train` or `test`.
        images: [N, C, H, W] uint8, contiguous.
        labels: [N] int64, in [0, K).
        sha256: over the images as uint8 [N, H, W, C] in index order.
        labels_sha256: over the labels as uint8 [N] (little-endian int64 if K is above 256).
        is_exact: whether both digests are the pinned ones; None if nothing is pinned.
    """

    dataset: str
    split: str
    images: Tensor
    labels: Tensor
    sha256: str
    labels_sha256: str
    is_exact: bool | None

    @property
    def identity(self) -> str:
        """What keys a result on these images: their digest, and that of labels nobody pinned."""
        if self.is_exact:
            return self.sha256
        return hashlib.sha256(f"{self.sha256}{self.labels_sha256}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, first: int, last: int) -> Tensor:
        """Images first to last - 1 as float32 [last - first, C, H, W] in [0, 1].

        Raises:
            HarnessError: the slice is empty or leaves the split.
        """
        if not 0 <= first < last <= len(self):
            raise HarnessError(
                f"images {first} to {last} are no slice of {self.dataset} {self.split}, "
                f"which holds {len(self)}: give 0 <= first < last <= {len(self)}."
            )
        return self.images[first:last].float() / 255


def check(dataset: Dataset, split: str, pixels: Pixels) -> Split:
    """The split that `pixels` hold, if they fit `dataset`.

    Raises:
        HarnessError: no images, another shape or type, a label that is no class, or pixels that
            differ from what their own file claims.
    """
    what = f"{dataset.name} {split}"
    _check_images(dataset, what, pixels.images)
    _check_labels(dataset, what, pixels)
    digest = sha256(pixels.images)
    if pixels.sha256 and pixels.sha256 != digest:
        raise HarnessError(
            f"{what} is damaged: its images have SHA-256 {digest[:12]}, but their file says "
            f"{pixels.sha256[:12]}. Delete the file and fetch it again."
        )
    labels_digest = sha256(pixels.labels.astype(np.uint8 if len(dataset.classes) <= 256 else "<i8"))
    return Split(
        dataset=dataset.name,
        split=split,
        images=torch.from_numpy(np.array(pixels.images.transpose(0, 3, 1, 2), order="C")),
        labels=torch.from_numpy(pixels.labels.astype(np.int64)),
        sha256=digest,
        labels_sha256=labels_digest,
        is_exact=_is_exact(dataset, split, digest, labels_digest),
    )


def sha256(array: NDArray[np.generic]) -> str:
    """SHA-256 over the array's bytes in index order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _check_images(dataset: Dataset, what: str, images: NDArray[np.uint8]) -> None:
    channels, height, width = dataset.shape
    if images.dtype != np.uint8:
        raise HarnessError(f"{what} has {images.dtype} pixels: they must be uint8.")
    if images.shape[1:] != (height, width, channels):
        raise HarnessError(
            f"{what} has images of shape {images.shape[1:]} (height, width, channels): "
            f"{dataset.name} has {(height, width, channels)}."
        )
    if len(images) == 0:
        raise HarnessError(f"{what} holds no images.")


def _check_labels(dataset: Dataset, what: str, pixels: Pixels) -> None:
    images, labels, classes = pixels.images, pixels.labels, len(dataset.classes)
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise HarnessError(
            f"{what} has {labels.dtype} labels of shape {labels.shape} for {len(images)} images: "
            "there must be one whole number per image."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise HarnessError(
            f"{what} has labels from {low} to {high}: its {classes} classes are numbered "
            f"0 to {classes - 1}."
        )


def _is_exact(dataset: Dataset, split: str, images: str, labels: str) -> bool | None:
    pinned = dataset.sha256.get(split)
    if pinned is None:
        return None
    return images == pinned and labels == dataset.labels_sha256.get(split, labels)
