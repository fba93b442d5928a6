"""How the weight of a relation loss grows with the epoch."""

from __future__ import annotations

import math

from harness.batch import Batch
from harness.errors import unknown_name

LENGTH = 100
"""Epochs of the run for which the schedules are written."""


def sigmoid_ramp(epoch: float) -> float:
    """`2 / (1 + exp(-10 t / 100)) - 1`: 0 at the start, 0.987 at epoch 50."""
    return 2 / (1 + math.exp(-10 * epoch / LENGTH)) - 1


def literal_ramp(epoch: float) -> float:
    """`2 / (1 + exp(-10 t / 100 - 1))`, the formula as printed: from 1.462 to 2."""
    return 2 / (1 + math.exp(-10 * epoch / LENGTH - 1))


def constant(epoch: float) -> float:
    """1 in every epoch."""
    del epoch
    return 1.0


SCHEDULES = {"none": constant, "ramp": sigmoid_ramp, "literal": literal_ramp}
"""gamma(t) of `frpat.md` section 3. The paper's formula is garbled; `ramp` is its usual reading,
because it starts at 0 and ends at the weight of the paper's tables."""


def check_schedule(schedule: str) -> None:
    """Refuse a schedule that does not exist.

    Raises:
        HarnessError: with the nearest name.
    """
    if schedule not in SCHEDULES:
        raise unknown_name("weight schedule", schedule, SCHEDULES)


def factor(schedule: str, batch: Batch) -> float:
    """What the weight is multiplied by in the epoch of this batch, t being 1-based.

    A run of fewer than 100 epochs counts hundredths of the run, so that the ramp is complete; a
    longer one keeps 100 in the exponent.
    """
    return SCHEDULES[schedule](batch.epoch_of(LENGTH))
