"""Negatives (`ancra.md` 3.1): another class, drawn by class, attacked towards the anchor."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.batch import Batch, InnerBudget, PerHead
from harness.heads.linear import Linear
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.negatives import TargetedNegatives, other_class_partners
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.regularisers.negative_contrast import NegativeContrast
from harness.threat import ThreatModel
from harness.verification import check_inside

SHAPE = (1, 8, 8)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(labels, *, hook=None, steps=5, seed=1):
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build(SHAPE, width=3)
    network = Network(trunk, Linear().build(trunk.features, 4), hook and hook.build(trunk)).train()
    return Batch(
        network,
        torch.rand(len(labels), *SHAPE, generator=stream()),
        torch.tensor(labels),
        budget=InnerBudget(ThreatModel.parse("linf", "1/10"), steps, 0.03),
        combine=PerHead(),
        generator=stream(seed),
        negatives=TargetedNegatives(),
    )


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_a_partner_never_has_the_label_of_its_anchor(labels, seed):
    labels = torch.tensor(labels)
    partners, exists = other_class_partners(labels, stream(seed))
    assert exists.tolist() == [len(labels.unique()) > 1] * len(labels)
    assert ((labels[partners] != labels) == exists).all()
    assert ((partners >= 0) & (partners < len(labels))).all()


def test_classes_are_drawn_uniformly_and_then_images_of_the_class():
    anchors = 20_000
    labels = torch.tensor([0] * anchors + [1] * 30 + [2] * 3 + [3] * 10)
    partners = other_class_partners(labels, stream(7))[0][:anchors]
    by_class = labels[partners].bincount() / anchors
    # three standard deviations of a third are 0.01: image-uniform would give 0.70, 0.07, 0.23
    torch.testing.assert_close(by_class, torch.tensor([0, 1, 1, 1]) / 3, atol=0.01, rtol=0)
    of_class_two = partners[labels[partners] == 2] - (anchors + 30)
    within = of_class_two.bincount() / len(of_class_two)
    torch.testing.assert_close(within, torch.full((3,), 1 / 3), atol=0.02, rtol=0)


def test_every_other_image_can_be_a_partner():
    labels = torch.tensor([0, 1, 1, 2, 0])
    draws, seen = stream(), [set() for _ in labels]
    for _ in range(200):
        for anchor, partner in enumerate(other_class_partners(labels, draws)[0].tolist()):
            seen[anchor].add(partner)
    assert seen == [{1, 2, 3}, {0, 3, 4}, {0, 3, 4}, {0, 1, 2, 4}, {1, 2, 3}]


@pytest.mark.parametrize("hook", [None, ReverseAttention()], ids=["plain", "gated"])
def test_with_one_class_only_the_contrast_is_exactly_zero_and_trains(hook):
    batch = batch_of([2, 2, 2], hook=hook)
    assert not batch.negatives.exists.any()
    value = NegativeContrast(weight=3.0)(batch)
    value.backward()
    assert value.item() == 0.0
    gradients = [p.grad for p in batch.network.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_negatives_stay_within_epsilon_of_their_own_image():
    batch = batch_of([0, 1, 2, 3, 0, 1])
    labels = batch.labels
    partners, _ = other_class_partners(labels, stream(1))
    found = batch.negatives
    assert torch.equal(found.labels, labels[partners])
    check_inside(batch.images[partners], found.images, batch.budget.threat)
    assert (found.images != batch.images[partners]).any()


@pytest.mark.parametrize("hook", [None, ReverseAttention()], ids=["plain", "gated"])
def test_the_attack_moves_negatives_towards_the_anchor_s_class(hook):
    labels = [0, 1, 2, 3] * 4
    losses = []
    for steps in (0, 10):
        batch = batch_of(labels, hook=hook, steps=steps)
        images = batch.negatives.images
        batch.network.eval()
        with torch.no_grad():
            outputs = batch.network(images).every_logits()
            values = [torch.nn.functional.cross_entropy(one, batch.labels) for one in outputs]
        losses.append(PerHead()(values.__getitem__, len(values)).item())
    assert losses[1] < losses[0]


def test_statistics_and_gradients_stay_as_they_were():
    batch = batch_of([0, 1, 2, 3])
    state = {name: value.clone() for name, value in batch.network.state_dict().items()}
    _ = batch.negatives
    assert all(torch.equal(v, state[k]) for k, v in batch.network.state_dict().items())
    assert all(parameter.grad is None for parameter in batch.network.parameters())
    assert all(module.training for module in batch.network.modules())


def test_the_same_stream_gives_the_same_negatives():
    state = torch.get_rng_state()
    once, again = (batch_of([0, 1, 1, 3]) for _ in range(2))
    torch.set_rng_state(state)
    assert torch.equal(once.negatives.images, again.negatives.images)
    other = batch_of([0, 1, 1, 3], seed=5)
    assert not torch.equal(once.negatives.images, other.negatives.images)
