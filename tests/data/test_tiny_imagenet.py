import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import conv2d

from harness.data import dataset, fetch, load, tiny_imagenet
from harness.errors import HarnessError

CLASSES = dataset("tiny_imagenet").classes


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The published layout with one training and one validation image a class, all JPEG."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-imagenet-200"
    random = np.random.default_rng(0)

    def write(file, mode="RGB"):
        file.parent.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 64)).convert(mode).save(file, "JPEG")

    for name in CLASSES:
        write(folder / "train" / name / "images" / f"{name}_0.JPEG")
        (folder / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t9\t9\n")
    lines = []
    for number in range(200):
        write(folder / "val" / "images" / f"val_{number}.JPEG", "L" if number == 3 else "RGB")
        lines.append(f"val_{number}.JPEG\t{CLASSES[-1 - number]}\t0\t0\t9\t9\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "test" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(reversed(CLASSES)))
    with zipfile.ZipFile(folder.parent / "tiny-imagenet-200.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return folder


@pytest.fixture
def copied(published, tmp_path):
    """A copy that a test may damage, of the validation part alone."""
    shutil.copytree(published / "val", tmp_path / "val")
    return tmp_path


def test_there_are_200_classes_in_the_order_of_every_published_loader():
    assert len(CLASSES) == 200
    assert list(CLASSES) == sorted(CLASSES)
    assert dataset("tiny_imagenet_32").classes == CLASSES


def test_the_test_split_is_the_validation_images_in_their_own_order(published):
    split = load("tiny_imagenet", "test", data_dir=published)
    assert split.images.shape == (200, 3, 64, 64)
    assert split.labels.tolist() == list(range(199, -1, -1))
    expected = np.asarray(Image.open(published / "val" / "images" / "val_12.JPEG"))
    assert np.array_equal(split.images[12].permute(1, 2, 0).numpy(), expected)
    grey = split.images[3]
    assert (grey[0] == grey[1]).all()


def test_training_images_are_labelled_by_their_folders(published):
    split = load("tiny_imagenet", "train", data_dir=published)
    assert split.labels.tolist() == list(range(200))


@pytest.mark.parametrize("name", ["tiny_imagenet", "tiny_imagenet_32"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_folder_parent_and_archive_give_the_same_split(published, tmp_path, name, split):
    shutil.copy(published.parent / "tiny-imagenet-200.zip", tmp_path)
    places = [published, published.parent, tmp_path, tmp_path / "tiny-imagenet-200.zip"]
    assert len({load(name, split, data_dir=place).sha256 for place in places}) == 1


def test_halving_is_the_triangle_filter_of_twice_the_width(published):
    large = load("tiny_imagenet", "test", data_dir=published).images.double()
    small = load("tiny_imagenet_32", "test", data_dir=published).images.double()
    weights = torch.tensor([1, 3, 3, 1], dtype=torch.double) / 8
    kernel = torch.outer(weights, weights).expand(3, 1, 4, 4)
    expected = conv2d(large, kernel, stride=2, padding=1, groups=3)
    inner = (..., slice(1, -1), slice(1, -1))  # at the border the weights are renormalised
    assert (small[inner] - expected[inner]).abs().max() <= 1


def test_the_small_one_is_made_from_the_large_one_in_the_cache(published):
    fetch("tiny_imagenet", data_dir=published)
    direct = load("tiny_imagenet_32", "test", data_dir=published)
    cached = load("tiny_imagenet_32", "test")
    assert (cached.sha256, cached.labels_sha256) == (direct.sha256, direct.labels_sha256)


@pytest.mark.parametrize("name", ["../../../etc/hostname", "val_999.JPEG", ""])
def test_an_annotation_of_a_file_that_is_not_there_is_refused(copied, name):
    file = copied / "val" / "val_annotations.txt"
    file.write_text(file.read_text() + f"{name}\t{CLASSES[0]}\t0\t0\t9\t9\n")
    with pytest.raises(HarnessError, match=r"which val_annotations.txt lists"):
        load("tiny_imagenet", "test", data_dir=copied)


def test_an_unknown_class_is_refused(copied):
    file = copied / "val" / "val_annotations.txt"
    file.write_text(file.read_text().replace(CLASSES[-1], "n99999999"))
    with pytest.raises(HarnessError, match="unknown: n99999999"):
        load("tiny_imagenet", "test", data_dir=copied)


def test_a_missing_annotation_file_is_an_error(copied):
    (copied / "val" / "val_annotations.txt").unlink()
    with pytest.raises(HarnessError, match=r"val_annotations.txt cannot be read"):
        load("tiny_imagenet", "test", data_dir=copied)


def test_without_network_or_files_the_error_says_what_to_do():
    with pytest.raises(HarnessError, match=r"tiny-imagenet-200.zip.*harness data fetch"):
        load("tiny_imagenet_32", "test")
    assert tiny_imagenet._MD5 == "90528d7ca1a48142e341f4ef8d21d0de"
