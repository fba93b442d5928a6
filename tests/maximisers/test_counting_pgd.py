"""GAIRAT's counting PGD (`baselines.md` section 15)."""

import pytest
import torch
from climbed_models import Slope, batch_of, pixels

from harness.maximisers.counting import CountingPgd
from harness.maximisers.pgd import Pgd


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_kappa_counts_the_states_before_each_step_that_are_right(steps):
    values = [0.45, 0.495, 0.4999, 0.51, 0.0, 1.0]
    images = pixels(*values)
    network = Slope([1.0], offsets=(-0.5,))  # wrong above 0.5
    batch = batch_of(network, images, steps=steps, step=0.01)
    CountingPgd(noise=0.0)(batch)
    right = [sum(v + 0.01 * t <= 0.5 for t in range(steps)) for v in values]
    assert batch.survived.tolist() == right
    assert len(network.passes) == steps


def test_every_class_counts_by_its_own_label():
    images, labels = pixels(0.45, 0.55), torch.tensor([0, 1])
    batch = batch_of(Slope([1.0], offsets=(-0.5,)), images, labels, steps=8, step=0.02)
    CountingPgd(noise=0.0)(batch)
    assert batch.survived.tolist() == [3, 3]


@pytest.mark.parametrize("climbs", ["ce", "kl"])
@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_counting_changes_no_image(climbs, start):
    network, images = Slope([1.0, -3.0]), pixels((0.5, 0.2), (0.9, 0.7))
    found = [
        kind(climbs, start)(batch_of(network, images, steps=5, step=0.03))
        for kind in (CountingPgd, Pgd)
    ]
    assert torch.equal(*found)


def test_every_batch_is_counted_from_nothing():
    network, pgd = Slope([1.0], offsets=(-2.0,)), CountingPgd()
    for _ in range(2):
        batch = batch_of(network, pixels(0.5, 0.5), steps=4)
        assert batch.survived is None
        pgd(batch)
        assert batch.survived.tolist() == [4, 4]
