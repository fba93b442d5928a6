"""Tiny-ImageNet: 200 classes of ImageNet at 64 x 64 (Le and Yang, 2015), and at 32 x 32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.augmentation import Augmentation
from harness.data.datasets import TRAIN, Dataset, Layout, Pixels, Source, register
from harness.data.download import download, read_every_split
from harness.data.image_folder import Member, image_folder, members, ordered, read_members
from harness.data.parquet import parquet
from harness.data.saved import SAVED, cache_folder
from harness.data.tree import Tree, open_tree
from harness.errors import HarnessError
from harness.threat import ThreatModel

_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
_LIMIT = 512 * 1024**2
_FOLDER = "tiny-imagenet-200"
_VALIDATION = ("val", "valid", "validation")

# WordNet numbers, sorted: the order of labels in every published loader and in the hub's files.
# wnids.txt has the same numbers in another order.
_CLASSES = """
    n01443537 n01629819 n01641577 n01644900 n01698640 n01742172 n01768244 n01770393 n01774384
    n01774750 n01784675 n01855672 n01882714 n01910747 n01917289 n01944390 n01945685 n01950731
    n01983481 n01984695 n02002724 n02056570 n02058221 n02074367 n02085620 n02094433 n02099601
    n02099712 n02106662 n02113799 n02123045 n02123394 n02124075 n02125311 n02129165 n02132136
    n02165456 n02190166 n02206856 n02226429 n02231487 n02233338 n02236044 n02268443 n02279972
    n02281406 n02321529 n02364673 n02395406 n02403003 n02410509 n02415577 n02423022 n02437312
    n02480495 n02481823 n02486410 n02504458 n02509815 n02666196 n02669723 n02699494 n02730930
    n02769748 n02788148 n02791270 n02793495 n02795169 n02802426 n02808440 n02814533 n02814860
    n02815834 n02823428 n02837789 n02841315 n02843684 n02883205 n02892201 n02906734 n02909870
    n02917067 n02927161 n02948072 n02950826 n02963159 n02977058 n02988304 n02999410 n03014705
    n03026506 n03042490 n03085013 n03089624 n03100240 n03126707 n03160309 n03179701 n03201208
    n03250847 n03255030 n03355925 n03388043 n03393912 n03400231 n03404251 n03424325 n03444034
    n03447447 n03544143 n03584254 n03599486 n03617480 n03637318 n03649909 n03662601 n03670208
    n03706229 n03733131 n03763968 n03770439 n03796401 n03804744 n03814639 n03837869 n03838899
    n03854065 n03891332 n03902125 n03930313 n03937543 n03970156 n03976657 n03977966 n03980874
    n03983396 n03992509 n04008634 n04023962 n04067472 n04070727 n04074963 n04099969 n04118538
    n04133789 n04146614 n04149813 n04179913 n04251144 n04254777 n04259630 n04265275 n04275548
    n04285008 n04311004 n04328186 n04356056 n04366367 n04371430 n04376876 n04398044 n04399382
    n04417672 n04456115 n04465501 n04486054 n04487081 n04501370 n04507155 n04532106 n04532670
    n04540053 n04560804 n04562935 n04596742 n04597913 n06596364 n07579787 n07583066 n07614500
    n07615774 n07695742 n07711569 n07715103 n07720875 n07734744 n07747607 n07749582 n07753592
    n07768694 n07871810 n07873807 n07875152 n07920052 n09193705 n09246464 n09256479 n09332890
    n09428293 n12267677
"""


def _read_published(path: Path, dataset: Dataset, split: str) -> Pixels | None:
    """The layout of the published archive; its validation images are the test split.

    The archive's own `test` folder has no labels and is never read.
    """
    place = _find(path)
    if place is None:
        return None
    tree, root = place
    if split == TRAIN:
        return read_members(tree, members(tree, f"{root}train"), dataset)
    return read_members(tree, _validation(tree, f"{root}val"), dataset)


def _find(path: Path) -> tuple[Tree, str] | None:
    """The tree that holds `val_annotations.txt`, and the folder with its `val`."""
    archive = path / f"{_FOLDER}.zip" if path.is_dir() else path
    places = [path] if path.is_dir() else []
    for place in [*places, *([archive] if archive.is_file() and archive.suffix == ".zip" else [])]:
        tree = open_tree(place)
        for root in ("", f"{_FOLDER}/"):
            if "images" in tree.folders(f"{root}val"):
                return tree, root
    return None


def _validation(tree: Tree, folder: str) -> list[Member]:
    """The validation images with the class that `val_annotations.txt` gives each, in its order."""
    there = set(tree.files(f"{folder}/images"))
    lines = (
        tree.read(f"{folder}/val_annotations.txt").decode("ascii", errors="replace").splitlines()
    )
    found = []
    for line in lines:
        name, _, rest = line.partition("\t")
        file = f"{folder}/images/{name}"
        if file not in there:  # also keeps a hostile name from leading outside the folder
            raise HarnessError(f"{tree.where} lacks {file[:200]}, which val_annotations.txt lists.")
        found.append(Member(file, rest.split("\t")[0]))
    return ordered(found)


def _fetch(scratch: Path, dataset: Dataset) -> Mapping[str, Pixels]:
    download(_URL, scratch, md5=_MD5, limit=_LIMIT)
    return read_every_split(scratch, dataset, _PUBLISHED)


_PUBLISHED = Layout(f"{_FOLDER} as published, unpacked or as {_FOLDER}.zip", _read_published)

TINY_IMAGENET = register(
    Dataset(
        name="tiny_imagenet",
        classes=tuple(_CLASSES.split()),
        shape=(3, 64, 64),
        threat=ThreatModel("linf", Fraction(8, 255)),
        augmentation=Augmentation(),  # as ANCRA's script trains
        description="110,000 colour photographs of 64 x 64 pixels in 200 classes of ImageNet.",
        layouts=(_PUBLISHED, parquet(_VALIDATION), image_folder(_VALIDATION)),
        sources=(Source("its authors' server", _fetch),),
    )
)


def _halved(layout: Layout) -> Layout:
    """The same files, read at 64 x 64 and resized."""

    def read(path: Path, _dataset: Dataset, split: str) -> Pixels | None:
        pixels = layout.read(path, TINY_IMAGENET, split)
        return None if pixels is None else Pixels(_resize(pixels.images), pixels.labels)

    return Layout(layout.looks_for, read)


def _resize(images: NDArray[np.uint8], size: int = 32) -> NDArray[np.uint8]:
    """[N, H, W, C] to [N, size, size, C]: bilinear with antialiasing, in Pillow's exact integers.

    FRPAT trains on resized images and does not say how they were interpolated: this is our choice.
    """
    resized = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for index, image in enumerate(images):
        small = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        resized[index] = np.asarray(small)
    return resized


def _halve(splits: Mapping[str, Pixels]) -> Mapping[str, Pixels]:
    return {
        split: Pixels(_resize(pixels.images), pixels.labels) for split, pixels in splits.items()
    }


def _fetch_halved(scratch: Path, _dataset: Dataset) -> Mapping[str, Pixels]:
    return _halve(_fetch(scratch, TINY_IMAGENET))


def _from_cache(_scratch: Path, _dataset: Dataset) -> Mapping[str, Pixels]:
    return _halve(read_every_split(cache_folder(), TINY_IMAGENET, SAVED))


TINY_IMAGENET_32 = register(
    replace(
        TINY_IMAGENET,
        name="tiny_imagenet_32",
        shape=(3, 32, 32),
        augmentation=Augmentation(pad=4, flip=True),  # FRPAT: as for CIFAR
        description="Tiny-ImageNet resized to 32 x 32 pixels, as FRPAT uses it.",
        layouts=tuple(_halved(layout) for layout in TINY_IMAGENET.layouts),
        sources=(
            Source("tiny_imagenet in the cache", _from_cache),
            Source("its authors' server", _fetch_halved),
        ),
    )
)
