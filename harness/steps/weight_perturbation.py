"""Adversarial weight perturbation: take the gradient where the weights are worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch
from harness.models.network import Network

_SMALLEST = 1e-20


@dataclass(frozen=True)
class WeightPerturbation:
    """Move every weight tensor by `gamma` of its norm towards a higher loss, then back.

    Wu et al., 2020 (arXiv:2004.05884), section 3; `baselines.md` section 8. The direction comes
    from one SGD step of a copy in train mode, whose running statistics are thrown away. The
    student alone is moved. Where we differ from the authors' code: weights are put back by copy
    before the optimiser steps, so that they never drift; weight decay then sees the weights
    themselves instead of the perturbed ones, a difference of lr x decay x gamma per step.

    Args:
        gamma: length of the move relative to each tensor's norm.
        first_epoch: 1-based first epoch with a perturbation, in a run of `run_length` epochs.
        run_length: epochs of the authors' run; a shorter one starts at the same fraction.
        proxy_rate: learning rate of the copy's step; only its direction matters.
    """

    gamma: float = 0.005
    first_epoch: int = 1
    run_length: int = 200
    proxy_rate: float = 0.01

    @contextmanager
    def __call__(self, batch: Batch, loss: Callable[[Batch], Tensor]) -> Iterator[None]:
        """Perturbed weights inside, exactly the former ones after."""
        if self.gamma == 0 or batch.epoch_of(self.run_length) < self.first_epoch:
            yield
            return
        moves = self._moves(batch, loss)
        weights = dict(batch.network.named_parameters())
        kept = {name: weights[name].detach().clone() for name in moves}
        with torch.no_grad():
            for name, move in moves.items():
                weights[name].add_(move, alpha=self.gamma)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    weights[name].copy_(value)

    def _moves(self, batch: Batch, loss: Callable[[Batch], Tensor]) -> dict[str, Tensor]:
        """Per tensor the direction of the copy's step, as long as the tensor itself."""
        proxy: Network = deepcopy(batch.network)
        chosen = {
            name: parameter
            for name, parameter in proxy.named_parameters()
            if "weight" in name and parameter.dim() > 1
        }
        value = loss(batch.on(proxy))
        gradients = torch.autograd.grad(value, list(chosen.values()))
        return {
            name: direction(parameter.detach(), self.proxy_rate * gradient)
            for (name, parameter), gradient in zip(chosen.items(), gradients, strict=True)
        }


def direction(weight: Tensor, step: Tensor) -> Tensor:
    """`step` at the length of `weight`; 0 where the step is 0."""
    norm = torch.linalg.vector_norm
    scaled: Tensor = norm(weight) / (norm(step) + _SMALLEST) * step
    return scaled
