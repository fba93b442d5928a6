"""The single step of fast adversarial training (`baselines.md` section 10)."""

from dataclasses import dataclass

import pytest
import torch
from climbed_models import Slope, batch_of, pixels
from torch import nn
from torch.nn import functional

from harness.batch import Batch, InnerBudget, PerHead
from harness.heads.hypersphere import Hypersphere
from harness.heads.linear import Linear
from harness.maximisers import fast
from harness.maximisers.fast import RandomFgsm
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Head, Network
from harness.threat import ThreatModel
from harness.verification import check_inside

SHAPE = (1, 8, 8)


def network_of(head):
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build(SHAPE, width=3)
    return Network(trunk, head.build(trunk.features, 4)).train()


def real_batch(network, *, bn="eval", norm="linf", seed=1):
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(12, *SHAPE, generator=draws)
    images[:4] = images[:4].round()
    return Batch(
        network,
        images,
        torch.randint(0, 4, (12,), generator=draws),
        budget=InnerBudget(ThreatModel.parse(norm, "1/5"), 3, 0.01, bn),
        combine=PerHead(),
        generator=torch.Generator().manual_seed(seed),
    )


def test_the_step_is_that_of_the_mechanism_check_case(monkeypatch):
    images = pixels((0.5, 0.5))
    start = images + pixels((6 / 255, -8 / 255))
    monkeypatch.setattr(fast, "anywhere", lambda *_: start.clone())
    found = RandomFgsm(relative_step=1.25)(batch_of(Slope([1.0, 2.0]), images, epsilon="8/255"))
    assert (255 * (found - images)).flatten().tolist() == pytest.approx([8, 2], abs=1e-4)


def test_a_long_step_reaches_the_optimum_of_a_linear_model_from_everywhere():
    direction = torch.tensor([0.3, -2.0, 0.1])
    images = pixels(*[(0.5, 0.4, 0.6)] * 20)
    found = RandomFgsm(relative_step=2.0)(batch_of(Slope(direction.tolist()), images))
    gains = ((found - images).flatten(1) * direction).sum(1)
    torch.testing.assert_close(gains, torch.full((20,), 0.1 * 2.4))  # epsilon times dual norm


def test_a_short_step_climbs_by_its_length_times_the_dual_norm():
    direction = torch.tensor([0.3, -2.0, 0.1])
    network, images = Slope(direction.tolist()), pixels(*[(0.5, 0.4, 0.6)] * 50)
    start, found = (RandomFgsm(relative_step=r)(batch_of(network, images)) for r in (0.0, 0.25))
    moved = found - start
    assert (moved.abs() < 0.025 + 1e-6).all()
    untouched = (found - images).abs() < 0.1 - 1e-6
    assert untouched.any()
    torch.testing.assert_close(
        moved[untouched].abs(), torch.full_like(moved[untouched], 0.025), atol=1e-6, rtol=0
    )


def test_the_start_is_uniform_in_the_ball():
    images = torch.full((50, 1, 20, 20), 0.5)
    moved = RandomFgsm(relative_step=0.0)(batch_of(Slope([1.0] * 400), images)) - images
    counts = torch.histc(moved, bins=10, min=-0.1, max=0.1) / moved.numel()
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=0.01, rtol=0)


def test_the_gradient_is_float32_where_the_run_is_not():
    network, images = Slope([1.0, -1.0]), pixels((0.5, 0.5))
    batch = batch_of(network, images, precision="bfloat16", maximiser=RandomFgsm())
    _ = batch.adversarial
    assert [autocast for _, autocast in network.passes] == [False, True]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("relative_step", [0.1, 1.25, 50.0])
def test_images_stay_in_the_ball_and_the_box(norm, relative_step):
    batch = real_batch(network_of(Linear()), norm=norm)
    found = RandomFgsm(relative_step=relative_step)(batch)
    assert check_inside(batch.images, found, batch.budget.threat).max() > 0.01
    assert not found.requires_grad


@pytest.mark.parametrize(("bn", "passes"), [("eval", 0), ("train", 1)])
def test_batch_norm_sees_the_one_pass_in_train_mode_alone(bn, passes):
    network = network_of(Linear())
    RandomFgsm()(real_batch(network, bn=bn))
    assert int(network.trunk.bn1.num_batches_tracked) == passes
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


class AngularHead(Head):
    """Cosines; the loss sees 15 times them, with a margin on the true class's angle."""

    scale = 15.0

    def __init__(self, features, classes, margin):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))
        self.margin = margin

    def forward(self, features):
        return functional.normalize(features) @ functional.normalize(self.weight).T

    def training_logits(self, logits, labels):
        widened = logits.acos() + self.margin * functional.one_hot(labels, logits.shape[1])
        return 15.0 * widened.cos()


@dataclass(frozen=True)
class Angular:
    margin: float

    def build(self, features, classes):
        return AngularHead(features, classes, self.margin)


def test_the_margin_stays_out_of_the_step_unless_asked_for():
    plain, wide = (network_of(Angular(margin=m)) for m in (0.0, 0.8))
    found = [RandomFgsm()(real_batch(network)) for network in (plain, wide)]
    assert torch.equal(*found)
    inside = RandomFgsm(margin=True)(real_batch(wide))
    assert not torch.equal(inside, found[1])


def test_a_subtracted_margin_changes_no_sign():
    network = network_of(Hypersphere(scale=15.0, margin=0.8))
    without, inside = (RandomFgsm(margin=margin)(real_batch(network)) for margin in (False, True))
    assert torch.equal(without, inside)


@pytest.mark.parametrize("margin", [False, True])
def test_the_gradient_is_that_of_scaled_cosines_with_or_without_margin(margin):
    network = network_of(Angular(margin=0.5))
    start = RandomFgsm(relative_step=0.0)(real_batch(network)).requires_grad_()
    batch = real_batch(network)
    network.eval()
    cosines = network(start).logits
    angles = cosines.acos() + 0.5 * margin * functional.one_hot(batch.labels, 4)
    loss = functional.cross_entropy(15 * angles.cos(), batch.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, start)
    network.train()
    expected = start.detach() + 0.25 * gradient.sign()
    expected = expected.clamp(batch.images - 0.2, batch.images + 0.2).clamp(0, 1)
    found = RandomFgsm(relative_step=1.25, margin=margin)(batch)
    assert (found - expected).abs().max() < 1e-6


def test_random_numbers_come_from_the_stream_of_the_step():
    network = network_of(Linear())
    once, again, other = (RandomFgsm()(real_batch(network, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
