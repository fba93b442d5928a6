"""Toy models as others write them: plain PyTorch, nothing exposed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES, WIDTH = 10, 12


def pictures(count: int = 4, side: int = 8) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def plain(outputs: int = CLASSES, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(32, outputs),
    )


class Around(nn.Module):
    """A network with something around it: `answer(self, images)`."""

    def __init__(self, answer: Callable[[Around, Tensor], Tensor], outputs: int = CLASSES) -> None:
        super().__init__()
        self.answer = answer
        self.net = plain(outputs)
        self.other = plain(CLASSES, seed=1)
        self.weight = nn.Parameter(torch.rand(CLASSES, WIDTH) - 0.2)

    def forward(self, images: Tensor) -> Tensor:
        return self.answer(self, images)


def with_features(answer: Callable[[Around, Tensor], Tensor]) -> Around:
    return Around(answer, WIDTH)


def gated(self: Around, images: Tensor) -> Tensor:
    features = self.net(images).relu()
    scores = features @ self.weight.T
    return (self.weight[scores.argmax(1)] * features) @ self.weight.T


def k_winners(self: Around, images: Tensor) -> Tensor:
    features = self.net(images)
    threshold = features.topk(4, dim=1).values[:, -1:]
    return (features * (features >= threshold)) @ self.weight.T


def k_winners_scattered(self: Around, images: Tensor) -> Tensor:
    features = self.net(images)
    places = features.topk(4, dim=1).indices
    return (features * torch.zeros_like(features).scatter_(1, places, 1.0)) @ self.weight.T


def quantised(self: Around, images: Tensor) -> Tensor:
    return self.net(images.mul(255 / 16).round().div(255 / 16))


def signed(self: Around, images: Tensor) -> Tensor:
    return self.net(images) @ torch.eye(WIDTH, CLASSES) + self.net(images).sign() @ self.weight.T


def cosines(self: Around, images: Tensor) -> Tensor:
    return 15 * functional.linear(
        functional.normalize(self.net(images)), functional.normalize(self.weight)
    )


def inner_step(self: Around, images: Tensor) -> Tensor:
    with torch.enable_grad():
        start = images.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.net(start).logsumexp(1).sum(), start)
    return self.net(images - 0.1 * slope)


def through_numpy(self: Around, images: Tensor) -> Tensor:
    return self.net(torch.from_numpy(images.detach().numpy().round(1)))


def through_bytes(self: Around, images: Tensor) -> Tensor:
    return self.net((images * 255).to(torch.uint8).float() / 255)


def thresholded(self: Around, images: Tensor) -> Tensor:
    features = self.net(images)
    return torch.where(features > 0.1, features, torch.zeros(())) @ self.weight.T


class Labelled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = plain()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(x) if y is None else functional.one_hot(y, CLASSES).float()
