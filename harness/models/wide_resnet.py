"""Wide ResNets under the parameter names of the TRADES code and its many descendants."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.architectures import architecture
from harness.models.blocks import PreActivationBlock, convolution, stage
from harness.models.trunk import Shape, Trunk


class WideBlock(PreActivationBlock):
    """`PreActivationBlock` with the public name for the convolution in its shortcut."""

    def _add_projection(self, projection: nn.Conv2d) -> None:
        self.convShortcut = projection

    def _project(self, active: Tensor) -> Tensor:
        projected: Tensor = self.convShortcut(active)
        return projected


class Group(nn.Module):
    """One stage; it only adds `layer` to the parameter names, as the public code does."""

    def __init__(self, inputs: int, outputs: int, *, depth: int, stride: int) -> None:
        super().__init__()
        self.layer = stage(WideBlock, inputs, outputs, depth=depth, stride=stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps to maps, height and width divided by the stride."""
        outcome: Tensor = self.layer(maps)
        return outcome


class WideResNet(Trunk):
    """Three groups of (depth - 4) / 6 blocks, `widening` times `width` to 4 times that.

    The TRADES class also registers `sub_block1`, a second first group that nothing ever uses; we
    leave it out, and `to_network_layout` drops it. No dropout, as in every recipe we follow.
    """

    def __init__(self, shape: Shape, *, depth: int, widening: int, width: int) -> None:
        wide = widening * width
        super().__init__(shape, channels=4 * wide, halvings=2, window=8)
        blocks = (depth - 4) // 6
        self.conv1 = convolution(shape[0], width)
        self.block1 = Group(width, wide, depth=blocks, stride=1)
        self.block2 = Group(wide, 2 * wide, depth=blocks, stride=2)
        self.block3 = Group(2 * wide, 4 * wide, depth=blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(4 * wide)
        _start_as_public(self)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """All blocks of `block3`: four in WRN-28, five in WRN-34."""
        return tuple(self.block3.layer)

    @property
    def final_norm(self) -> nn.BatchNorm2d:
        """`bn1`."""
        return self.bn1

    def _before_last_stage(self, images: Tensor) -> Tensor:
        before: Tensor = self.block2(self.block1(self.conv1(images)))
        return before


def _start_as_public(trunk: nn.Module) -> None:
    """Normal weights with variance 2 / (outputs times kernel area), in place."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


_WIDE = "Zagoruyko and Komodakis, 2016 (arXiv:1605.07146)"


@architecture(source=_WIDE)
def wrn_28_10(shape: Shape, *, width: int = 16) -> Trunk:
    """Wide ResNet of depth 28, ten times as wide as its first convolution."""
    return WideResNet(shape, depth=28, widening=10, width=width)


@architecture(source=_WIDE)
def wrn_34_10(shape: Shape, *, width: int = 16) -> Trunk:
    """Wide ResNet of depth 34, ten times as wide as its first convolution."""
    return WideResNet(shape, depth=34, widening=10, width=width)


@architecture(source=_WIDE)
def wrn_34_20(shape: Shape, *, width: int = 16) -> Trunk:
    """Wide ResNet of depth 34, twenty times as wide as its first convolution."""
    return WideResNet(shape, depth=34, widening=20, width=width)
