"""Digits: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn. The default."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.augmentation import Augmentation
from harness.data.datasets import TEST, TRAIN, Dataset, Pixels, register
from harness.errors import HarnessError
from harness.threat import ThreatModel

_SLICES = {TRAIN: slice(0, 1297), TEST: slice(1297, 1797)}
_LEVELS = 16  # the pixels count dark dots in a 4 x 4 block: 0 to 16


_FILE = Path("datasets", "data", "digits.csv.gz")


def _read(split: str) -> Pixels:
    """The last 500 images, in scikit-learn's order, are the test split."""
    table = _table()[_SLICES[split]]
    images = np.round(table[:, :-1].reshape(-1, 8, 8) * 255 / _LEVELS).astype(np.uint8)
    return Pixels(images[..., np.newaxis], table[:, -1].astype(np.int64))


@cache
def _table() -> NDArray[np.float64]:
    """[1797, 65]: 64 pixels and the label; as `load_digits`, slow to import, has it.

    Raises:
        HarnessError: scikit-learn is not here, or without its data.
    """
    found = importlib.util.find_spec("sklearn")
    places = (found and found.submodule_search_locations) or ()
    for place in places:
        if Path(place, _FILE).is_file():
            return np.loadtxt(Path(place, _FILE), delimiter=",")
    raise HarnessError(f"scikit-learn's {_FILE.name} is not here: install scikit-learn again.")


DIGITS = register(
    Dataset(
        name="digits",
        classes=tuple("0123456789"),
        shape=(1, 8, 8),
        # 1/10 hardly tells defenses apart on these images, 1/5 does.
        threat=ThreatModel("linf", Fraction(1, 5)),
        # The digits fill their frame. With pad 1, PGD-AT at 1/5 loses 4 to 10 points of clean and
        # 10 to 27 of PGD-40 accuracy (three seeds, 20 epochs); and a mirrored digit is none.
        augmentation=Augmentation(pad=0, flip=False),
        description="1,797 handwritten digits of 8 x 8 pixels, from scikit-learn.",
        embedded=_read,
        sha256={
            TRAIN: "3e58fed010119786eeebaf85b859c932686178bbddd39d84965d051b9036d76d",
            TEST: "b66b0d39953c89848e8e644c7c9bb2b764024599b620ab7deb97d8ba81d91547",
        },
        labels_sha256={
            TRAIN: "3780054f44184fcb9366c0145122aa98df16d3cd4da3929177bfafb8d662589f",
            TEST: "21366e8b6fa7dbed5b9b389e1fae578da52473ab95cf7a00edb059eef76a43fa",
        },
    )
)
