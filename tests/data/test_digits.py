import numpy as np
import torch
from sklearn.datasets import load_digits

from harness.data import dataset, load


def test_digits_are_whole_exact_and_need_no_file():
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test)) == (1297, 500)
    assert train.images.shape[1:] == dataset("digits").shape
    assert train.is_exact is True
    assert test.is_exact is True


def test_pixels_are_the_original_levels_rounded_and_the_test_split_is_the_end():
    bunch, test = load_digits(), load("digits", "test")
    levels = (test.images[:, 0].double() * 16 / 255).round()
    assert torch.equal(levels, torch.from_numpy(bunch.images[-500:]))
    assert np.array_equal(test.labels.numpy(), bunch.target[-500:])


def test_every_class_is_in_both_splits():
    for split in ("train", "test"):
        assert load("digits", split).labels.unique().tolist() == list(range(10))
