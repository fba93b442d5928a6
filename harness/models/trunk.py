"""What every trunk offers: images to features, with its last stage open to a hook.

A trunk runs `stem`, then `blocks` one after the other, then `finish`, then `pool`. Reverse
attention (ANCRA, arXiv:2310.03358) steps in between the blocks, which is why they are apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import HarnessError

Shape = tuple[int, int, int]
"""(C, H, W) of one image."""


class Trunk(nn.Module, ABC):
    """Images [N, C, H, W] in [0, 1] to features [N, R]; the classifier is not part of it.

    Children carry the parameter names of the public implementations, so that their checkpoints
    load. Features are averages over windows of the last maps. Where the window of the public code
    does not tile the map (a Wide ResNet on 28x28 ends at 7x7), we average over the whole map: the
    public code would drop a border there, or fail.

    Args:
        shape: (C, H, W) of the images.
        channels: channels of the last maps.
        halvings: stages that halve height and width, rounding up.
        window: side of the average pooling in the public code; None for the whole map.
    """

    def __init__(self, shape: Shape, *, channels: int, halvings: int, window: int | None) -> None:
        super().__init__()
        self.shape = shape
        height, width = (-(-side // 2**halvings) for side in shape[1:])
        self.window = (_tiling(height, window), _tiling(width, window))
        self.cells = (height // self.window[0], width // self.window[1])
        self.features = channels * self.cells[0] * self.cells[1]  # R, the head's input width

    @property
    @abstractmethod
    def blocks(self) -> tuple[nn.Module, ...]:
        """The blocks of the last stage, at least two, in order; each maps maps to maps."""

    @abstractmethod
    def _before_last_stage(self, images: Tensor) -> Tensor: ...

    def stem(self, images: Tensor) -> Tensor:
        """Everything before the last stage.

        Raises:
            HarnessError: the images have another shape than the trunk was built for. Many would
                pass through all the same, to features that mean something else.
        """
        given = tuple(images.shape[1:])
        if given != self.shape:
            raise HarnessError(
                f"images are {given} as (C, H, W) but this trunk was built for {self.shape}: "
                "build the model for the dataset it is used on."
            )
        return self._before_last_stage(images)

    @property
    def final_norm(self) -> nn.BatchNorm2d | None:
        """What a pre-activation net normalises its last maps with; None for any other net."""
        return None

    def finish(self, maps: Tensor, norm: nn.Module | None = None) -> Tensor:
        """The final normalisation and ReLU of a pre-activation net; nothing in any other.

        Args:
            maps: [N, C', h, w], of any block of the last stage.
            norm: another normalisation than `final_norm`.
        """
        chosen = self.final_norm if norm is None else norm
        return maps if chosen is None else torch.relu(chosen(maps))

    def pool(self, maps: Tensor) -> Tensor:
        """Maps [N, C', h, w] to features [N, R], one average per channel and window.

        Outside autocast the averages of bfloat16 maps are taken and returned in float32.
        """
        if maps.dtype == torch.bfloat16 and not torch.is_autocast_enabled(maps.device.type):
            maps = maps.float()
        return functional.avg_pool2d(maps, self.window).flatten(1)

    def spread(self, rows: Tensor, maps: Tensor) -> Tensor:
        """Lay one value per feature over the map, each on the window it was pooled from.

        `pool(maps * spread(rows, maps)) == pool(maps) * rows`, up to rounding: weighting a map is
        weighting its features. With one window this is a broadcast, with 2x2 of them the
        nearest-neighbour upsampling of ANCRA's PreActResNet-18.

        Args:
            rows: [N, R], such as the classifier's row of each image's class.
            maps: [N, C', h, w], read for its shape only.

        Returns:
            [N, C', h, w].
        """
        down, across = self.cells
        cells = rows.reshape(len(rows), maps.shape[1], down, 1, across, 1)
        return cells.expand(-1, -1, -1, self.window[0], -1, self.window[1]).reshape(maps.shape)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1] to features [N, R]."""
        maps = self.stem(images)
        for block in self.blocks:
            maps = block(maps)
        return self.pool(self.finish(maps))


def _tiling(side: int, window: int | None) -> int:
    return side if window is None or side % window else window
