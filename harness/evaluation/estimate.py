"""How long attacks would take, from a few real passes of the model."""

from __future__ import annotations

import time

import torch

from harness.attacks.attack import most_passes as passes_of
from harness.attacks.surface_text import SURFACES, split_surface
from harness.data import Split
from harness.evaluation.subject import Subject
from harness.identity import CLEAN, AttackSpec


def most_passes(spec: AttackSpec) -> tuple[int, int]:
    """Forwards and backwards of one image that nothing breaks."""
    if spec == CLEAN:
        return 1, 0
    looks, backwards = passes_of(spec)
    return looks * SURFACES[split_surface(spec.surface)[0]].forwards, backwards


def seconds_per_pass(
    subject: Subject, data: Split, device: str, *, images: int = 32, repeats: int = 3
) -> tuple[float, float]:
    """Seconds of one image's forward pass, and of its backward pass; fastest of a few."""
    batch = data.batch(0, min(images, len(data))).to(device)
    forward, both = [], []
    for _ in range(repeats):
        candidate = batch.clone().requires_grad_()
        started = time.perf_counter()
        logits = subject.model(candidate).logits
        float(logits.detach().sum())  # waits for a GPU
        forward.append(time.perf_counter() - started)
        (gradient,) = torch.autograd.grad(logits.sum(), candidate)
        float(gradient.sum())
        both.append(time.perf_counter() - started)
    return min(forward) / len(batch), max(min(both) - min(forward), 0.0) / len(batch)
