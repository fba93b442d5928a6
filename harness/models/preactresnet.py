"""Pre-activation ResNets: the ResNet-18 of Tiny-ImageNet and one for 8x8 digits."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.architectures import architecture
from harness.models.blocks import PreActivationBlock, convolution, stage
from harness.models.trunk import Shape, Trunk


class PreActResNet18(Trunk):
    """Four stages of two blocks, `width` to 8 `width` channels, and a final normalisation `bn`.

    Public code exists with and without `bn`; ours has it, as ANCRA and Rice et al.
    (arXiv:2002.11569) do. Weights start as PyTorch starts them.
    """

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__(shape, channels=8 * width, halvings=3, window=4)
        self.conv1 = convolution(shape[0], width)
        self.layer1 = stage(PreActivationBlock, width, width, stride=1)
        self.layer2 = stage(PreActivationBlock, width, 2 * width)
        self.layer3 = stage(PreActivationBlock, 2 * width, 4 * width)
        self.layer4 = stage(PreActivationBlock, 4 * width, 8 * width)
        self.bn = nn.BatchNorm2d(8 * width)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The two blocks of `layer4`."""
        return tuple(self.layer4)

    @property
    def final_norm(self) -> nn.BatchNorm2d:
        """`bn`."""
        return self.bn

    def _before_last_stage(self, images: Tensor) -> Tensor:
        before: Tensor = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        return before


class SmallPreActResNet(Trunk):
    """One block of `width` channels, two of 2 `width` at half the side, and a final `bn`."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__(shape, channels=2 * width, halvings=1, window=None)
        self.conv1 = convolution(shape[0], width)
        self.layer1 = stage(PreActivationBlock, width, width, depth=1, stride=1)
        self.layer2 = stage(PreActivationBlock, width, 2 * width)
        self.bn = nn.BatchNorm2d(2 * width)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The two blocks of `layer2`."""
        return tuple(self.layer2)

    @property
    def final_norm(self) -> nn.BatchNorm2d:
        """`bn`."""
        return self.bn

    def _before_last_stage(self, images: Tensor) -> Tensor:
        before: Tensor = self.layer1(self.conv1(images))
        return before


@architecture(source="He et al., 2016 (arXiv:1603.05027)")
def preactresnet18(shape: Shape, *, width: int = 64) -> Trunk:
    """Pre-activation ResNet-18 with a final normalisation; 64x64 images keep 2x2 windows."""
    return PreActResNet18(shape, width)


@architecture(source="ours, after He et al., 2016 (arXiv:1603.05027)")
def small_preactresnet(shape: Shape, *, width: int = 16) -> Trunk:
    """Pre-activation net of three blocks for 8x8 digits: trains in seconds on one core."""
    return SmallPreActResNet(shape, width)
