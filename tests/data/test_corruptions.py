from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.corruptions import (
    CORRUPTIONS,
    FAMILIES,
    MAIN,
    chosen_corruptions,
    chosen_severities,
    corruption_named,
)
from harness.data import generated_corruptions
from harness.data.corrupted_files import ArrayFiles
from harness.data.corruptions import corrupted
from harness.data.datasets import Dataset, Pixels
from harness.data.generated_corruptions import corrupt_image
from harness.data.splits import Split, check
from harness.errors import HarnessError
from harness.threat import SEVERITIES, ThreatModel

COUNT = 6
NAMES = [corruption.name for corruption in CORRUPTIONS]


def dataset_of(shape: tuple[int, int, int] = (3, 32, 32)) -> Dataset:
    return Dataset("pictures", ("a", "b"), shape, ThreatModel.parse("linf", "8/255"), None, "")


def split_of(shape: tuple[int, int, int] = (3, 32, 32), count: int = COUNT) -> Split:
    channels, height, width = shape
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return check(dataset_of(shape), "test", Pixels(images, np.arange(count) % 2))


def write_arrays(folder: Path, split: Split, name: str = "fog") -> np.ndarray:
    """CIFAR-10-C's layout; every pixel of a row holds the number of the row."""
    _, channels, height, width = split.images.shape
    rows = len(split) * len(SEVERITIES)
    images = np.zeros((rows, height, width, channels), np.uint8)
    images += np.arange(rows, dtype=np.uint8)[:, None, None, None]
    np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.tile(split.labels.numpy(), len(SEVERITIES)))
    return images


def write_folders(folder: Path, images: np.ndarray, labels, names=("a", "b"), severity=2) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / "fog" / str(severity) / names[label] / f"picture_{number:08d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)


# Names


def test_the_corruptions_are_those_of_the_library_in_its_order():
    library = pytest.importorskip("imagecorruptions")
    assert library.get_corruption_names("all") == NAMES
    for family in FAMILIES:
        ours = [one.name for one in MAIN if one.family == family]
        assert library.get_corruption_names(family) == ours


def test_fifteen_corruptions_count_and_four_are_extra():
    assert len(MAIN) == 15
    assert NAMES[15:] == ["speckle_noise", "gaussian_blur", "spatter", "saturate"]


def test_chosen_corruptions_and_severities_come_in_their_published_order():
    assert [one.name for one in chosen_corruptions("snow, fog,glass_blur,fog")] == [
        "glass_blur",
        "snow",
        "fog",
    ]
    assert chosen_severities("5,1") == (1, 5)
    assert chosen_corruptions(None) == MAIN
    assert chosen_severities(None) == SEVERITIES


@pytest.mark.parametrize(
    ("choose", "text", "said"),
    [
        (chosen_corruptions, "fogg", "Did you mean 'fog'?"),
        (chosen_corruptions, " , ", "no corruption is named"),
        (chosen_severities, "1,6", "'6' is no severity: write some of 1 to 5"),
        (chosen_severities, "", "no severity is given"),
    ],
)
def test_what_cannot_be_chosen_is_refused(choose, text, said):
    with pytest.raises(HarnessError, match=said.replace("?", r"\?")):
        choose(text)


# Files in CIFAR-10-C's layout


@pytest.mark.parametrize("severity", SEVERITIES)
def test_severity_s_is_the_block_of_rows_s_minus_1_to_s(tmp_path, severity):
    split = split_of()
    write_arrays(tmp_path, split)
    found = corrupted(dataset_of(), split, "fog", severity, tmp_path)
    rows = torch.arange((severity - 1) * COUNT, severity * COUNT)
    assert torch.equal(found.batch(0, COUNT)[:, 0, 0, 0], rows / 255)
    assert torch.equal(found.batch(2, 4), found.batch(0, COUNT)[2:4])
    assert torch.equal(found.labels, split.labels)


def test_published_images_keep_their_orientation_and_channels(tmp_path):
    split = split_of()
    write_arrays(tmp_path, split)
    images = np.load(tmp_path / "fog.npy")
    images[:COUNT] = split.images.numpy().transpose(0, 2, 3, 1)
    np.save(tmp_path / "fog.npy", images)
    found = corrupted(dataset_of(), split, "fog", 1, tmp_path)
    assert torch.equal(found.batch(0, COUNT), split.batch(0, COUNT))


def test_array_files_stay_on_disk(tmp_path):
    split = split_of()
    write_arrays(tmp_path, split)
    source = ArrayFiles(tmp_path, split)
    big = np.lib.format.open_memmap(
        tmp_path / "fog.npy", mode="w+", dtype=np.uint8, shape=(5 * COUNT, 32, 32, 3)
    )
    big[COUNT + 1] = 9
    assert source.read(corruption_named("fog"), 2, 1, 2).max() == 9


def _objects(folder: Path, split: Split) -> None:
    np.save(folder / "fog.npy", np.array([{}], dtype=object), allow_pickle=True)


def _truncated(folder: Path, split: Split) -> None:
    whole = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(whole[:-1])


def _floats(folder: Path, split: Split) -> None:
    np.save(folder / "fog.npy", np.load(folder / "fog.npy").astype(np.float32))


def _one_severity(folder: Path, split: Split) -> None:
    np.save(folder / "fog.npy", np.load(folder / "fog.npy")[:COUNT])


def _channels_first(folder: Path, split: Split) -> None:
    np.save(folder / "fog.npy", np.load(folder / "fog.npy").transpose(0, 3, 1, 2))


def _text(folder: Path, split: Split) -> None:
    (folder / "fog.npy").write_text("no array")


def _none(folder: Path, split: Split) -> None:
    (folder / "fog.npy").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_objects, "no whole .npy file"),
        (_truncated, "no whole .npy file"),
        (_text, "no whole .npy file"),
        (_floats, r"holds float32 \(30, 32, 32, 3\), not uint8"),
        (_one_severity, r"holds uint8 \(6, 32, 32, 3\), not uint8 \(30, 32, 32, 3\)"),
        (_channels_first, r"holds uint8 \(30, 3, 32, 32\)"),
        (_none, "there is no .*fog.npy"),
    ],
)
def test_an_array_file_that_is_not_in_the_layout_is_refused(tmp_path, damage, said):
    split = split_of()
    write_arrays(tmp_path, split)
    damage(tmp_path, split)
    with pytest.raises(HarnessError, match=said):
        corrupted(dataset_of(), split, "fog", 1, tmp_path).batch(0, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: 1 - labels,
        lambda labels: labels[:-1],
        lambda labels: labels.astype(np.float64),
        lambda labels: np.concatenate([labels[:-1], 1 - labels[-1:]]),
    ],
)
def test_labels_that_are_not_those_of_the_test_images_are_refused(tmp_path, change):
    split = split_of()
    write_arrays(tmp_path, split)
    np.save(tmp_path / "labels.npy", change(np.load(tmp_path / "labels.npy")))
    with pytest.raises(HarnessError, match="not the labels of the 6 test images of pictures"):
        corrupted(dataset_of(), split, "fog", 1, tmp_path)


def test_labels_of_one_severity_serve_all_five(tmp_path):
    split = split_of()
    write_arrays(tmp_path, split)
    np.save(tmp_path / "labels.npy", split.labels.numpy())
    assert len(corrupted(dataset_of(), split, "fog", 5, tmp_path)) == COUNT


def test_array_files_without_labels_say_so(tmp_path):
    split = split_of()
    write_arrays(tmp_path, split)
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(HarnessError, match=r"has no labels\.npy"):
        corrupted(dataset_of(), split, "fog", 1, tmp_path)


def test_a_slice_that_leaves_the_split_is_refused(tmp_path):
    split = split_of()
    write_arrays(tmp_path, split)
    with pytest.raises(HarnessError, match="no slice of pictures test"):
        corrupted(dataset_of(), split, "fog", 1, tmp_path).batch(3, COUNT + 1)


def test_only_a_change_in_its_own_block_changes_what_a_corruption_is_called(tmp_path):
    split = split_of()
    images = write_arrays(tmp_path, split)
    before = [corrupted(dataset_of(), split, "fog", s, tmp_path).spec for s in (1, 2)]
    images[COUNT, 0, 0, 0] += 1  # the first image of severity 2
    np.save(tmp_path / "fog.npy", images)
    after = [corrupted(dataset_of(), split, "fog", s, tmp_path).spec for s in (1, 2)]
    assert [one.hash == other.hash for one, other in zip(before, after, strict=True)] == [
        True,
        False,
    ]
    assert dict(after[0].parameters)["pixels"] == "files"


# Files in ImageNet-C's layout


def test_folders_pair_with_the_test_images_by_the_number_in_their_name(tmp_path):
    split = split_of(count=120)  # more than the hundred that a fingerprint reads
    images = split.images.numpy().transpose(0, 2, 3, 1)
    write_folders(tmp_path, 255 - images, split.labels.tolist())
    found = corrupted(dataset_of(), split, "fog", 2, tmp_path)
    assert torch.equal(found.batch(100, 117), (255 - split.images[100:117]) / 255)
    assert found.spec.attack == "fog"


def test_folders_that_lack_an_image_or_mix_up_classes_are_refused(tmp_path):
    split = split_of()
    images = split.images.numpy().transpose(0, 2, 3, 1)
    write_folders(tmp_path / "short", images[:-1], split.labels.tolist()[:-1])
    write_folders(tmp_path / "mixed", images, [1, 0, 0, 1, 0, 1])
    write_folders(tmp_path / "others", images, split.labels.tolist(), ("a", "c"))
    for name, said in (
        ("short", "do not pair"),
        ("mixed", "do not pair"),
        ("others", "unknown: c"),
    ):
        with pytest.raises(HarnessError, match=said):
            corrupted(dataset_of(), split, "fog", 2, tmp_path / name).batch(0, 1)
    with pytest.raises(HarnessError, match="0 class folders"):
        corrupted(dataset_of(), split, "fog", 3, tmp_path / "short").batch(0, 1)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(HarnessError, match="--corrupted-dir must name what exists"):
        corrupted(dataset_of(), split_of(), "fog", 1, tmp_path / "nowhere")


# Generated

SHAPES = [(3, 32, 32), (1, 28, 28), (1, 8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_corruption_changes_pictures_of_every_size_and_keeps_their_shape(name, shape):
    if corruption_named(name).is_colour and shape[0] == 1:
        return
    split = split_of(shape, count=3)
    for severity in (1, 5):
        batch = corrupted(dataset_of(shape), split, name, severity).batch(0, 3)
        assert batch.shape == (3, *shape)
        assert 0 <= float(batch.min()) <= float(batch.max()) <= 1
        assert not torch.equal(batch, split.batch(0, 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_generated_image_depends_on_nothing_but_itself_and_its_index(name):
    split = split_of((3, 32, 32), count=8)
    found = corrupted(dataset_of(), split, name, 4)
    np.random.seed(1)
    whole = found.batch(0, 8)
    np.random.seed(2)
    before = np.random.get_state()[1].copy()
    assert torch.equal(found.batch(5, 7), whole[5:7])
    assert (np.random.get_state()[1] == before).all(), "the global generator was used up"


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "glass_blur", "frost"])
def test_two_equal_images_get_randomness_of_their_own(name):
    image = split_of().images[0].numpy().transpose(1, 2, 0)
    corruption = corruption_named(name)
    made = [corrupt_image(image, corruption, 3, index).tobytes() for index in (0, 1, 0)]
    assert made[0] == made[2] != made[1]


@pytest.mark.parametrize(
    ("severity", "factor"), [(1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1), (5, 0.05)]
)
@pytest.mark.parametrize("size", [32, 28, 8])
def test_contrast_is_its_closed_form_whatever_the_size(severity, factor, size):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 1), dtype=np.uint8)
    made = corrupt_image(image, corruption_named("contrast"), severity, 0).astype(float)
    mean = image.mean()
    assert np.abs(made - (mean + factor * (image - mean))).max() <= 1  # the library rounds down


@pytest.mark.parametrize("size", [32, 28, 8])
def test_noise_is_as_strong_on_a_small_grey_image_as_published(size):
    grey = np.full((size, size, 1), 128, np.uint8)
    noise = corruption_named("gaussian_noise")
    made = [corrupt_image(grey, noise, 1, index).astype(float) for index in range(40)]
    assert np.std(made) == pytest.approx(0.08 * 255, rel=0.06)


def test_a_length_shrinks_with_the_image_where_it_is_small():
    small = np.zeros((8, 8, 1), np.uint8)
    small[4, 4] = 255
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    blur = corruption_named("gaussian_blur")
    made, expected = corrupt_image(small, blur, 2, 0), corrupt_image(large, blur, 2, 0)
    assert (made == np.rint(expected.reshape(8, 4, 8, 4, 1).mean((1, 3)))).all()
    assert made.max() > 50  # at its full length it would leave 10


def test_what_changes_colours_alone_is_refused_for_grey_images():
    grey = split_of((1, 8, 8))
    with pytest.raises(HarnessError, match="saturate changes colours"):
        _ = corrupted(dataset_of((1, 8, 8)), grey, "saturate", 1).spec


def test_large_images_are_exactly_what_the_library_makes_of_them():
    library = importlib.import_module("imagecorruptions")
    image = split_of((3, 40, 40)).images[0].numpy().transpose(1, 2, 0)
    for name in ("defocus_blur", "jpeg_compression", "brightness", "pixelate"):  # nothing random
        made = corrupt_image(image, corruption_named(name), 3, 7)
        assert (made == library.corrupt(image, 3, corruption_name=name)).all()


def test_what_is_generated_is_never_called_files_and_names_its_library():
    parameters = dict(corrupted(dataset_of(), split_of(), "contrast", 1).spec.parameters)
    assert parameters["pixels"] == "generated"
    assert str(parameters["made_by"]).startswith("imagecorruptions-imaug ")


def test_a_library_that_draws_other_pixels_is_another_attack(monkeypatch):
    library = importlib.import_module("imagecorruptions")
    before = corrupted(dataset_of(), split_of(), "contrast", 1).spec
    assert corrupted(dataset_of(), split_of(), "contrast", 1).spec == before
    assert corrupted(dataset_of(), split_of(), "contrast", 2).spec.hash != before.hash

    def brighter(image, severity):
        return library.contrast(image, severity) + 1

    monkeypatch.setitem(library.corruption_dict, "contrast", brighter)
    assert corrupted(dataset_of(), split_of(), "contrast", 1).spec.hash != before.hash


def test_without_the_library_an_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    generated_corruptions._library.cache_clear()
    with pytest.raises(HarnessError, match=r"pip install 'robust-harness\[corruptions\]'"):
        corrupted(dataset_of(), split_of(), "fog", 1)


def test_training_images_are_never_corrupted():
    split = split_of()
    train = Split("pictures", "train", split.images, split.labels, "", "", None)
    with pytest.raises(HarnessError, match="only test images"):
        corrupted(dataset_of(), train, "fog", 1)
