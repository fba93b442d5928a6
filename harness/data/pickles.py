"""CIFAR as its authors published it: Python 2 pickles, read without executing what they say.

A pickle is a program, and the files under `--data-dir` may come from anywhere. So only the
instructions that plain values need are understood, and no class or function that a file names
is ever used: the names of a NumPy array are answered by stand-ins, every other is refused.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.archives import read_tar
from harness.data.datasets import TRAIN, Dataset, Layout, Pixels
from harness.errors import HarnessError
from harness.plain_pickle import PlainUnpickler, StandIn

LIMIT = 192 * 1024**2
"""Bytes of the largest pickle: CIFAR-100's training set has 155 MB."""

_LABELS = ("labels", "fine_labels")


@dataclass(frozen=True)
class Batches:
    """The names that one of the CIFARs has for its files.

    Args:
        folder: what the archive unpacks to.
        archive: the archive itself.
        train: pickles of the training split, in order.
        test: pickles of the test split.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def pickles(batches: Batches) -> Layout:
    """The layout that torchvision downloads and unpacks."""
    return Layout(
        f"the folder {batches.folder} or the archive {batches.archive}, as torchvision leaves them",
        partial(_read_layout, batches=batches),
    )


def load_pickle(data: bytes, where: str) -> dict[str, Any]:
    """The dictionary of plain values and uint8 arrays that a pickle holds.

    Args:
        data: the pickle.
        where: its name, for errors.

    Raises:
        HarnessError: the pickle is damaged, or names anything that these files do not need.
    """
    try:
        values = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return {_text(key): value for key, value in values.items()}
    except HarnessError as error:
        raise HarnessError(f"{where}: {error}") from error
    except Exception as error:  # a broken pickle raises nearly anything
        raise HarnessError(
            f"{where} is no whole CIFAR file ({type(error).__name__}: {error}). Fetch it again."
        ) from error


class _Array(StandIn):
    """Stands in for a NumPy array: takes its state, and becomes one after checks."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, data = state
        if not isinstance(kind, _Kind) or kind.name != "u1" or not isinstance(data, bytes):
            raise HarnessError("it holds an array that is not uint8, so it is no CIFAR file.")
        if len(shape) != 2 or prod(shape) != len(data):
            raise HarnessError(f"its array of shape {shape} has {len(data)} bytes: it is damaged.")
        self.value = np.frombuffer(data, np.uint8).reshape(*shape, order="F" if is_fortran else "C")


class _Kind(StandIn):
    """Stands in for a NumPy data type: remembers its name."""

    def __init__(self, name: object = "", *_: object) -> None:
        self.name = _text(name)

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment, which mean nothing for single bytes."""


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
}


class _Unpickler(PlainUnpickler):
    """Reads plain values; every name in the file is answered by a stand-in or refused."""

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) not in _STAND_INS:
            raise HarnessError(
                f"it names {module}.{name}, which no CIFAR file needs: somebody changed it. "
                "Nothing of it was executed. Fetch the data again."
            )
        return _STAND_INS[module, name]


def _read_layout(path: Path, dataset: Dataset, split: str, *, batches: Batches) -> Pixels | None:
    names = batches.train if split == TRAIN else batches.test
    for folder in (path / batches.folder, path):
        if any((folder / name).is_file() for name in names):
            return _join([(str(folder / name), _content(folder / name)) for name in names], dataset)
    for archive in (path / batches.archive, path):
        if archive.name == batches.archive and archive.is_file():
            contents = read_tar(archive, [f"{batches.folder}/{name}" for name in names], LIMIT)
            return _join(
                [(f"{name} in {archive}", data) for name, data in contents.items()], dataset
            )
    return None


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > LIMIT:
            raise HarnessError(f"{file} is above {LIMIT // 1024**2} MiB: it is no CIFAR file.")
        return file.read_bytes()
    except OSError as error:
        raise HarnessError(
            f"{file} cannot be read: {error}. The split needs all its files."
        ) from error


def _join(contents: Sequence[tuple[str, bytes]], dataset: Dataset) -> Pixels:
    """One split from its pickles; each holds rows of all red, all green, then all blue pixels."""
    channels, height, width = dataset.shape
    images, labels = [], []
    for where, data in contents:
        rows, numbers = _batch(load_pickle(data, where), where)
        if rows.shape != (len(numbers), channels * height * width):
            raise HarnessError(
                f"{where} holds pixels of shape {rows.shape} for {len(numbers)} labels: it must be "
                f"one row of {channels * height * width} per label."
            )
        images.append(rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1))
        labels += numbers
    return Pixels(np.concatenate(images), np.array(labels, np.int64))


def _batch(values: dict[str, Any], where: str) -> tuple[NDArray[np.uint8], list[int]]:
    array = values.get("data")
    labels = next((values[name] for name in _LABELS if name in values), None)
    if not isinstance(array, _Array) or not isinstance(labels, list):
        raise HarnessError(
            f"{where} has the entries {', '.join(map(str, values))}: it needs an array "
            f"`data` and a list {' or '.join(f'`{name}`' for name in _LABELS)}."
        )
    if not all(isinstance(label, int) and abs(label) < 2**31 for label in labels):
        raise HarnessError(f"{where} has labels that are no whole numbers.")
    return array.value, labels


def _text(value: object) -> str:
    """Python 2 wrote names as bytes, Python 3 as text."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
