"""FAT's early-stopped PGD (`baselines.md` section 14)."""

import math

import pytest
import torch
from climbed_models import Slope, batch_of, pixels

from harness.batch import Batch, InnerBudget, PerHead
from harness.heads.linear import Linear
from harness.maximisers.early_stopped import EarlyStoppedPgd
from harness.maximisers.pgd import Pgd
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.threat import ThreatModel
from harness.verification import check_inside

TRADES = {"patience_ends": (30, 50, 70), "run_length": 85}


@pytest.mark.parametrize(
    ("settings", "epochs", "taus"),
    [
        ({}, 120, {1: 0, 50: 0, 51: 1, 90: 1, 91: 2, 120: 2}),
        ({}, 12, {1: 0, 5: 0, 6: 1, 9: 1, 10: 2, 12: 2}),
        ({}, 240, {50: 0, 51: 1, 91: 2, 240: 2}),
        (TRADES, 85, {30: 0, 31: 1, 50: 1, 51: 2, 70: 2, 71: 3, 85: 3}),
        ({"patience_ends": ()}, 120, {1: 0, 120: 0}),
    ],
)
def test_tau_grows_after_the_epochs_of_the_paper(settings, epochs, taus):
    pgd = EarlyStoppedPgd(**settings)
    found = {
        epoch: pgd.tau(batch_of(Slope([1.0]), pixels(0.5), epoch=epoch, epochs=epochs))
        for epoch in taus
    }
    assert found == taus


@pytest.mark.parametrize(("epoch", "tau"), [(50, 0), (51, 1), (91, 2)])
@pytest.mark.parametrize("steps", [3, 10])
def test_each_image_rests_tau_steps_after_it_is_first_wrong(epoch, tau, steps):
    scores = [0.05, -0.001, -0.0301, -0.015, -0.08, -5.0]  # above 0 is wrong
    images = pixels(*[(0.5, 0.5)] * 6)

    class Shifted(Slope):
        def forward(self, images, *, select=None):
            outputs = super().forward(images, select=select)
            outputs.logits[:, 1] += torch.tensor(scores)
            return outputs

    network = Shifted([1.0, -1.0])  # the two pixels cancel out, then every step adds 0.02
    pgd = EarlyStoppedPgd(start="normal", noise=0.0, escape=0.0)
    batch = batch_of(
        network, images, steps=steps, step=0.01, epsilon="1/2", epoch=epoch, epochs=120
    )
    first_wrong = [0 if s > 0 else math.floor(-s / 0.02) + 1 for s in scores]
    expected = [0.01 * min(first + tau, steps) for first in first_wrong]
    moved = (pgd(batch) - images).flatten(1)
    assert moved[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert moved[:, 1].tolist() == pytest.approx([-d for d in expected], abs=1e-6)


def test_misses_add_up_and_a_rest_is_for_good():
    # right, wrong, right, wrong, right: the second miss is the one that follows another
    network = Slope([1.0], offsets=(-9.0, 9.0, -9.0, 9.0, -9.0))
    pgd = EarlyStoppedPgd(noise=0.0, escape=0.0)
    for epoch, steps_taken in ((1, 1), (60, 3), (100, 5)):
        network.passes.clear()
        images = pixels(0.5, 0.5)
        found = pgd(batch_of(network, images, steps=5, epsilon="1/5", epoch=epoch, epochs=120))
        assert (found - images).flatten().tolist() == pytest.approx([0.01 * steps_taken] * 2)


def test_nothing_is_passed_after_the_last_image_rests():
    network = Slope([1.0], offsets=(-9.0, 9.0))
    EarlyStoppedPgd(noise=0.0)(batch_of(network, pixels(0.5, 0.5), steps=10))
    assert len(network.passes) == 2


def real_batch(**parts):
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build((1, 8, 8), width=3)
    network = Network(trunk, Linear().build(trunk.features, 4)).train()
    draws = torch.Generator().manual_seed(0)
    return Batch(
        network,
        torch.rand(24, 1, 8, 8, generator=draws).round(decimals=1),
        torch.randint(0, 4, (24,), generator=draws),
        budget=InnerBudget(ThreatModel.parse("linf", "1/5"), 5, 0.05),
        combine=PerHead(),
        generator=torch.Generator().manual_seed(1),
        **parts,
    )


@pytest.mark.parametrize("climbs", ["ce", "kl"])
@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_with_endless_patience_and_no_noise_it_is_pgd(climbs, start):
    endless = EarlyStoppedPgd(climbs, start, patience_ends=(0,) * 5, escape=0.0)
    assert torch.equal(endless(real_batch()), Pgd(climbs, start)(real_batch()))
    stopped = EarlyStoppedPgd(climbs, start, escape=0.0)(real_batch())
    assert not torch.equal(stopped, Pgd(climbs, start)(real_batch()))


def test_it_equals_pgd_of_each_image_stopped_at_its_first_miss():
    batch = real_batch()
    found = EarlyStoppedPgd(start="uniform", escape=0.0)(batch)
    batch.network.eval()
    states = []
    for steps in range(6):
        shorter = real_batch()
        shorter.budget = InnerBudget(batch.budget.threat, steps, 0.05)
        states.append(Pgd(start="uniform")(shorter))
    stopped = []
    for i, label in enumerate(batch.labels.tolist()):
        answers = [int(batch.network(state[i : i + 1]).logits.argmax()) for state in states[:5]]
        stopped.append(next((t for t, a in enumerate(answers) if a != label), 5))
        torch.testing.assert_close(found[i], states[stopped[-1]][i], atol=1e-6, rtol=0)
    assert len(set(stopped)) > 1


@pytest.mark.parametrize("escape", [0.001, 10.0])
def test_images_stay_in_the_ball_and_the_box(escape):
    batch = real_batch()
    found = EarlyStoppedPgd(start="uniform", escape=escape)(batch)
    assert check_inside(batch.images, found, batch.budget.threat).max() > 0.01
    assert not found.requires_grad


def test_noise_moves_an_image_that_has_no_gradient():
    images = torch.full((20, 1, 20, 20), 0.5)
    batch = batch_of(Slope([0.0] * 400, offsets=(-1.0,)), images, steps=4, epsilon="1/2")
    moved = EarlyStoppedPgd(noise=0.0, escape=0.01)(batch) - images
    assert moved.std().item() == pytest.approx(0.02, rel=0.05)  # four draws of 0.01
