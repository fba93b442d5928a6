"""Corrupted test images, wherever their pixels come from, and the identity of what they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.corruptions import Corruption, corruption_named
from harness.data.corrupted_files import corrupted_files
from harness.data.datasets import Dataset
from harness.data.generated_corruptions import Generated
from harness.data.splits import Split
from harness.errors import HarnessError
from harness.identity import AttackSpec


class Source(Protocol):
    """Where corrupted pixels come from.

    `pixels` is `files` or `generated`; `made_by` says more: the layout, or the library.
    """

    pixels: str
    made_by: str

    def fingerprint(self, corruption: Corruption, severity: int) -> str:
        """What changes when the pixels do."""
        ...

    def read(
        self, corruption: Corruption, severity: int, first: int, last: int
    ) -> NDArray[np.uint8]:
        """Images first to last - 1, [last - first, H, W, C]."""
        ...


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A test split under one corruption and severity; read or made slice by slice.

    Args:
        clean: the split as it is: its labels, its order.
        source: of the pixels.
        corruption: which one.
        severity: 1 to 5.
    """

    clean: Split
    source: Source
    corruption: Corruption
    severity: int

    @property
    def labels(self) -> Tensor:
        """[N] int64."""
        return self.clean.labels

    def __len__(self) -> int:
        return len(self.clean)

    def batch(self, first: int, last: int) -> Tensor:
        """Images first to last - 1 as float32 [last - first, C, H, W] in [0, 1].

        Raises:
            HarnessError: the slice leaves the split, or the files are not what they should be.
        """
        self.clean.batch(first, last)  # refuses the same slices
        pixels = self.source.read(self.corruption, self.severity, first, last)
        return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 255

    @cached_property
    def spec(self) -> AttackSpec:
        """The corruption as an attack that asks nothing of the model; it names its pixels."""
        parameters = {
            "fingerprint": self.source.fingerprint(self.corruption, self.severity),
            "made_by": self.source.made_by,
            "pixels": self.source.pixels,
        }
        return AttackSpec(self.corruption.name, "logits", "none", tuple(sorted(parameters.items())))


def corrupted(
    dataset: Dataset, split: Split, name: str, severity: int, folder: Path | None = None
) -> Corrupted:
    """The test split under the corruption called `name`; see `corruption_source`."""
    source = corruption_source(dataset, split, folder)
    return Corrupted(split, source, corruption_named(name), severity)


def corruption_source(dataset: Dataset, split: Split, folder: Path | None = None) -> Source:
    """Where the corrupted images of a test split come from.

    Args:
        dataset: what the split belongs to.
        split: the clean test images.
        folder: of files in the layout of CIFAR-10-C or ImageNet-C; None to generate.

    Raises:
        HarnessError: the files do not fit, or the library that generates is not installed.
    """
    if split.split != "test":
        raise HarnessError(f"only test images are corrupted, not the {split.split} split.")
    if folder is None:
        return Generated(split)
    return corrupted_files(folder.expanduser(), dataset, split)
