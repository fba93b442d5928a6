"""One TRADES step, PGD-10 on a batch of 128, against a loop in the authors' order of work.

The full-width ResNet-18, both sides from the same weights on the same images. The reference loop
is written here, after Zhang et al., 2019 (arXiv:1901.08573), algorithm 1, and their published code:
the clean prediction is computed anew in every step of the attack and once more beside the loss.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.results import Comparison, Side
from benchmarks.setting import defaults_of_torch
from benchmarks.timing import counted, interleaved
from harness.data import Split, dataset, load
from harness.models.network import Network
from harness.training.loop import Training
from harness.training.request import TrainingRequest, training_request

REFERENCE = "authors' order of work"
PRECISIONS = ("float32", "bfloat16")
BETA = 6.0
_NOISE = 0.001
_IMAGES = 2000
"""Training images that batches come from; enough for every step."""

_Taken = tuple[float, int, int]
"""Loss, forwards, backwards of a step."""


def trades_request(*, precision: str, **settings: str | int | float | bool) -> TrainingRequest:
    """TRADES at full width, as its recipe has it; images as they are, so that both see the same."""
    return training_request(
        "trades",
        dataset("cifar10"),
        scale="reduced",
        seed=0,
        settings={"augment": False, "precision": precision, **settings},
    )


def training(
    request: Callable[[str], TrainingRequest], data: Split, rounds: int, device: str
) -> tuple[Comparison, ...]:
    """One warm-up step and `rounds` timed ones of every side, each round on the same images.

    Args:
        request: precision -> what is trained.
        data: training images; as many batches as there are steps.
        rounds: timed steps.
        device: `cpu` or `cuda`.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: Training(request(name), data, Path(folder), device) for name in PRECISIONS}
    first = runs[PRECISIONS[0]]
    sides = {REFERENCE: _reference_steps(first, deepcopy(first.players.network))}
    sides |= {name: _steps(run) for name, run in runs.items()}
    with defaults_of_torch():
        taken = interleaved(sides, rounds + 1, device)
    found = [
        Side(
            name,
            tuple(seconds for seconds, _ in steps[1:]),
            points=first.recipe.batch_size,
            forwards=steps[-1][1][1],
            backwards=steps[-1][1][2],
            loss=steps[1][1][0],
        )
        for name, steps in taken.items()
    ]
    return (Comparison(f"trades step, pgd-{first.recipe.inner_steps}", tuple(found)),)


def few_images() -> Split:
    """The first training images of CIFAR-10."""
    whole = load("cifar10", "train")
    return replace(whole, images=whole.images[:_IMAGES], labels=whole.labels[:_IMAGES])


def _steps(run: Training) -> Callable[[], _Taken]:
    """The harness's own step, one batch after the other."""
    order, numbers = run.order(0), iter(range(run.steps_per_epoch))

    def step() -> _Taken:
        with counted() as passes:
            loss = float(run.step(0, next(numbers), order).loss)
        return loss, passes.forwards, passes.backwards

    return step


def _reference_steps(run: Training, network: Network) -> Callable[[], _Taken]:
    """The authors' step on the same batches; their data loader's work is not counted."""
    network = network.to(memory_format=torch.contiguous_format).train()
    recipe, order, numbers = run.recipe, run.order(0), iter(range(run.steps_per_epoch))
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    size = recipe.batch_size

    def step() -> _Taken:
        number = next(numbers)
        chosen = order[number * size : (number + 1) * size].to(run.images.device)
        images, labels = run.images[chosen].float() / 255, run.labels[chosen]
        with counted() as passes:
            loss = trades_as_published(network, optimiser, images, labels, run)
        return loss, passes.forwards, passes.backwards

    return step


def trades_as_published(
    network: Network,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    run: Training,
) -> float:
    """One step in the authors' order: 39 passes by PGD-10, where 27 would do.

    Args:
        network: in training mode.
        optimiser: of its weights.
        images: [N, C, H, W] in [0, 1].
        labels: [N].
        run: for steps, step length and epsilon of the attack.
    """
    epsilon = float(run.request.threat.epsilon)
    length = run.recipe.relative_step * epsilon
    network.eval()
    candidate = images + _NOISE * torch.randn_like(images)
    for _ in range(run.recipe.inner_steps):
        candidate.requires_grad_()
        gap = _divergence(network(candidate).logits, network(images).logits)
        (gradient,) = torch.autograd.grad(gap, candidate)
        candidate = candidate.detach() + length * gradient.sign()
        candidate = candidate.clamp(images - epsilon, images + epsilon).clamp(0.0, 1.0)
    network.train()
    optimiser.zero_grad()
    accuracy = functional.cross_entropy(network(images).logits, labels)
    gap = _divergence(network(candidate).logits, network(images).logits) / len(images)
    loss = accuracy + BETA * gap
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return float(loss.detach())


def _divergence(adversarial: Tensor, clean: Tensor) -> Tensor:
    return functional.kl_div(adversarial.log_softmax(1), clean.softmax(1), reduction="sum")
