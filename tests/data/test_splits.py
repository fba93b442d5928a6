import hashlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from harness.data import Augmentation, Dataset, load
from harness.data.datasets import Pixels
from harness.data.splits import check
from harness.errors import HarnessError
from harness.threat import ThreatModel


def small(**changes):
    values = {
        "name": "small",
        "classes": ("a", "b"),
        "shape": (3, 4, 5),
        "threat": ThreatModel("linf", Fraction(8, 255)),
        "augmentation": Augmentation(),
        "description": "",
    }
    return Dataset(**{**values, **changes})


@pytest.fixture
def pixels():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    return Pixels(images, np.array([0, 1, 0, 1, 1, 0]))


def test_images_become_contiguous_channels_first_and_keep_every_value(pixels):
    split = check(small(), "train", pixels)
    assert split.images.shape == (6, 3, 4, 5)
    assert split.images.is_contiguous()
    assert split.images[2, 1, 3, 4] == pixels.images[2, 3, 4, 1]
    assert split.labels.dtype == torch.int64


def test_the_digest_is_over_height_width_channel_bytes_in_index_order(pixels):
    split = check(small(), "train", pixels)
    assert split.sha256 == hashlib.sha256(pixels.images.tobytes()).hexdigest()
    labels = pixels.labels.astype(np.uint8).tobytes()
    assert split.labels_sha256 == hashlib.sha256(labels).hexdigest()


def test_the_digest_does_not_depend_on_the_memory_layout_of_the_images(pixels):
    other = Pixels(np.asfortranarray(pixels.images), pixels.labels)
    assert check(small(), "train", other).sha256 == check(small(), "train", pixels).sha256


def test_a_batch_is_float32_in_0_to_1_and_equals_the_bytes_over_255(pixels):
    split = check(small(), "test", pixels)
    batch = split.batch(1, 4)
    assert batch.dtype == torch.float32
    assert torch.equal((batch * 255).round().to(torch.uint8), split.images[1:4])
    assert 0 <= float(batch.min()) <= float(batch.max()) <= 1


@pytest.mark.parametrize(("first", "last"), [(0, 7), (-1, 2), (3, 3), (4, 2)])
def test_a_batch_outside_the_split_is_refused(pixels, first, last):
    with pytest.raises(HarnessError, match="which holds 6"):
        check(small(), "test", pixels).batch(first, last)


def test_exactness_is_true_for_the_pin_false_for_other_pixels_and_none_without_a_pin(pixels):
    free = check(small(), "test", pixels)
    pinned = {"sha256": {"test": free.sha256}, "labels_sha256": {"test": free.labels_sha256}}
    assert free.is_exact is None
    assert check(small(**pinned), "test", pixels).is_exact is True
    other = pixels.images.copy()
    other[0, 0, 0, 0] ^= 1
    assert check(small(**pinned), "test", Pixels(other, pixels.labels)).is_exact is False
    assert check(small(**pinned), "train", Pixels(other, pixels.labels)).is_exact is None


def test_the_right_pixels_with_a_wrong_label_are_not_exact(pixels):
    free = check(small(), "test", pixels)
    pinned = {"sha256": {"test": free.sha256}, "labels_sha256": {"test": free.labels_sha256}}
    wrong = Pixels(pixels.images, 1 - pixels.labels)
    assert check(small(**pinned), "test", wrong).is_exact is False


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (np.zeros((2, 4, 5, 3), np.float32), [0, 1], "must be uint8"),
        (np.zeros((2, 3, 4, 5), np.uint8), [0, 1], r"small has \(4, 5, 3\)"),
        (np.zeros((0, 4, 5, 3), np.uint8), [], "holds no images"),
        (np.zeros((2, 4, 5, 3), np.uint8), [0], "one whole number per image"),
        (np.zeros((2, 4, 5, 3), np.uint8), [0.0, 1.0], "one whole number per image"),
        (np.zeros((2, 4, 5, 3), np.uint8), [0, 2], "numbered 0 to 1"),
        (np.zeros((2, 4, 5, 3), np.uint8), [-1, 0], "labels from -1 to 0"),
    ],
)
def test_what_does_not_fit_the_dataset_is_refused(images, labels, sentence):
    with pytest.raises(HarnessError, match=sentence):
        check(small(), "train", Pixels(images, np.array(labels)))


def test_pixels_that_differ_from_what_their_file_claims_are_refused(pixels):
    with pytest.raises(HarnessError, match="damaged"):
        check(small(), "train", Pixels(pixels.images, pixels.labels, sha256="0" * 64))


def test_other_labels_are_other_results_unless_both_are_the_published_ones():
    published = load("digits", "test")
    assert published.identity == published.sha256
    own = replace(published, is_exact=None)
    relabelled = replace(own, labels_sha256="0" * 64)
    assert len({published.identity, own.identity, relabelled.identity}) == 3
