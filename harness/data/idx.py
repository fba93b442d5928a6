"""IDX, the format of MNIST and its kin: a header of big-endian sizes, then bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.datasets import TRAIN, Dataset, Layout, Pixels
from harness.errors import HarnessError

_UNSIGNED_BYTE = 8
_MAX_COUNT = 1_000_000


def idx(*folders: str) -> Layout:
    """The layout of the four files `train-images-idx3-ubyte` and so on, plain or `.gz`.

    Args:
        folders: where they may lie beneath the given folder, besides right in it.
    """
    return Layout(
        "train-images-idx3-ubyte, train-labels-idx1-ubyte and both t10k- files, plain or .gz",
        partial(_read_layout, folders=("", *folders)),
    )


def read_idx(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array in an IDX file.

    Args:
        file: plain, or gzip if its name ends so.
        shape: sizes after the first; the header must declare the same, so that a small file
            that would unpack to a huge one is never unpacked.

    Returns:
        [N, *shape].

    Raises:
        HarnessError: the file is damaged or holds other sizes.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            magic, count, *sizes = struct.unpack(
                f">{2 + len(shape)}I", stream.read(8 + 4 * len(shape))
            )
            if magic != (_UNSIGNED_BYTE << 8 | 1 + len(shape)) or tuple(sizes) != shape:
                raise HarnessError(
                    f"{file} is no IDX file of bytes [N{''.join(f', {s}' for s in shape)}]."
                )
            if count > _MAX_COUNT:
                raise HarnessError(f"{file} declares {count} images: the limit is {_MAX_COUNT}.")
            expected = count * prod(shape)
            data = stream.read(expected + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise HarnessError(f"{file} cannot be read ({error}). Fetch it again.") from error
    if len(data) != expected:
        raise HarnessError(
            f"{file} declares {count} entries but its length differs: it is damaged."
        )
    return np.frombuffer(data, np.uint8).reshape(count, *shape)


def _read_layout(
    path: Path, dataset: Dataset, split: str, *, folders: tuple[str, ...]
) -> Pixels | None:
    prefix = "train" if split == TRAIN else "t10k"
    for folder in folders:
        images = _find(path / folder / f"{prefix}-images-idx3-ubyte")
        if images is None:
            continue
        labels = _find(path / folder / f"{prefix}-labels-idx1-ubyte")
        if labels is None:
            raise HarnessError(
                f"{images} is there but its labels {prefix}-labels-idx1-ubyte are not."
            )
        pixels = read_idx(images, dataset.shape[1:])
        return Pixels(pixels[..., np.newaxis], read_idx(labels, ()).astype(np.int64))
    return None


def _find(file: Path) -> Path | None:
    names = (file, file.with_name(file.name + ".gz"))
    return next((name for name in names if name.is_file()), None)
