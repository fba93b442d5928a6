"""Windows recomputed alone give what a whole pass gives: every map, window, edge and stride."""

import pytest
import torch
from torch import Tensor, nn

from harness.heads.linear import LinearHead
from harness.hooks.reverse_attention import ReverseAttention
from harness.models.graph import steps_of
from harness.models.incremental import neighbourhood
from harness.models.network import Network, Normalisation
from harness.models.preactresnet import PreActResNet18, SmallPreActResNet
from harness.models.prepared import folded
from harness.models.regions import Geometry, Span, Stretch
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


def windows_of(height, width):
    """Square windows of every size that fits, in the corners and at a few places between."""
    for side in range(1, min(height, width) + 1):
        tops = sorted({0, 1, (height - side) // 2, height - side - 1, height - side})
        lefts = sorted({0, (width - side) // 2 + 1, width - side})
        for top in tops:
            for left in lefts:
                if 0 <= top <= height - side and 0 <= left <= width - side:
                    yield top, left, side


def by_side(height, width):
    """Per side, corners [m, 2] of such windows."""
    found = {}
    for top, left, side in windows_of(height, width):
        found.setdefault(side, []).append((top, left))
    return {side: torch.tensor(corners) for side, corners in found.items()}


def asked(images, corners, side, seed):
    """Every image with every window changed: candidates, whose they are, corners."""
    of = torch.arange(len(images)).repeat_interleave(len(corners))
    places = corners.repeat(len(images), 1)
    candidates = images[of].clone()
    chance = torch.Generator().manual_seed(seed)
    for candidate, (top, left) in zip(candidates, places.tolist(), strict=True):
        part = candidate[:, top : top + side, left : left + side]
        part.copy_(torch.rand(part.shape, generator=chance))
    return candidates, of, places


@each
def test_every_window_gives_the_logits_of_a_whole_pass(name):
    network = NETWORKS[name]()
    images = torch.rand(3, *network.trunk.shape)
    near = neighbourhood(network, images)
    answers = set()
    for side, corners in by_side(*images.shape[2:]).items():
        candidates, of, places = asked(images, corners, side, side)
        truth = network(candidates).logits
        assert close(near.logits(candidates, of, places, side), truth), side
        answers |= {round(float(one), 4) for one in truth[:, 0]}
    assert len(answers) > 10  # the windows did change the logits


@each
def test_a_long_walk_with_some_accepted_and_some_dropped_does_not_drift(name):
    network = NETWORKS[name]()
    images = torch.rand(12, *network.trunk.shape)
    near, chance = neighbourhood(network, images), torch.Generator().manual_seed(3)
    windows = by_side(*images.shape[2:])
    for step in range(80):
        side = int(torch.randint(1, len(windows) + 1, (1,), generator=chance))
        corners = windows[side][torch.randperm(len(windows[side]), generator=chance)[:3]]
        candidates, of, places = asked(images, corners, side, step)
        assert close(near.logits(candidates, of, places, side), network(candidates).logits), step
        accepted = (torch.rand(len(images), generator=chance) < 0.4).nonzero()[:, 0]
        rows = accepted * len(corners) + step % len(corners)
        near.accept(rows)
        images[accepted] = candidates[rows]
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
    for step, (top, left, side) in enumerate(list(windows_of(*images.shape[2:]))[::7]):
        images, of, places = asked(images, torch.tensor([[top, left]]), side, step)
        near.logits(images, of, places, side)
        near.accept(torch.arange(4))
    fresh = neighbourhood(network, images)
    assert near.known().keys() == fresh.known().keys()
    for number, maps in fresh.known().items():
        assert maps.abs().max() > 0
        assert close(near.known()[number], maps), number


def test_what_was_not_accepted_is_forgotten():
    network = NETWORKS["digits"]()
    images = torch.rand(4, 1, 8, 8)
    near = neighbourhood(network, images)
    near.logits(*asked(images, torch.tensor([[1, 1]]), 4, 0), 4)
    near.accept(torch.arange(0))
    corners = torch.zeros(4, 2, dtype=torch.int64)
    assert close(near.logits(images, torch.arange(4), corners, 1), network(images).logits)


@pytest.mark.parametrize("name", ["resnet18", "digits", "wide"])
def test_the_bits_of_a_candidate_do_not_depend_on_its_batch_mates(name):
    network = NETWORKS[name]()
    images = torch.rand(40, *network.trunk.shape)
    whole = neighbourhood(network, images)
    for side, corners in by_side(*images.shape[2:]).items():
        candidates, of, places = asked(images, corners[:2], side, 1)
        found = whole.logits(candidates, of, places, side)
        for count in (1, 3, 17, 61):
            few = neighbourhood(network, images[: (count + 1) // 2])
            some = few.logits(candidates[:count], of[:count], places[:count], side)
            assert torch.equal(some, found[:count]), (side, count)
        order = torch.randperm(len(of), generator=torch.Generator().manual_seed(0))[:50]
        mixed = whole.logits(candidates[order], of[order], places[order], side)
        assert torch.equal(mixed, found[order]), side


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


def test_a_network_whose_maps_do_not_fit_has_no_neighbourhood():
    """It is a matter of the network, not of how many images are asked about at once."""
    images, network = torch.rand(40, 1, 8, 8), NETWORKS["digits"]()
    one = neighbourhood(network, images[:1]).bytes
    assert one > images[0].nbytes
    assert neighbourhood(network, images[:17]).bytes == 17 * one
    for count in (1, 17, 40):
        assert neighbourhood(network, images[:count], most_bytes=112 * one) is not None
        assert neighbourhood(network, images[:count], most_bytes=112 * one - 1) is None


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
        places = [(a, b) for a in range(side) for b in range(a, side + 1)]
        size = convolution(torch.zeros(1, 1, side, side)).shape[2]
        found = geometry.reached(Span(*torch.tensor(places).T), 0, size)
        for (first, last), low, high in zip(places, *map(Tensor.tolist, found), strict=True):
            images = torch.zeros(1, 1, side, side)
            images[:, :, first:last, first:last] = 1
            shown = convolution(images)[0, 0].diagonal() > 0
            assert shown.nonzero()[:, 0].tolist() == list(range(low, high))
            assert 0 <= low <= high <= size


def test_spans_of_several_places_get_one_length_inside_the_axis():
    spans = Span(torch.tensor([0, 2, 6, 3]), torch.tensor([2, 5, 8, 3]))
    stretch = Stretch.around(spans, 8, enough=0.9)
    assert stretch.length == 3
    assert stretch.first.tolist() == [0, 2, 5, 3]
    assert Stretch.around(spans, 8, enough=0.3).length == 8
    both = spans.union(Span(torch.tensor([4, 4, 0, 4]), torch.tensor([6, 4, 0, 5])))
    assert [one.tolist() for one in both] == [[0, 2, 6, 4], [6, 5, 8, 5]]
