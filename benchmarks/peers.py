"""The peers, called as their own documentation does, with their own defaults."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.setting import BATCH, LogitsOf
from harness.errors import HarnessError

Attack = Callable[[Tensor, Tensor], Tensor]
"""Images [n, C, H, W] and labels [n] -> adversarial images."""


def imported(peer: str) -> Any:
    """A peer, whatever its imports warn of.

    Raises:
        HarnessError: it is not installed.
    """
    if importlib.util.find_spec(peer) is None:
        raise HarnessError(f"{peer} is not installed: make bench installs it.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(peer)


def torchattacks_pgd(model: LogitsOf, epsilon: float, step: float, steps: int) -> Attack:
    """Projected gradient ascent of torchattacks; the last iterate."""
    attack: Attack = imported("torchattacks").PGD(
        model, eps=epsilon, alpha=step, steps=steps, random_start=True
    )
    return attack


def foolbox_pgd(model: LogitsOf, epsilon: float, step: float, steps: int, device: str) -> Attack:
    """Projected gradient ascent of foolbox, driven as `attack(model, x, y, epsilons)` drives it."""
    foolbox = imported("foolbox")
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=True)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = attack(wrapped, images, labels, epsilons=epsilon)[1]
        return found

    return run


def wrong_after(
    attack: Attack, model: LogitsOf, images: Tensor, labels: Tensor, batch: int
) -> Tensor:
    """[n] bool, whether the model is wrong on what an attack makes of the images, in batches."""
    found = [torch.zeros(0, dtype=torch.bool, device=labels.device)]
    for first in range(0, len(images), batch):
        theirs = labels[first : first + batch]
        adversarial = attack(images[first : first + batch], theirs)
        with torch.no_grad():
            found.append(model(adversarial).argmax(1) != theirs)
    return torch.cat(found)


class AutoAttack:
    """The reference package, component by component as its `standard` version runs them.

    Args:
        model: what is attacked.
        epsilon: L-infinity, on the [0, 1] pixel scale.
        seed: of every component.
        device: `cpu` or `cuda`.
        steps: of Auto-PGD and FAB.
        targets: of the targeted components.
        queries: of Square.
        batch: images of one pass.
    """

    def __init__(
        self,
        model: LogitsOf,
        epsilon: float,
        seed: int,
        device: str,
        *,
        steps: int = 100,
        targets: int = 9,
        queries: int = 5000,
        batch: int = BATCH,
    ) -> None:
        package = imported("pyautoattack")
        shared = {"norm": "Linf", "eps": epsilon, "seed": seed, "device": device}
        self._model, self._batch = model, batch
        self._checks = package.AutoAttack(model, version="custom", attacks=[], **shared)
        whole = self._whole = package.AutoAttack(model, version="standard", **shared)
        self._parts = {
            "apgd_ce": whole.apgd,
            "apgd_t": whole.apgd_targeted,
            "fab_t": whole.fab,
            "square": whole.square,
        }
        for part in (whole.apgd, whole.apgd_targeted, whole.fab):
            part.n_iter = steps
        whole.apgd_targeted.n_target_classes = whole.fab.n_target_classes = targets
        whole.square.n_queries = queries
        whole.apgd.loss, whole.fab.targeted = "ce", True

    def clean(self, images: Tensor, labels: Tensor) -> Tensor:
        """[n] bool, whether the decision is wrong as it is; its sanity checks are part of that."""
        _, predicted = self._checks.run_standard_evaluation(images, labels, batch_size=self._batch)
        return torch.as_tensor(predicted != labels)

    def part(self, name: str, images: Tensor, labels: Tensor) -> Tensor:
        """[n] bool, which of the images a component breaks; its own last look judges."""
        with torch.no_grad():
            return wrong_after(self._parts[name].perturb, self._model, images, labels, self._batch)
