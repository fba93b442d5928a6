"""Image folders: `train/CLASS/*.png` and `test/CLASS/*.png`, in a folder or a zip archive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from harness.data.augmentation import Augmentation
from harness.data.datasets import SPLITS, TEST, TRAIN, Dataset, Layout, Pixels
from harness.data.decoding import decode_all, measure
from harness.data.tree import Tree, open_tree
from harness.errors import HarnessError
from harness.threat import ThreatModel

TEST_FOLDERS = ("test", "val", "valid", "validation")
"""Where `folder:PATH` looks for its test split; the first that is there is taken."""

_READ = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_REFUSED = frozenset(
    {".tif", ".tiff", ".gif", ".ppm", ".pgm", ".npy", ".exr", ".heic", ".avif", ".jp2"}
)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Member:
    """One image of a split: the name of its file, and of its class folder."""

    file: str
    label: str


def image_folder(test: Sequence[str] = (TEST,)) -> Layout:
    """The layout of a dataset that is kept as an image folder.

    Args:
        test: names that the folder of the test split may have.
    """
    return Layout(
        f"images in train/CLASS and {' or '.join(f'{name}/CLASS' for name in test)}",
        partial(_read_layout, test=test),
    )


def members(tree: Tree, parent: str) -> list[Member]:
    """The images in the class folders beneath `parent`, mixed by class.

    They are ordered by the last number in their name, then by name and class: a folder that was
    exported with running numbers keeps its original order, and the first n images of any other
    hold every class instead of one.

    Raises:
        HarnessError: a class folder is empty, or holds images of a kind that is never read.
    """
    found = []
    for label in tree.folders(parent):
        files = [name for name in tree.files(f"{parent}/{label}") if _is_image(tree, name)]
        if not files:
            raise HarnessError(
                f"{parent}/{label} in {tree.where} holds no images ({', '.join(sorted(_READ))}): "
                "every class folder needs some."
            )
        found += [Member(file, label) for file in files]
    return ordered(found)


def ordered(found: Iterable[Member]) -> list[Member]:
    """By the last number in their name, then by name and class."""
    return sorted(found, key=_order)


def read_members(tree: Tree, found: Sequence[Member], dataset: Dataset) -> Pixels:
    """Decode `found`, with labels by the names of their class folders."""
    numbers = class_numbers(dataset, {member.label for member in found}, tree.where)
    items = ((f"{member.file} in {tree.where}", tree.read(member.file)) for member in found)
    return Pixels(
        decode_all(items, len(found), dataset.shape),
        np.array([numbers[member.label] for member in found], np.int64),
    )


def folder_dataset(path: str) -> Dataset:
    """The dataset `folder:PATH`: its classes are the folder names, sorted; its images of one size.

    Raises:
        HarnessError: there is nothing at that path, or no two classes of images in it.
    """
    path = str(Path(path).expanduser().resolve())  # one key, from whichever directory
    tree = open_tree(Path(path))
    folders = {split: _folder_of(tree, split, TEST_FOLDERS) for split in SPLITS}
    named = folders[TRAIN] or folders[TEST]
    classes = tuple(tree.folders(named)) if named else ()
    if named is None or len(classes) < 2:
        raise HarnessError(
            f"{path} is no image folder: it needs train/CLASS or {TEST_FOLDERS[0]}/CLASS folders "
            f"(or {', '.join(TEST_FOLDERS[1:])}) for at least two classes, with images in them."
        )
    dataset = Dataset(
        name=f"folder:{path}",
        classes=classes,
        shape=_shape(tree, named),
        threat=ThreatModel("linf", Fraction(8, 255)),
        augmentation=Augmentation(),  # nothing is known that would leave the label alone
        description=f"The image folder {path}.",
        embedded=lambda split: _read_split(tree, dataset, split, folders[split]),
    )
    return dataset


def _read_split(tree: Tree, dataset: Dataset, split: str, parent: str | None) -> Pixels:
    if parent is None:
        wanted = " or ".join((split,) if split == TRAIN else TEST_FOLDERS)
        raise HarnessError(
            f"{dataset.name} has no {split} split: there is no {wanted} folder in it."
        )
    return read_members(tree, members(tree, parent), dataset)


def _read_layout(path: Path, dataset: Dataset, split: str, *, test: Sequence[str]) -> Pixels | None:
    if not (path.is_dir() or path.suffix == ".zip"):
        return None
    tree = open_tree(path)
    parent = _folder_of(tree, split, test)
    return None if parent is None else read_members(tree, members(tree, parent), dataset)


def _folder_of(tree: Tree, split: str, test: Sequence[str]) -> str | None:
    names = (split,) if split == TRAIN else test
    return next((name for name in names if tree.folders(name)), None)


def _shape(tree: Tree, parent: str) -> tuple[int, int, int]:
    """(C, H, W) from the first image of each class: colour if any of them is."""
    firsts: dict[str, Member] = {}
    for member in members(tree, parent):
        firsts.setdefault(member.label, member)
    shapes = [measure(tree.read(first.file), first.file) for first in firsts.values()]
    return max(shape[0] for shape in shapes), *shapes[0][1:]


def class_numbers(dataset: Dataset, labels: set[str], where: Path) -> Mapping[str, int]:
    """Class folder -> label: folders are called like the classes, or like their numbers.

    Raises:
        HarnessError: they are called otherwise, or there is not one for every class.
    """
    count = len(dataset.classes)
    for names in (dataset.classes, [str(number) for number in range(count)]):
        if labels == set(names):
            return {name: number for number, name in enumerate(names)}
    missing = sorted(set(dataset.classes) - labels)[:5]
    unknown = sorted(labels - set(dataset.classes))[:5]
    raise HarnessError(
        f"{where} has {len(labels)} class folders, but {dataset.name} has {count} classes "
        f"(missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}). "
        f"Name them like the classes, or 0 to {count - 1}, in every split."
    )


def _is_image(tree: Tree, name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _REFUSED:
        raise HarnessError(
            f"{name} in {tree.where} is a {suffix} file: images must be 8-bit "
            f"{', '.join(sorted(_READ))}. Convert it, or leave it away."
        )
    return suffix in _READ


def _order(member: Member) -> tuple[int, str, str]:
    stem = PurePosixPath(member.file).stem
    numbers = _NUMBER.findall(stem)
    return (int(numbers[-1][:18]) if numbers else 0, stem, member.label)
