"""Reverse attention: reweight the last blocks' channels by a class's classifier row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.errors import HarnessError
from harness.models.network import Head, Hook, Hooked, gate_rows
from harness.models.trunk import Trunk
from harness.outputs import Select


@dataclass(frozen=True)
class ReverseAttention:
    """Multiply each hooked block's map by the classifier row of one class.

    ANCRA, section 3.3, equation 5 (`ancra.md` section 2). In training the class is the label,
    when deployed it is the argmax of the block's own auxiliary logits, so `argmax p^0` decides.
    Where we differ from the published code: which class selects is an argument of the forward
    call and never follows from train or eval mode.

    Args:
        blocks: how many of the last stage's last blocks are hooked; 2 in every published net.
    """

    blocks: int = 2

    def build(self, trunk: Trunk) -> Hook:
        """The hook as a module for this trunk.

        Raises:
            HarnessError: the trunk's last stage has fewer blocks.
        """
        if not 1 <= self.blocks <= len(trunk.blocks):
            raise HarnessError(
                f"reverse attention hooks {self.blocks} blocks but the last stage of this trunk "
                f"has {len(trunk.blocks)}: choose another architecture or fewer blocks."
            )
        return ReverseAttentionHook(self.blocks)


class ReverseAttentionHook(Hook):
    """Reverse attention as a module; it has no parameters of its own."""

    has_gate = True

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.auxiliary = blocks

    def forward(self, trunk: Trunk, head: Head, maps: Tensor, select: Select) -> Hooked:
        plain = len(trunk.blocks) - self.auxiliary
        for block in trunk.blocks[:plain]:
            maps = block(maps)
        auxiliary: list[Tensor] = []
        vectors: list[Tensor] = []
        for block in trunk.blocks[plain:]:
            maps = trunk.finish(block(maps))
            features = trunk.pool(maps)
            vectors.append(features)
            auxiliary.append(head(features))
            rows = gate_rows(auxiliary[-1], head.weight, select)
            maps = maps * trunk.spread(rows, maps)
        return Hooked(maps, features, tuple(auxiliary), tuple(vectors))
