"""Small models whose answers can be worked out by hand, and searches on them."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.search import Guides, Search
from harness.attacks.streams import Streams
from harness.attacks.surfaces import Logits, Surface
from harness.identity import AttackSpec
from harness.models.network import gate_rows
from harness.outputs import Outputs, Select, Stripped
from harness.threat import ThreatModel


def linf(epsilon: str | float) -> ThreatModel:
    return ThreatModel("linf", Fraction(epsilon))


def l2(epsilon: str | float) -> ThreatModel:
    return ThreatModel("l2", Fraction(epsilon))


class Linear:
    """`W x + b` on flattened images, times a factor."""

    def __init__(self, weight: Tensor, bias: Tensor, factor: float = 1.0) -> None:
        self.weight, self.bias, self.factor = weight, bias, factor

    def __call__(self, images: Tensor, *, select: Select = None) -> Outputs:
        assert select is None
        return Outputs(self.factor * (images.flatten(1) @ self.weight.T + self.bias))


class Always:
    """Class 0 for every image, with a gradient that is there and zero; records batch sizes."""

    def __init__(self, classes: int = 10) -> None:
        self.classes = classes
        self.batches: list[int] = []

    def __call__(self, images: Tensor, *, select: Select = None) -> Outputs:
        self.batches.append(len(images))
        logits = torch.arange(self.classes, 0, -1, dtype=images.dtype).expand(len(images), -1)
        return Outputs(logits + 0 * images.sum(dim=(1, 2, 3))[:, None])


class PixelGate:
    """Reverse attention by hand (`ancra.md` section 8): features are the pixels.

    `p = W z + b`, gate class by `select`, `p' = W (W[c] * z) + b`; stripped it decides by `p`.
    Records every `select`.
    """

    def __repr__(self) -> str:
        return "PixelGate"  # the same in every process: names of tests are made of it

    def __init__(self, weight: list[list[float]], bias: list[float]) -> None:
        self.weight, self.bias = torch.tensor(weight).float(), torch.tensor(bias)
        self.selects: list[Select] = []

    def __call__(self, images: Tensor, *, select: Select = None) -> Outputs:
        self.selects.append(select)
        features = images.flatten(1)
        first = features @ self.weight.T + self.bias
        if isinstance(select, Stripped):
            return Outputs(first, (), features)
        gated = gate_rows(first, self.weight, select) * features
        logits = gated @ self.weight.T + self.bias
        return Outputs(logits, (first,), features, 1.0, (features,), gated)

    def double(self) -> PixelGate:
        """The same in float64, for finite differences."""
        self.weight, self.bias = self.weight.double(), self.bias.double()
        return self


class Times(nn.Module):
    """A module with all its logits multiplied."""

    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.module(images)


def small_convolution(classes: int = 10, seed: int = 0, side: int = 8) -> nn.Module:
    """Random weights, centred so that every class is decided for now and then."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * (side // 4) ** 2, classes),
    ).eval()
    with torch.no_grad():
        module[-1].bias -= module(pictures(256, 3, side, side, seed=99)).mean(0)
    return module


def pictures(count: int, *shape: int, seed: int = 0) -> Tensor:
    """Random images on the 8-bit grid."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), generator=generator).float() / 255


def guides_like(images: Tensor, classes: int = 10) -> Guides:
    """Three training images per class, for attacks that draw from them."""
    labels = torch.arange(3 * classes) % classes
    return Guides(pictures(len(labels), *images.shape[1:], seed=7), labels)


def search_on(
    model: object,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    surface: Surface | None = None,
    indices: list[int] | None = None,
    seed: int = 0,
    key: str = "attack",
    drops_broken: bool = True,
) -> Search:
    streams = Streams(seed, key, list(range(len(images))) if indices is None else indices)
    return Search(
        surface or Logits(model),
        Ball.around(images, threat),
        labels,
        streams,
        drops_broken=drops_broken,
        guides=guides_like(images),
    )


def attacked(
    spec: AttackSpec | str,
    model: object,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    **how,
) -> Search:
    """The finished search of one attack."""
    spec = attack_spec(spec) if isinstance(spec, str) else spec
    search = search_on(model, images, labels, threat, **how)
    run_attack(spec, search)
    return search
