"""What trunks are built of: the block that two families share, stages and convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Folds = tuple[tuple[str, str], ...]
"""Names of submodules: convolutions, each with the BatchNorm that alone reads its output."""


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after its normalisation and ReLU, around a shortcut.

    Where the shape changes, the shortcut is a 1x1 convolution of the normalised maps, elsewhere
    the raw input (He et al., 2016, arXiv:1603.05027, as in the public CIFAR and Wide ResNets).
    """

    folds: Folds = (("conv1", "bn2"),)

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.is_projected = stride != 1 or inputs != outputs
        if self.is_projected:
            self._add_projection(convolution(inputs, outputs, size=1, stride=stride))

    def _add_projection(self, projection: nn.Conv2d) -> None:
        self.shortcut: nn.Module = nn.Sequential(projection)

    def _project(self, active: Tensor) -> Tensor:
        projected: Tensor = self.shortcut(active)
        return projected

    def forward(self, maps: Tensor) -> Tensor:
        """Maps to maps, height and width divided by the stride."""
        active = torch.relu(self.bn1(maps))
        residual: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return residual + (self._project(active) if self.is_projected else maps)


def convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps height and width, up to the stride."""
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def stage(
    block: type[nn.Module], inputs: int, outputs: int, *, depth: int = 2, stride: int = 2
) -> nn.Sequential:
    """`depth` blocks in a row; the first one changes the channels and takes the stride."""
    first = block(inputs, outputs, stride)
    return nn.Sequential(first, *(block(outputs, outputs, 1) for _ in range(depth - 1)))
