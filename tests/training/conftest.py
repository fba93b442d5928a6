"""200 digits and runs that take a tenth of a second."""

import dataclasses

import pytest
import torch

from harness.data.datasets import DATASETS
from harness.data.loading import load
from harness.training.request import training_request


@pytest.fixture(scope="session")
def digits():
    return load("digits", "train")


@pytest.fixture(scope="session")
def few(digits):
    """The first `count` digits as a split of their own."""

    def of(count=200):
        return dataclasses.replace(
            digits,
            images=digits.images[:count].clone(),
            labels=digits.labels[:count].clone(),
            sha256=f"first {count}",
        )

    return of


@pytest.fixture
def tiny():
    """A request for a net of width 2: two epochs of batches of 32 with two inner steps."""

    def of(defense, **arguments):
        settings = {"width": 2, "batch_size": 32, "inner_steps": 2, "epochs": 2}
        settings |= arguments.pop("settings", {})
        dataset = arguments.pop("dataset", DATASETS["digits"])
        return training_request(defense, dataset, settings=settings, **arguments)

    return of


@pytest.fixture
def same_bits():
    """Whether two nested mappings hold the same tensors and numbers, bit for bit."""

    def check(first, second):
        if isinstance(first, torch.Tensor):
            return torch.equal(first, second)
        if isinstance(first, dict):
            return first.keys() == second.keys() and all(check(first[k], second[k]) for k in first)
        if isinstance(first, list | tuple):
            return len(first) == len(second) and all(map(check, first, second))
        return first == second or (first != first and second != second)  # NaN is NaN

    return check
