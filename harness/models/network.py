"""A network: trunk, optional hook in its last stage, head. The same forward for every defense."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.models.trunk import Trunk
from harness.outputs import Outputs, Select, SoftSelect, Stripped


class Head(nn.Module, ABC):
    """What turns features [N, R] into the deployed logits [N, K].

    `scale` is what the training loss multiplies deployed logits by (HE: s), 1 elsewhere.
    """

    weight: Tensor
    """[K, R], one row per class; a reverse-attention hook uses the rows as masks."""

    scale: float = 1.0

    signs: tuple[str, ...] = ()
    """What an attacker should know of the deployed logits, as in `Capabilities.signs`."""

    @property
    def inner_scale(self) -> float:
        """What inner attacks and KL terms multiply deployed logits by; here the same."""
        return self.scale

    @property
    def rows(self) -> Tensor:
        """[K, R], the class weights as the forward pass uses them; gates multiply by these."""
        return self.weight

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """[N, R] -> [N, K], deployed."""

    def training_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the training loss sees in place of the deployed `logits` [N, K]; here the same."""
        del labels
        return logits


class Hooked(NamedTuple):
    """What a hook makes of the last stage.

    Args:
        maps: [N, C, h, w], to be pooled and classified; already normalised.
        features: [N, R], the penultimate vectors before any gate.
        auxiliary: logits [N, K] of the hooked blocks, shallow to deep.
        vectors: [N, R] each, what `auxiliary` were computed from.
    """

    maps: Tensor
    features: Tensor
    auxiliary: tuple[Tensor, ...]
    vectors: tuple[Tensor, ...] = ()


class Hook(nn.Module, ABC):
    """What changes the last stage of a trunk, where the next block sees the change."""

    auxiliary = 0
    """How many auxiliary logits it adds."""

    has_gate = False
    """Whether it follows `select`."""

    @abstractmethod
    def forward(self, trunk: Trunk, head: Head, maps: Tensor, select: Select) -> Hooked:
        """Run the last stage on the stem's `maps` [N, C, h, w]."""


class Normalisation(nn.Module):
    """Subtract a mean and divide by a deviation per channel, inside the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] in [0, 1] -> [N, C, H, W]."""
        return (images - self.mean) / self.std


class Network(nn.Module):
    """Images [N, C, H, W] in [0, 1] -> `Outputs`."""

    def __init__(
        self,
        trunk: Trunk,
        head: Head,
        hook: Hook | None = None,
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.hook = hook
        self.normalisation = normalisation

    def forward(self, images: Tensor, *, select: Select = None) -> Outputs:
        """One pass.

        Args:
            images: [N, C, H, W] in [0, 1].
            select: None, labels [N] int64, `SoftSelect`, or `Stripped` to leave the hook out;
                models without a hook ignore it.
        """
        if self.normalisation is not None:
            images = self.normalisation(images)
        maps = self.trunk.stem(images)
        if self.hook is None or isinstance(select, Stripped):
            for block in self.trunk.blocks:
                maps = block(maps)
            features = self.trunk.pool(self.trunk.finish(maps))
            return Outputs(self.head(features), (), features, self.head.scale)
        hooked = self.hook(self.trunk, self.head, maps, select)
        gated = self.trunk.pool(hooked.maps)
        return Outputs(
            self.head(gated),
            hooked.auxiliary,
            hooked.features,
            self.head.scale,
            hooked.vectors,
            gated,
        )


def parameter_count(module: nn.Module) -> int:
    """How many trainable numbers a module has, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def gate_rows(auxiliary: Tensor, weight: Tensor, select: Select) -> Tensor:
    """[N, R], the weight rows by which a class-conditional gate multiplies.

    Args:
        auxiliary: [N, K], the logits whose argmax chooses the class when deployed.
        weight: [K, R], one row per class; not detached (`ancra.md` 2.1).
        select: None, labels [N] or `SoftSelect`.
    """
    if isinstance(select, Tensor):
        return weight[select]
    hard = weight[auxiliary.argmax(dim=1)]
    if not isinstance(select, SoftSelect):
        return hard
    soft = torch.softmax(auxiliary / select.temperature, dim=1) @ weight
    return hard.detach() + (soft - soft.detach())  # in this order the forward value is exact
