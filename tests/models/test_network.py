"""The network: one forward for every defense, normalisation inside it."""

import pytest
import torch

from harness.heads.hypersphere import Hypersphere
from harness.heads.linear import Linear
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Hook, Hooked, Network, Normalisation, parameter_count
from harness.outputs import SoftSelect, Stripped

SHAPE = (3, 8, 8)


LINEAR = Linear()


def network_of(head=LINEAR, normalisation=None, name="small_resnet"):
    torch.manual_seed(0)
    trunk = ARCHITECTURES[name].build(SHAPE, width=3)
    return Network(trunk, head.build(trunk.features, 4), None, normalisation).eval()


@pytest.mark.parametrize("name", ["small_resnet", "small_preactresnet"])
def test_the_plain_forward_is_trunk_then_head(name):
    network, images = network_of(name=name), torch.rand(2, *SHAPE)
    outputs = network(images)
    features = network.trunk(images)
    assert torch.equal(outputs.features, features)
    assert torch.equal(outputs.logits, network.head(features))
    assert (outputs.auxiliary, outputs.logit_scale) == ((), 1.0)
    assert (outputs.vectors, outputs.gated) == ((), None)


@pytest.mark.parametrize("select", [torch.tensor([1, 2]), SoftSelect(), Stripped()])
def test_a_network_without_a_gate_ignores_the_selection(select):
    network, images = network_of(), torch.rand(2, *SHAPE)
    assert torch.equal(network(images, select=select).logits, network(images).logits)


class Doubled(Hook):
    """Doubles the maps of the last block; one auxiliary head on what comes before."""

    auxiliary = 1

    def forward(self, trunk, head, maps, select):
        for block in trunk.blocks:
            maps = block(maps)
        maps = trunk.finish(maps)
        features = trunk.pool(maps)
        return Hooked(2 * maps, features, (head(features),), (features,))


def test_what_a_hook_returns_is_passed_on_and_what_the_head_classified_beside_it():
    plain, images = network_of(), torch.rand(2, *SHAPE)
    outputs = Network(plain.trunk, plain.head, Doubled()).eval()(images)
    features = plain(images).features
    assert torch.equal(outputs.features, features)
    assert [vectors.tolist() for vectors in outputs.vectors] == [features.tolist()]
    torch.testing.assert_close(outputs.gated, 2 * features)
    assert torch.equal(outputs.logits, plain.head(outputs.gated))
    assert torch.equal(outputs.auxiliary[0], plain.head(features))


def test_a_stripped_pass_leaves_the_hook_out_and_scale_and_normalisation_in():
    normalisation = Normalisation(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.5, 1.0]))
    plain, images = network_of(Hypersphere(scale=15.0), normalisation), torch.rand(2, *SHAPE)
    network = Network(plain.trunk, plain.head, Doubled(), normalisation).eval()
    stripped, expected = network(images, select=Stripped()), plain(images)
    assert torch.equal(stripped.logits, expected.logits)
    assert torch.equal(stripped.features, expected.features)
    assert (stripped.auxiliary, stripped.logit_scale) == ((), 15.0)


def test_the_scale_of_the_head_is_told_and_not_applied():
    outputs = network_of(Hypersphere(scale=15.0))(torch.rand(2, *SHAPE))
    assert outputs.logit_scale == 15.0
    assert outputs.logits.abs().max() <= 1


def test_normalisation_is_done_inside_and_per_channel():
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.5, 1.0])
    network, images = network_of(normalisation=Normalisation(mean, std)), torch.rand(2, *SHAPE)
    outside = torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(network(images).features, network.trunk(outside))


def test_normalisation_travels_with_the_weights_and_is_not_trained():
    network = network_of(normalisation=Normalisation(torch.rand(3), torch.rand(3)))
    names = set(network.state_dict())
    assert {"normalisation.mean", "normalisation.std"} <= names
    assert not any(name.startswith("normalisation") for name, _ in network.named_parameters())
    assert set(network_of().state_dict()) == names - {"normalisation.mean", "normalisation.std"}


def test_parameters_are_counted_once_and_buffers_not():
    network = network_of()
    by_hand = sum(value.numel() for _, value in network.named_parameters())
    assert parameter_count(network) == by_hand
    network.shared = network.head
    assert parameter_count(network) == by_hand
    assert by_hand < sum(value.numel() for value in network.state_dict().values())
