"""Reverse attention: reweight the last blocks' channels by a class's classifier row."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import zip_longest

from torch import Tensor, nn

from harness.errors import HarnessError, unknown_name
from harness.models.network import Head, Hook, Hooked, gate_rows
from harness.models.trunk import Trunk
from harness.outputs import Select

FINAL_BN = ("shared", "per_block")


@dataclass(frozen=True)
class ReverseAttention:
    """Multiply each hooked block's map by the classifier row of one class.

    ANCRA, section 3.3, equation 5 (`ancra.md` section 2). In training the class is the label,
    when deployed it is the argmax of the block's own auxiliary logits, so `argmax p^0` decides.
    Where we differ from the published code: which class selects is an argument of the forward
    call and never follows from train or eval mode.

    Args:
        blocks: how many of the last stage's last blocks are hooked; 2 in every published net.
        final_bn: who normalises after the hooked blocks of a pre-activation net. `shared`, as
            published: the trunk's final normalisation for all of them, whose running statistics
            then mix several distributions. `per_block`: that one for the last block, and one of
            its own for each block before.
        detach_mask: whether the rows carry no gradient as masks; they do as classifier.
    """

    blocks: int = 2
    final_bn: str = "shared"
    detach_mask: bool = False

    def __post_init__(self) -> None:
        if self.final_bn not in FINAL_BN:
            raise unknown_name("mode of the final normalisation", self.final_bn, FINAL_BN)

    def build(self, trunk: Trunk) -> Hook:
        """The hook as a module for this trunk.

        Raises:
            HarnessError: the trunk's last stage has fewer blocks, or no normalisation follows it
                that each block could have.
        """
        if not 1 <= self.blocks <= len(trunk.blocks):
            raise HarnessError(
                f"reverse attention hooks {self.blocks} blocks but the last stage of this trunk "
                f"has {len(trunk.blocks)}: choose another architecture or fewer blocks."
            )
        norms = self._norms(trunk) if self.final_bn == "per_block" else []
        return ReverseAttentionHook(self.blocks, norms, detach_mask=self.detach_mask)

    def _norms(self, trunk: Trunk) -> list[nn.Module]:
        if trunk.final_norm is None:
            raise HarnessError(
                "final_bn is 'per_block' but no normalisation follows the last stage of this trunk:"
                " choose final_bn=shared, or a pre-activation net such as preactresnet18."
            )
        return [deepcopy(trunk.final_norm) for _ in range(self.blocks - 1)]


class ReverseAttentionHook(Hook):
    """Reverse attention as a module; it has no parameters of its own but `norms`.

    Args:
        blocks: hooked ones.
        norms: final normalisations of the hooked blocks before the last; the trunk's own for all
            of them where there is none.
        detach_mask: whether the rows carry no gradient as masks.
    """

    has_gate = True

    def __init__(self, blocks: int, norms: Sequence[nn.Module], *, detach_mask: bool) -> None:
        super().__init__()
        self.auxiliary = blocks
        self.norms = nn.ModuleList(norms)
        self.detach_mask = detach_mask

    def forward(self, trunk: Trunk, head: Head, maps: Tensor, select: Select) -> Hooked:
        plain = len(trunk.blocks) - self.auxiliary
        for block in trunk.blocks[:plain]:
            maps = block(maps)
        auxiliary: list[Tensor] = []
        vectors: list[Tensor] = []
        masks = head.rows.detach() if self.detach_mask else head.rows
        for block, norm in zip_longest(trunk.blocks[plain:], self.norms):
            maps = trunk.finish(block(maps), norm)
            features = trunk.pool(maps)
            vectors.append(features)
            auxiliary.append(head(features))
            rows = gate_rows(auxiliary[-1], masks, select)
            maps = maps * trunk.spread(rows, maps)
        return Hooked(maps, features, tuple(auxiliary), tuple(vectors))
