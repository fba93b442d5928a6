import gzip
import struct

import numpy as np
import pytest

from harness.data import dataset, fashion_mnist, fetch, load
from harness.data.idx import read_idx
from harness.errors import HarnessError


@pytest.fixture
def garments(pictures):
    return pictures(20, size=28, channels=1)


@pytest.fixture
def write(garments, idx_file):
    images, labels = garments

    def into(folder, *, packed=True):
        folder.mkdir(parents=True)
        for prefix in ("train", "t10k"):
            for kind, values in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
                file = folder / f"{prefix}-{kind}-ubyte{'.gz' if packed else ''}"
                file.write_bytes(idx_file(values, packed=packed))

    return into


@pytest.mark.parametrize("place", ["", "FashionMNIST/raw", "fashion-mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_four_files_are_read_where_torchvision_and_debian_put_them(
    tmp_path, garments, write, place, packed
):
    write(tmp_path / "it" / place, packed=packed)
    for name in ("train", "test"):
        split = load("fashion_mnist", name, data_dir=tmp_path / "it")
        assert np.array_equal(split.images[:, 0].numpy(), garments[0][..., 0])
        assert np.array_equal(split.labels.numpy(), garments[1])
        assert split.is_exact is False


def test_parquet_files_of_the_hub_hold_the_same_images(tmp_path, garments, encode, write_parquet):
    images, labels = garments
    rows = [encode(image) for image in images]
    write_parquet(
        tmp_path / "test-00000-of-00001.parquet", rows, labels, columns=("image", "label")
    )
    split = load("fashion_mnist", "test", data_dir=tmp_path)
    assert np.array_equal(split.images[:, 0].numpy(), images[..., 0])


def test_the_debian_package_is_unpacked_and_not_installed(monkeypatch, tmp_path, write):
    commands = []

    def run(command, folder, *, seconds):
        commands.append(command[0])
        if command[0] == "apt-get":
            (folder / "dataset.deb").write_bytes(b"")
        else:
            write(folder / "usr/share/datasets/fashion-mnist")

    monkeypatch.setattr(fashion_mnist, "run_client", run)
    found = fashion_mnist._fetch_debian(tmp_path, dataset("fashion_mnist"))
    assert commands == ["apt-get", "dpkg-deb"]
    assert len(found["test"].images) == 20
    with pytest.raises(HarnessError, match="not the pinned one"):
        fetch("fashion_mnist", tmp_path / "other")


def test_missing_labels_are_an_error(tmp_path, write):
    write(tmp_path / "it")
    (tmp_path / "it" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(HarnessError, match="labels t10k-labels-idx1-ubyte are not"):
        load("fashion_mnist", "test", data_dir=tmp_path / "it")


@pytest.mark.parametrize(
    ("header", "body", "sentence"),
    [
        ((0x803, 2, 28, 28), 2 * 784 - 1, "length differs"),
        ((0x803, 2, 28, 28), 2 * 784 + 1, "length differs"),
        ((0x803, 2, 32, 32), 2048, r"no IDX file of bytes \[N, 28, 28\]"),
        ((0x801, 2), 2, "no IDX file|cannot be read"),
        ((0xD03, 2, 28, 28), 8 * 784, "no IDX file"),
        ((0x803, 2**32 - 1, 28, 28), 784, "declares 4294967295 images"),
    ],
)
def test_a_file_that_differs_from_its_header_is_refused(tmp_path, header, body, sentence):
    file = tmp_path / "images"
    file.write_bytes(struct.pack(f">{len(header)}I", *header) + bytes(body))
    with pytest.raises(HarnessError, match=sentence):
        read_idx(file, (28, 28))


def test_a_truncated_or_damaged_gzip_file_is_refused(tmp_path, garments, idx_file):
    file = tmp_path / "images.gz"
    whole = idx_file(garments[0][..., 0], packed=True)
    for data in (whole[:-9], whole[:100], whole[:15], b"", whole[:500] + b"\0\0\0" + whole[503:]):
        file.write_bytes(data)
        with pytest.raises(HarnessError, match=r"Fetch it again|damaged"):
            read_idx(file, (28, 28))


def test_a_gzip_file_is_not_unpacked_beyond_what_its_header_declares(tmp_path, monkeypatch):
    file = tmp_path / "images.gz"
    file.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 1, 28, 28) + bytes(50_000_000)))
    reads = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda self, size=-1: reads.append(size) or original(self, size)
    )
    with pytest.raises(HarnessError, match="length differs"):
        read_idx(file, (28, 28))
    assert reads == [16, 785]
