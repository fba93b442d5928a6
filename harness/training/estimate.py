"""How long a training run would take, from a few real steps of it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from harness.data import Split
from harness.training.loop import Training, step_count
from harness.training.probe import divide
from harness.training.request import TrainingRequest

_ENOUGH = 5.0
"""Seconds of measuring after which no further step is taken."""


def steps_per_epoch(request: TrainingRequest, data: Split) -> int:
    """Steps that one pass over the images takes."""
    learnt = divide(len(data), request.scale).learnt
    return step_count(len(learnt), request.recipe.batch_size)


def seconds_per_step(
    request: TrainingRequest,
    data: Split,
    device: str,
    *,
    steps: int = 2,
    weights: Path | None = None,
) -> float:
    """Seconds of one training step, the fastest of a few.

    Args:
        request: what would be trained.
        data: the training split.
        device: `cpu` or `cuda`.
        steps: measured after a first one.
        weights: folder of a frozen teacher's.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Training(request, data, weights or Path(folder), device)
        order = run.order(0)
        found: list[float] = []
        while len(found) <= steps and sum(found) < _ENOUGH:
            started = time.perf_counter()
            run.step(0, len(found) % run.steps_per_epoch, order).loss.item()
            found.append(time.perf_counter() - started)
    return min(found)
