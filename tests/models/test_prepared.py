"""Copies that are attacked in place of a network: the same function, proved before use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.heads.hypersphere import Hypersphere
from harness.heads.linear import Linear
from harness.hooks.reverse_attention import ReverseAttention
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network, Normalisation
from harness.models.prepared import RoughConvolution, can_fold, folded, prove_equal, rough

SHAPE = (3, 16, 16)
WIDTHS = {"wrn_28_10": 1, "wrn_34_10": 1, "wrn_34_20": 1}


def network_of(architecture: str, *, hook: bool = False, head: object = None) -> Network:
    """A small network with statistics, scales and shifts of its own, as after training."""
    torch.manual_seed(0)
    trunk = ARCHITECTURES[architecture].build(SHAPE, width=WIDTHS.get(architecture, 4))
    network = Network(
        trunk,
        (head or Linear()).build(trunk.features, 10),
        ReverseAttention().build(trunk) if hook else None,
        Normalisation(torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        network.train()(pictures(32))
    return network


def pictures(count: int = 5) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_folds_to_the_same_function(architecture, hook):
    network = network_of(architecture, hook=hook)

    prove_equal(network, pictures())


@pytest.mark.parametrize("view", ["cosine", "angle"])
def test_a_hypersphere_head_survives_folding(view):
    prove_equal(network_of("resnet18", head=Hypersphere(view=view)), pictures())


@pytest.mark.parametrize(
    ("architecture", "left"),
    [("resnet18", 0), ("small_resnet", 0), ("preactresnet18", 9), ("wrn_28_10", 13)],
)
def test_what_follows_a_convolution_alone_is_folded(architecture, left):
    copy = folded(network_of(architecture))

    norms = [module for module in copy.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == left


def test_a_copy_is_frozen_and_the_original_untouched():
    network = network_of("resnet18").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    copy = folded(network)

    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert not any(module.training for module in copy.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_gradient_is_that_of_the_original():
    network = network_of("resnet18").eval().double()
    points = pictures().double().requires_grad_()
    labels = torch.arange(5)

    def gradient(model: nn.Module) -> Tensor:
        loss = nn.functional.cross_entropy(model(points).logits, labels)
        return torch.autograd.grad(loss, points)[0]

    assert torch.allclose(gradient(network), gradient(folded(network)), rtol=1e-9, atol=1e-12)


def test_a_block_that_names_the_wrong_normalisation_is_found(monkeypatch):
    network = network_of("resnet18")
    for block in network.trunk.layer1:
        monkeypatch.setattr(block, "folds", (("conv1", "bn2"),))

    with pytest.raises(HarnessError, match="another function"):
        prove_equal(network, pictures())


def test_training_folds_only_what_stays_the_function_with_any_statistics(monkeypatch):
    """A fresh network's normalisations change nothing: a wrong pair would not show in it."""
    fresh = network_of("resnet18")
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}

    assert can_fold(fresh, pictures())
    for block in fresh.trunk.layer1:
        monkeypatch.setattr(block, "folds", (("conv1", "bn2"), ("conv2", "bn1")))
    assert not can_fold(fresh, pictures())
    assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())


def test_nothing_is_copied_where_nothing_can_be_folded(monkeypatch):
    network = network_of("resnet18")
    for module in network.modules():
        if hasattr(module, "folds"):
            monkeypatch.setattr(module, "folds", ())

    assert not can_fold(network, pictures())


def test_a_name_that_is_no_convolution_is_refused(monkeypatch):
    network = network_of("resnet18")
    monkeypatch.setattr(network.trunk, "folds", (("bn1", "conv1"),))

    with pytest.raises(TypeError, match="no convolution"):
        folded(network)


@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("architecture", ["resnet18", "preactresnet18", "wrn_28_10"])
def test_the_rough_copy_answers_in_float32_close_to_the_original(architecture, hook):
    network = network_of(architecture, hook=hook).eval()
    copy = rough(folded(network))

    with torch.no_grad():
        exact, found = (
            network(pictures(), select=torch.arange(5)),
            copy(pictures(), select=torch.arange(5)),
        )

    scale = float(exact.logits.abs().max())
    assert all(logits.dtype == torch.float32 for logits in found.every_logits())
    assert 0 < float((exact.logits - found.logits).abs().max()) < 0.05 * scale
    convolutions = [m for m in copy.modules() if isinstance(m, RoughConvolution)]
    assert len(convolutions) == sum(isinstance(m, nn.Conv2d) for m in network.modules())


def test_the_gradient_of_the_rough_copy_has_the_signs_of_the_original():
    network = network_of("resnet18").eval()

    def signs(model: nn.Module) -> Tensor:
        points = pictures(16).requires_grad_()
        loss = nn.functional.cross_entropy(model(points).logits, torch.arange(16) % 10)
        return torch.autograd.grad(loss, points)[0].sign()

    agreement = (signs(network) == signs(rough(folded(network)))).float().mean()
    assert float(agreement) > 0.8
