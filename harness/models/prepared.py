"""A network made ready to be attacked: the same function by fewer and cheaper operations.

A search differentiates one frozen network thousands of times. In evaluation mode BatchNorm is a
fixed affine map, so it goes into the convolution before it; weights lie as convolutions read them
(channels last); parameters ask for no gradient. What a copy computes differs from the original by
rounding alone, which `prove_equal` shows in float64 before anything relies on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from harness.errors import HarnessError
from harness.models.network import Network
from harness.outputs import Outputs, SoftSelect, Stripped

TOLERANCE = 1e-9
"""Relative to the largest number of an output, in float64: far above its rounding."""

ROUNDING = 1e-3
"""The same in float32; a gate near a tie may choose another class, which is no rounding."""


def folded(network: Network) -> Network:
    """A frozen copy in evaluation mode, its normalisations folded into convolutions.

    Blocks say which follows which (`folds`). What they do not name stays as it is, such as the
    first normalisation of a pre-activation block, which no convolution precedes.

    Args:
        network: in any mode; it is not changed.
    """
    copy = deepcopy(network).eval()
    for module in [*copy.modules()]:
        for convolution, normalisation in getattr(module, "folds", ()):
            _fold(module, convolution, normalisation)
    return copy.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)


def rough(network: Network) -> Network:
    """A copy of a folded network whose convolutions compute in bfloat16.

    Averages over the maps and all heads stay in float32: logits rounded to eight bits hide
    exactly the small differences that decide.
    """
    copy = deepcopy(network)
    for module in [*copy.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                setattr(module, name, RoughConvolution(child))
    return copy.eval()


class RoughConvolution(nn.Module):
    """A frozen convolution in bfloat16, whatever float its input has; so is its output."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution.to(torch.bfloat16)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, h, w] to maps [N, C', h', w'], bfloat16."""
        found: Tensor = self.convolution(maps.to(torch.bfloat16))
        return found


def prove_equal(network: Network, images: Tensor) -> None:
    """Compare every output of a network and its folded copy, for every way to steer a gate.

    Folding is proved in float64, where rounding hides nothing; then the float32 copy is compared
    with that, up to float32's own rounding.

    Args:
        network: the original, float32.
        images: [n, C, H, W] in [0, 1], a few.

    Raises:
        HarnessError: an output differs by more than rounding: the copy is another function.
    """
    exact = deepcopy(network).eval().double()
    copies = ((folded(exact), TOLERANCE), (folded(network).double(), ROUNDING))
    if not all(_answer_alike(exact, copy, images.double(), bound) for copy, bound in copies):
        raise HarnessError(
            "the copy of this model that attacks would use is another function: use "
            "--precision float32, which attacks the model as it is."
        )


def can_fold(network: Network, images: Tensor) -> bool:
    """Whether folding is worth it and keeps the function, whatever its statistics become.

    A fresh network's normalisations change nothing, so the proof is made on a copy whose
    statistics, scales and shifts are drawn at random.

    Args:
        network: in any mode; it is not changed.
        images: [n, C, H, W] in [0, 1], a few.
    """
    if not any(getattr(module, "folds", ()) for module in network.modules()):
        return False
    exact = deepcopy(network).eval().double()
    draws = torch.Generator().manual_seed(0)
    for module in exact.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                if values is not None:
                    values.data = torch.rand(values.shape, generator=draws).to(values) + 0.5
    return _answer_alike(exact, folded(exact), images.double(), TOLERANCE)


@torch.no_grad()
def _answer_alike(exact: Network, copy: Network, points: Tensor, bound: float) -> bool:
    classes = exact(points).logits.shape[1]
    labels = torch.arange(len(points), device=points.device) % classes
    return all(
        _are_equal(exact(points, select=select), copy(points, select=select), bound)
        for select in (None, labels, SoftSelect(1.0), Stripped())
    )


def _fold(module: nn.Module, convolution: str, normalisation: str) -> None:
    """Replace the pair by one convolution and nothing, under their names."""
    first, second = module.get_submodule(convolution), module.get_submodule(normalisation)
    if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.BatchNorm2d):
        raise TypeError(f"{convolution} and {normalisation} are no convolution and its BatchNorm")
    module.set_submodule(convolution, fuse_conv_bn_eval(first, second))
    module.set_submodule(normalisation, nn.Identity())


def _tensors(outputs: Outputs) -> Iterable[Tensor]:
    others = (outputs.features, outputs.gated, *outputs.vectors)
    return [*outputs.every_logits(), *(one for one in others if one is not None)]


def _are_equal(truth: Outputs, found: Outputs, bound: float) -> bool:
    pairs = zip(_tensors(truth), _tensors(found), strict=True)
    return all(
        bool(((one - other).abs() <= bound * max(float(one.abs().max()), 1.0)).all())
        for one, other in pairs
    )
