"""Exhibits whose outputs have a scale or a type that weakens the loss of an attack."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.diagnostics.examination import Examination
from harness.museum.exhibit import exhibit
from harness.museum.hall import Hall


class Reshaped(nn.Module):
    """A model whose logits pass through one more function.

    Args:
        model: images -> logits [N, K].
        reshape: logits -> logits.
    """

    def __init__(self, model: nn.Module, reshape: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.reshape = reshape

    def forward(self, images: Tensor) -> Tensor:
        return self.reshape(self.model(images))


@exhibit(D14="red", D15="amber", I1="red")
def thousandfold_logits(hall: Hall) -> Examination:
    """Logits times 1000: the softmax is exactly one-hot and cross-entropy has no gradient."""
    return hall.examine(Reshaped(hall.honest, lambda logits: 1000 * logits))


@exhibit(D15="amber")
def probabilities(hall: Hall) -> Examination:
    """Returns its softmax, which every attack then takes for logits."""
    return hall.examine(Reshaped(hall.honest, lambda logits: logits.softmax(1)))


@exhibit(D14="red", D15="red")
def saturating_logits(hall: Hall) -> Examination:
    """A hyperbolic tangent flattens the logits, so that cross-entropy climbs the wrong rivals."""
    return hall.examine(Reshaped(hall.honest, torch.tanh))


def taken_apart(model: nn.Module) -> tuple[nn.Sequential, nn.Linear]:
    """All layers but the last, and the last, which is linear."""
    *features, last = model.children()
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the last layer is a {type(last).__name__}, expected Linear")
    return nn.Sequential(*features), last


@exhibit(D15="amber")
def bare_cosines(hall: Hall) -> Examination:
    """Decides by the cosines of a hypersphere embedding, without the scale of its training."""
    return hall.examine(Cosines(hall.honest))


class Cosines(nn.Module):
    """The last linear layer replaced by cosines between unit features and unit rows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.features, last = taken_apart(model)
        self.weight = last.weight

    def forward(self, images: Tensor) -> Tensor:
        directions = functional.normalize(self.features(images), dim=1)
        return functional.linear(directions, functional.normalize(self.weight, dim=1))
