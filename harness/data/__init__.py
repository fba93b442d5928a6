"""Datasets: named splits of images [N, C, H, W] in [0, 1], pinned by digest.

A dataset is one module in this package that registers a `Dataset` when it is imported. Reading and
fetching live in modules of their own, which datasets name in `layouts` and `sources`.
"""

from harness.data.augmentation import Augmentation, augment
from harness.data.datasets import DATASETS, SPLITS, Dataset
from harness.data.loading import dataset, fetch, is_here, load
from harness.data.saved import cache_folder
from harness.data.splits import Split

__all__ = [
    "DATASETS",
    "SPLITS",
    "Augmentation",
    "Dataset",
    "Split",
    "augment",
    "cache_folder",
    "dataset",
    "fetch",
    "is_here",
    "load",
]
