import os
import pickle
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest

from harness.data import load
from harness.data.archives import read_tar
from harness.data.pickles import load_pickle
from harness.errors import HarnessError


@pytest.fixture
def unpacked(tmp_path, pictures, cifar_pickle):
    """CIFAR-10 as torchvision unpacks it: five training batches of 4 and a test batch of 10."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images, labels = pictures(30)
    for batch in range(5):
        part = slice(4 * batch, 4 * batch + 4)
        (folder / f"data_batch_{batch + 1}").write_bytes(cifar_pickle(images[part], labels[part]))
    (folder / "test_batch").write_bytes(cifar_pickle(images[20:], labels[20:]))
    return folder, images, labels


def as_rows(split):
    return split.images.permute(0, 2, 3, 1).numpy()


def test_the_batches_are_joined_in_order_whether_their_folder_or_its_parent_is_named(unpacked):
    folder, images, labels = unpacked
    for data_dir in (folder, folder.parent):
        train = load("cifar10", "train", data_dir=data_dir)
        assert np.array_equal(as_rows(train), images[:20])
        assert np.array_equal(train.labels.numpy(), labels[:20])
        assert train.is_exact is False
        assert np.array_equal(as_rows(load("cifar10", "test", data_dir=data_dir)), images[20:])


def test_the_archive_that_torchvision_downloads_is_read_without_unpacking(unpacked, tmp_path):
    folder, images, _ = unpacked
    archive = tmp_path / "packed" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for data_dir in (archive, archive.parent):
        assert np.array_equal(as_rows(load("cifar10", "train", data_dir=data_dir)), images[:20])
    assert [file.name for file in archive.parent.iterdir()] == [archive.name]


def test_a_batch_as_python_2_wrote_it_is_read(pictures, python2_pickle, unpacked):
    folder, _, _ = unpacked
    images, labels = pictures(7, seed=5)
    (folder / "test_batch").write_bytes(python2_pickle(images, labels))
    split = load("cifar10", "test", data_dir=folder)
    assert np.array_equal(as_rows(split), images)
    assert np.array_equal(split.labels.numpy(), labels)
    original = pickle.loads((folder / "test_batch").read_bytes(), encoding="latin1")
    assert np.array_equal(original["data"].reshape(7, 3, 32, 32), split.images.numpy())


def test_cifar100_reads_the_fine_labels(tmp_path, pictures, cifar_pickle):
    images, labels = pictures(8, classes=100)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / split).write_bytes(cifar_pickle(images, labels, key="fine_labels"))
    split = load("cifar100", "test", data_dir=tmp_path)
    assert np.array_equal(split.labels.numpy(), labels)
    assert split.is_exact is None


class Calls:
    """A pickle that would call a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_anything_is_refused_and_nothing_runs(protocol, tmp_path):
    proof = tmp_path / "proof"
    data = pickle.dumps({"data": Calls(os.system, f"touch {proof}")}, protocol=protocol)
    with pytest.raises(HarnessError):
        load_pickle(data, "batch")
    assert not proof.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "numpy load", "numpy.core.multiarray fromfile", "functools partial"],
)
def test_every_name_but_those_of_an_array_is_refused_by_name(name):
    module, attribute = name.split()
    data = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"."
    with pytest.raises(HarnessError, match=f"names {module}.{attribute}"):
        load_pickle(data, "batch")


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x02}r" + struct.pack("<I", 2**31) + b".",  # a memo of 2 billion places
        b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b".",  # a byte array of 64 GiB
        b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"}.",  # a frame of 1 TiB
        b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",  # a string of 2 GiB
    ],
)
def test_a_pickle_cannot_ask_for_memory_that_it_does_not_fill(bomb):
    tracemalloc.start()
    try:
        load_pickle(bomb, "batch")
    except HarnessError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 10_000_000


def test_an_array_that_is_not_bytes_or_shorter_than_its_shape_is_refused(pictures, python2_pickle):
    floats = pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, protocol=4)
    with pytest.raises(HarnessError, match="not uint8"):
        load_pickle(floats, "batch")
    objects = pickle.dumps({"data": np.array([["x"]], dtype=object)}, protocol=4)
    with pytest.raises(HarnessError, match="not uint8"):
        load_pickle(objects, "batch")
    images, labels = pictures(7)
    data = python2_pickle(images, labels).replace(struct.pack("<i", 3072), struct.pack("<i", 9999))
    with pytest.raises(HarnessError, match="is damaged"):
        load_pickle(data, "batch")


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2]), b"\x80\x02}"])
def test_a_file_that_is_no_dictionary_of_arrays_is_refused(unpacked, content):
    folder, _, _ = unpacked
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(HarnessError, match="test_batch"):
        load("cifar10", "test", data_dir=folder)


def test_every_truncation_of_a_batch_is_refused(unpacked):
    folder, _, _ = unpacked
    whole = (folder / "test_batch").read_bytes()
    for length in (1, 20, 100, len(whole) // 2, len(whole) - 1):
        (folder / "test_batch").write_bytes(whole[:length])
        with pytest.raises(HarnessError, match="test_batch"):
            load("cifar10", "test", data_dir=folder)


def test_a_missing_batch_is_an_error_and_not_a_smaller_training_set(unpacked):
    folder, _, _ = unpacked
    (folder / "data_batch_3").unlink()
    with pytest.raises(HarnessError, match="data_batch_3"):
        load("cifar10", "train", data_dir=folder)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"labels": [0]}, "needs an array `data`"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "one row of 3072 per label"),
        ({"data": np.zeros((1, 784), np.uint8), "labels": [0]}, "one row of 3072 per label"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "no whole numbers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**40]}, "no whole numbers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "numbered 0 to 9"),
    ],
)
def test_a_batch_with_other_entries_is_refused(unpacked, entries, sentence):
    folder, _, _ = unpacked
    (folder / "test_batch").write_bytes(pickle.dumps(entries, protocol=4))
    with pytest.raises(HarnessError, match=sentence):
        load("cifar10", "test", data_dir=folder)


def test_a_damaged_or_foreign_archive_is_refused(tmp_path):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"no archive")
    with pytest.raises(HarnessError, match="no whole tar archive"):
        load("cifar10", "test", data_dir=archive)
    (tmp_path / "other").write_bytes(b"x" * 100)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "other", "../../other")
        tar.add(tmp_path / "other", "large")
    with pytest.raises(HarnessError, match="lacks cifar-10-batches-py/test_batch"):
        load("cifar10", "test", data_dir=archive)
    with pytest.raises(HarnessError, match="the limit is 99"):
        read_tar(archive, ["large"], limit=99)
