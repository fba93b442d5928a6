"""What all exhibits share: digits, a linear model, and one small network trained honestly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.attacks.search import Guides
from harness.data import Split, load
from harness.diagnostics.examination import Examination
from harness.evaluation.handle import Handle
from harness.identity import Capabilities
from harness.threat import ThreatModel

EPSILON = Fraction(1, 10)
"""Half of the demo's: at it the small networks of the museum still keep most images."""


@dataclass
class Hall:
    """Digits and honest models, made once for all exhibits.

    Args:
        examples: test images that every exhibit is examined on.
        effort: as in `Examination`; the museum is quick because it is below 1.
        seed: of training and of attacks.
    """

    examples: int = 100
    effort: float = 0.3
    seed: int = 0

    @cached_property
    def test(self) -> Split:
        """The test split of digits."""
        return load("digits", "test")

    @cached_property
    def training(self) -> tuple[Tensor, Tensor]:
        """All training images [N, 1, 8, 8] in [0, 1] and labels [N]."""
        split = load("digits", "train")
        return split.batch(0, len(split)), split.labels

    @cached_property
    def linear(self) -> nn.Module:
        """Softmax regression trained on attacked images.

        Fitted briefly on clean ones its logits stay so flat that cross-entropy misses 8 of the
        42 images of 100 that the margin breaks: honest, and still a loss sensitivity.
        """
        torch.manual_seed(self.seed)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        return _fitted(module, *self.training, attack=float(EPSILON), epochs=100)

    @cached_property
    def honest(self) -> nn.Module:
        """A small network trained on one-step adversarial images; nothing masks its gradients."""
        torch.manual_seed(self.seed)
        module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )
        return _fitted(module, *self.training, attack=float(EPSILON))

    def examine(
        self,
        module: nn.Module,
        *,
        examples: int | None = None,
        capabilities: Capabilities | None = None,
        **more: Any,
    ) -> Examination:
        """An examination of a module on the first test images.

        Args:
            module: images -> logits [N, 10] or `Outputs`.
            examples: instead of the hall's.
            capabilities: what it exposes besides logits.
            more: further fields of `Examination`.
        """
        known = capabilities or Capabilities(classes=10)
        count = examples or self.examples
        images, labels = self.training
        return Examination(
            model=Handle(module, 10, has_gate=known.select),
            module=module,
            images=self.test.batch(0, count),
            labels=self.test.labels[:count],
            indices=range(count),
            threat=ThreatModel("linf", EPSILON),
            capabilities=known,
            guides=Guides(images[:500], labels[:500]),
            seed=self.seed,
            effort=self.effort,
            **more,
        )


def _fitted(
    module: nn.Module, images: Tensor, labels: Tensor, *, attack: float | None, epochs: int = 30
) -> nn.Module:
    """Adam on batches of 128 under streams of their own; attacked ones take three PGD steps."""
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(labels), generator=generator), 128):
            batch = images[chosen]
            if attack is not None:
                batch = _attacked(module, batch, labels[chosen], attack)
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(module(batch), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return module.eval().requires_grad_(requires_grad=False)


def _attacked(
    module: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, epsilon: float
) -> Tensor:
    candidate = images
    for _ in range(3):
        candidate = candidate.detach().requires_grad_()
        loss = nn.functional.cross_entropy(module(candidate), labels)
        (gradient,) = torch.autograd.grad(loss, candidate)
        moved = candidate + epsilon / 2 * gradient.sign()
        candidate = (images + (moved - images).clamp(-epsilon, epsilon)).clamp(0, 1)
    return candidate.detach()
