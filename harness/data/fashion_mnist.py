"""Fashion-MNIST: Xiao, Rasul and Vollgraf, 2017 (arXiv:1708.07747)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from harness.data.augmentation import Augmentation
from harness.data.datasets import TEST, TRAIN, Dataset, Pixels, Source, register
from harness.data.download import download, read_every_split, run_client
from harness.data.idx import idx
from harness.data.image_folder import image_folder
from harness.data.parquet import parquet
from harness.errors import HarnessError
from harness.threat import ThreatModel

_PACKAGE = "dataset-fashion-mnist"
_INSTALLED = Path("usr/share/datasets/fashion-mnist")  # where Debian's package puts its files
_LIMIT = 64 * 1024**2

_IDX = idx("FashionMNIST/raw", "raw", "fashion-mnist")


def _fetch_torchvision(scratch: Path, dataset: Dataset) -> Mapping[str, Pixels]:
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415 - seconds to import

    for name, md5 in FashionMNIST.resources:
        download(FashionMNIST.mirrors[0] + name, scratch, md5=md5, limit=_LIMIT)
    return read_every_split(scratch, dataset, _IDX)


def _fetch_installed(_scratch: Path, dataset: Dataset) -> Mapping[str, Pixels]:
    return read_every_split("/" / _INSTALLED, dataset, _IDX)


def _fetch_debian(scratch: Path, dataset: Dataset) -> Mapping[str, Pixels]:
    """Download Debian's package and unpack it here; nothing is installed, no root is needed."""
    run_client(["apt-get", "download", _PACKAGE], scratch, seconds=120)
    package = next(scratch.glob("*.deb"), None)
    if package is None:
        raise HarnessError("apt-get delivered no package")
    run_client(["dpkg-deb", "--extract", package.name, "."], scratch, seconds=60)
    return read_every_split(scratch / _INSTALLED, dataset, _IDX)


FASHION_MNIST = register(
    Dataset(
        name="fashion_mnist",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        shape=(1, 28, 28),
        threat=ThreatModel("linf", Fraction(1, 10)),
        # Garments fill the frame: half of CIFAR's shift. Mirrored, they stay what they are.
        augmentation=Augmentation(pad=2, flip=True),
        description="70,000 grey pictures of garments of 28 x 28 pixels in 10 classes.",
        layouts=(_IDX, parquet(), image_folder()),
        sources=(
            Source(f"the installed Debian package {_PACKAGE}", _fetch_installed),
            Source("torchvision's source", _fetch_torchvision),
            Source(f"the Debian package {_PACKAGE}", _fetch_debian),
        ),
        sha256={
            TRAIN: "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            TEST: "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        },
        labels_sha256={
            TRAIN: "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            TEST: "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
        },
    )
)
