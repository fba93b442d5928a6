"""The ResNet for small images: 3x3 first convolution, no first pooling, ReLU after each sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.architectures import architecture
from harness.models.blocks import Folds, convolution, stage
from harness.models.trunk import Shape, Trunk


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; the last ReLU follows the sum.

    Where the shape changes, the shortcut is a normalised 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        self.folds: Folds = (("conv1", "bn1"), ("conv2", "bn2"))
        if stride != 1 or inputs != outputs:
            projection = convolution(inputs, outputs, size=1, stride=stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
            self.folds += (("shortcut.0", "shortcut.1"),)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps to maps, height and width divided by the stride."""
        inner = torch.relu(self.bn1(self.conv1(maps)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps))


class ResNet18(Trunk):
    """Four stages of two blocks, `width` to 8 `width` channels.

    Weights start as PyTorch starts them, as in the public CIFAR code.
    """

    folds: Folds = (("conv1", "bn1"),)

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__(shape, channels=8 * width, halvings=3, window=4)
        self.conv1 = convolution(shape[0], width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(Block, width, width, stride=1)
        self.layer2 = stage(Block, width, 2 * width)
        self.layer3 = stage(Block, 2 * width, 4 * width)
        self.layer4 = stage(Block, 4 * width, 8 * width)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The two blocks of `layer4`."""
        return tuple(self.layer4)

    def _before_last_stage(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.bn1(self.conv1(images)))
        before: Tensor = self.layer3(self.layer2(self.layer1(maps)))
        return before


@architecture(source="He et al., 2016 (arXiv:1512.03385)")
def resnet18(shape: Shape, *, width: int = 64) -> Trunk:
    """ResNet-18 with the first layers that are usual on CIFAR."""
    return ResNet18(shape, width)


class SmallResNet(Trunk):
    """One block of `width` channels, two of 2 `width` at half the side."""

    folds: Folds = (("conv1", "bn1"),)

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__(shape, channels=2 * width, halvings=1, window=None)
        self.conv1 = convolution(shape[0], width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(Block, width, width, depth=1, stride=1)
        self.layer2 = stage(Block, width, 2 * width)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The two blocks of `layer2`."""
        return tuple(self.layer2)

    def _before_last_stage(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.bn1(self.conv1(images)))
        before: Tensor = self.layer1(maps)
        return before


@architecture(source="ours, after He et al., 2016 (arXiv:1512.03385)")
def small_resnet(shape: Shape, *, width: int = 16) -> Trunk:
    """ResNet of three blocks for 8x8 digits: trains in seconds on one core."""
    return SmallResNet(shape, width)
