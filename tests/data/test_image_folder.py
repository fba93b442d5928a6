import shutil

import numpy as np
import pytest

from harness.data import dataset, load
from harness.errors import HarnessError


@pytest.fixture
def animals(tmp_path, pictures, write_folder):
    """folder:PATH with 12 training and 6 test images of three classes, numbered throughout."""
    folder = tmp_path / "animals"
    images, labels = pictures(18, classes=3, size=7)
    write_folder(folder / "train", images[:12], labels[:12], ["cat", "dog", "eel"])
    write_folder(folder / "val", images[12:], labels[12:], ["cat", "dog", "eel"])
    return folder, images, labels


def as_rows(split):
    return split.images.permute(0, 2, 3, 1).numpy()


def test_classes_come_from_the_folders_and_images_keep_their_running_numbers(animals):
    folder, images, labels = animals
    found = dataset(f"folder:{folder}")
    assert found.classes == ("cat", "dog", "eel")
    assert found.shape == (3, 7, 7)
    assert str(found.threat) == "linf 8/255"
    for name, part in (("train", slice(0, 12)), ("test", slice(12, 18))):
        split = load(found.name, name)
        assert np.array_equal(as_rows(split), images[part])
        assert np.array_equal(split.labels.numpy(), labels[part])
        assert split.is_exact is None


def test_the_first_images_mix_the_classes_even_if_numbers_start_anew_in_each(
    tmp_path, pictures, encode
):
    images, _ = pictures(9, size=4)
    for number, image in enumerate(images):
        file = tmp_path / "test" / "abc"[number // 3] / f"{'abc'[number // 3]}_{number % 3 + 9}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(image))
    assert load(f"folder:{tmp_path}", "test").labels.tolist() == [0, 1, 2] * 3


def test_a_zip_archive_of_the_folder_is_the_same_dataset(animals, tmp_path):
    folder, _, _ = animals
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    one, other = load(f"folder:{folder}", "test"), load(f"folder:{archive}", "test")
    assert (one.sha256, one.labels_sha256) == (other.sha256, other.labels_sha256)


def test_grey_images_make_a_grey_dataset_and_one_class_in_colour_makes_it_colour(
    tmp_path, pictures, write_folder
):
    grey, labels = pictures(4, classes=2, size=5, channels=1)
    write_folder(tmp_path / "train", grey, labels, ["a", "b"])
    assert dataset(f"folder:{tmp_path}").shape == (1, 5, 5)
    colour, labels = pictures(2, classes=1, size=5)
    write_folder(tmp_path / "train", colour, labels, ["c"])
    split = load(f"folder:{tmp_path}", "train")
    assert split.images.shape == (6, 3, 5, 5)
    first = split.images[split.labels == 0][0]
    assert (first[0] == first[1]).all()


def test_images_of_two_sizes_are_refused_by_name(animals, encode):
    folder, _, _ = animals
    (folder / "train" / "dog" / "99.png").write_bytes(encode(np.zeros((8, 7, 3), np.uint8)))
    with pytest.raises(HarnessError, match=r"dog/99.png .* is 7 x 8 pixels, .* 7 x 7"):
        load(f"folder:{folder}", "train")


def test_an_empty_class_folder_is_refused(animals):
    folder, _, _ = animals
    (folder / "train" / "cow").mkdir()
    with pytest.raises(HarnessError, match=r"train/cow .* holds no images"):
        load(f"folder:{folder}", "train")


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".gif"])
def test_a_file_that_may_be_an_image_but_is_never_read_is_refused(animals, suffix):
    folder, _, _ = animals
    (folder / "train" / "cat" / f"7{suffix}").write_bytes(b"")
    with pytest.raises(HarnessError, match=f"is a {suffix} file"):
        load(f"folder:{folder}", "train")


def test_splits_with_different_classes_are_refused(animals):
    folder, _, _ = animals
    shutil.rmtree(folder / "val" / "eel")
    with pytest.raises(HarnessError, match=r"2 class folders, .* 3 classes .missing: eel"):
        load(f"folder:{folder}", "test")


def test_a_folder_of_other_classes_is_not_taken_for_cifar10(animals):
    folder, _, _ = animals
    with pytest.raises(HarnessError, match=r"unknown: cat|missing: airplane"):
        load("cifar10", "train", data_dir=folder)


def test_a_validation_folder_is_not_taken_for_the_test_split_of_cifar10(animals):
    folder, _, _ = animals
    with pytest.raises(HarnessError, match="no cifar10 test images"):
        load("cifar10", "test", data_dir=folder)


def test_what_is_no_image_folder_is_refused(tmp_path, animals):
    folder, _, _ = animals
    with pytest.raises(HarnessError, match="there is no"):
        dataset(f"folder:{tmp_path}/nowhere")
    with pytest.raises(HarnessError, match="is no image folder"):
        dataset(f"folder:{tmp_path}")
    with pytest.raises(HarnessError, match="at least two classes"):
        dataset(f"folder:{folder / 'train'}")
    shutil.rmtree(folder / "val")
    with pytest.raises(HarnessError, match="has no test split"):
        load(f"folder:{folder}", "test")
