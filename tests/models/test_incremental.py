"""Windows recomputed alone give what a whole pass gives: every map, window, edge and stride."""

import pytest
import torch
from torch import nn

from harness.heads.linear import LinearHead
from harness.hooks.reverse_attention import ReverseAttention
from harness.models.graph import steps_of
from harness.models.incremental import neighbourhood
from harness.models.network import Network, Normalisation
from harness.models.preactresnet import PreActResNet18, SmallPreActResNet
from harness.models.prepared import folded
from harness.models.regions import Geometry, Region
from harness.models.resnet import ResNet18, SmallResNet
from harness.models.wide_resnet import WideResNet

ROUNDING = 1e-5
"""Relative to the largest logit."""


def lively(trunk, *, normalised=False):
    """A network whose normalisations have seen images, so that nothing in it is an identity."""
    torch.manual_seed(0)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    shift = Normalisation(torch.full((3,), 0.4), torch.full((3,), 0.3)) if normalised else None
    network = Network(trunk, LinearHead(trunk.features, 10), None, shift).train()
    with torch.no_grad():
        for _ in range(10):
            network(torch.rand(32, *trunk.shape))
    return network.eval().requires_grad_(requires_grad=False)


NETWORKS = {
    "resnet18": lambda: folded(lively(ResNet18((3, 32, 32), 4))),
    "odd sides": lambda: folded(lively(ResNet18((3, 19, 22), 4))),
    "digits": lambda: folded(lively(SmallResNet((1, 8, 8), 8))),
    "not folded": lambda: lively(SmallResNet((3, 9, 9), 4), normalised=True),
    "preact": lambda: folded(lively(SmallPreActResNet((1, 8, 8), 4))),
    "preactresnet18": lambda: folded(lively(PreActResNet18((3, 16, 16), 4), normalised=True)),
    "wide": lambda: folded(lively(WideResNet((3, 12, 12), depth=10, widening=2, width=4))),
}
each = pytest.mark.parametrize("name", NETWORKS)


def close(found, truth):
    bound = ROUNDING * max(float(truth.abs().max()), 1.0)
    return bool(((found - truth).abs() <= bound).all())


def changed(images, window, seed):
    top, left, bottom, right = window
    candidates = images.clone()
    part = candidates[:, :, top:bottom, left:right]
    part.copy_(torch.rand(part.shape, generator=torch.Generator().manual_seed(seed)))
    return candidates


def windows_of(height, width):
    """Every size that fits, in the corners and at a few places between."""
    for side in range(1, min(height, width) + 1):
        tops = sorted({0, 1, (height - side) // 2, height - side - 1, height - side})
        lefts = sorted({0, (width - side) // 2 + 1, width - side})
        for top in tops:
            for left in lefts:
                if 0 <= top <= height - side and 0 <= left <= width - side:
                    yield top, left, top + side, left + side


@each
def test_every_window_gives_the_logits_of_a_whole_pass(name):
    network = NETWORKS[name]()
    images = torch.rand(5, *network.trunk.shape)
    near = neighbourhood(network, images)
    answers = set()
    for number, window in enumerate(windows_of(*images.shape[2:])):
        candidates = changed(images, window, number)
        truth = network(candidates).logits
        assert close(near.logits(candidates, window), truth), window
        answers.add(round(float(truth[0, 0]), 4))
    assert len(answers) > 10  # the windows did change the logits


@each
def test_a_long_walk_with_some_accepted_and_some_dropped_does_not_drift(name):
    network = NETWORKS[name]()
    images = torch.rand(12, *network.trunk.shape)
    near, chance = neighbourhood(network, images), torch.Generator().manual_seed(3)
    windows = list(windows_of(*images.shape[2:]))
    for step in range(80):
        window = windows[int(torch.randint(len(windows), (1,), generator=chance))]
        candidates = changed(images, window, step)
        assert close(near.logits(candidates, window), network(candidates).logits), step
        accepted = torch.rand(len(images), generator=chance) < 0.4
        near.accept(accepted)
        images = torch.where(accepted[:, None, None, None], candidates, images)
        if step % 20 == 10:
            kept = torch.arange(len(images)) != step % len(images)
            near.take(kept)
            images = images[kept]
    assert len(images) == 8


@each
def test_all_kept_maps_after_a_walk_are_those_of_the_accepted_images(name):
    network = NETWORKS[name]()
    images = torch.rand(4, *network.trunk.shape)
    near = neighbourhood(network, images)
    for step, window in enumerate(list(windows_of(*images.shape[2:]))[::7]):
        images = changed(images, window, step)
        near.logits(images, window)
        near.accept(torch.ones(4, dtype=torch.bool))
    fresh = neighbourhood(network, images)
    assert near.known().keys() == fresh.known().keys()
    for number, maps in fresh.known().items():
        assert maps.abs().max() > 0
        assert close(near.known()[number], maps), number


def test_what_was_not_accepted_is_forgotten():
    network = NETWORKS["digits"]()
    images = torch.rand(4, 1, 8, 8)
    near = neighbourhood(network, images)
    near.logits(changed(images, (1, 1, 5, 5), 0), (1, 1, 5, 5))
    near.accept(torch.zeros(4, dtype=torch.bool))
    assert close(near.logits(images, (0, 0, 1, 1)), network(images).logits)


@pytest.mark.parametrize("name", ["resnet18", "digits", "wide"])
def test_the_bits_of_an_image_do_not_depend_on_its_batch_mates(name):
    network = NETWORKS[name]()
    images = torch.rand(40, *network.trunk.shape)
    for window in list(windows_of(*images.shape[2:]))[::9]:
        candidates = changed(images, window, 1)
        whole = neighbourhood(network, images).logits(candidates, window)
        for count in (1, 3, 17):
            alone = neighbourhood(network, images[:count]).logits(candidates[:count], window)
            assert torch.equal(alone, whole[:count]), (window, count)


class Attentive(SmallResNet):
    """Lets every pixel know the average of its map."""

    def _before_last_stage(self, images):
        maps = super()._before_last_stage(images)
        return maps * maps.mean((2, 3), keepdim=True)


class Choosing(SmallResNet):
    """Does something else with dark images, which no list of operations can say."""

    def _before_last_stage(self, images):
        return super()._before_last_stage(images if images.mean() > 0.1 else 1 - images)


class Wrapped(SmallResNet):
    """Turns images before anything sees them."""

    def stem(self, images):
        return super().stem(images.flip(3))


@pytest.mark.parametrize("trunk", [Attentive, Choosing, Wrapped])
def test_operations_that_are_not_local_have_no_neighbourhood(trunk):
    network = lively(trunk((1, 8, 8), 4))
    assert steps_of(network) is None
    assert neighbourhood(network, torch.rand(3, 1, 8, 8)) is None


def test_hooks_training_mode_and_other_modules_have_no_neighbourhood():
    images, network = torch.rand(3, 1, 8, 8), lively(SmallResNet((1, 8, 8), 4))
    assert neighbourhood(network, images) is not None
    hooked = Network(network.trunk, network.head, ReverseAttention().build(network.trunk))
    assert neighbourhood(hooked.eval(), images) is None
    assert neighbourhood(nn.Sequential(network), images) is None
    network.trunk.bn1.train()
    assert neighbourhood(network, images) is None


def test_too_many_images_for_the_memory_have_no_neighbourhood():
    """It is a matter of the network, not of how many images are asked about at once."""
    images, network = torch.rand(40, 1, 8, 8), NETWORKS["digits"]()
    sixteen = neighbourhood(network, images[:6]).bytes
    assert sixteen > 16 * images[0].nbytes  # rows come by sixteen
    assert neighbourhood(network, images[:17]).bytes == 2 * sixteen
    for count in (1, 17, 40):
        assert neighbourhood(network, images[:count], most_bytes=7 * sixteen) is not None
        assert neighbourhood(network, images[:count], most_bytes=7 * sixteen - 1) is None


def test_a_graph_that_is_not_the_networks_is_not_used(monkeypatch):
    images, network = torch.rand(3, 1, 8, 8), NETWORKS["digits"]()
    steps = steps_of(network)[:-1]  # the last ReLU is missing
    monkeypatch.setattr("harness.models.incremental.steps_of", lambda network: steps)
    assert neighbourhood(network, images) is None


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_what_a_change_reaches_is_what_a_convolution_of_ones_shows(kernel, stride, padding):
    convolution = nn.Conv2d(1, 1, kernel, stride=stride, padding=padding, bias=False)
    nn.init.ones_(convolution.weight)
    geometry = Geometry.of(convolution)
    for side in range(max(kernel - 2 * padding, 1), 9):
        for first in range(side):
            for last in range(first + 1, side + 1):
                images = torch.zeros(1, 1, side, side)
                images[:, :, first:last, first:last] = 1
                shown = convolution(images)[0, 0]
                reached = geometry.reached(Region(first, first, last, last), tuple(shown.shape))
                outside = torch.ones_like(shown, dtype=torch.bool)
                outside[reached.top : reached.bottom, reached.left : reached.right] = False
                assert not shown[outside].any()
                assert bool((shown[~outside] > 0).all())
                assert reached.is_empty == (not shown.any())
