"""D09: losses that an attack cannot raise."""

from __future__ import annotations

import numpy as np

from harness.diagnostics.diagnostic import (
    Reading,
    as_floats,
    diagnostic,
    graded,
    none_like,
    points,
)
from harness.diagnostics.examination import Examination
from harness.diagnostics.white_box import losses_for, pgd_100

LEAST = 1e-6
"""Gain of the loss below which it did not grow."""


@diagnostic(
    "D09",
    title="Loss does not grow",
    amber="PGD-100 raises some loss on fewer than 99 % of the images",
    red="on fewer than 95 %",
)
def loss_does_not_grow(examination: Examination) -> Reading:
    """Images on which PGD-100 never exceeds the loss of the clean image, for each loss."""
    rates: dict[str, float] = {}
    details: dict[str, tuple[float, ...]] = {}
    proof = none_like(examination)
    right = examination.right
    for loss in losses_for(examination):
        trial = pgd_100(examination, loss)
        gain = trial.loss_best - trial.loss_start
        stuck = ~(gain > LEAST) & right  # a gain that is no number is none
        proof |= stuck
        rates[loss] = points(stuck, examination)
        finite = gain[right & gain.isfinite()].double().numpy()
        counts, edges = np.histogram(finite, bins=20)
        details |= {
            f"{loss}_counts": as_floats(counts.tolist()),
            f"{loss}_edges": as_floats(edges.tolist()),
        }
    value = max(rates.values())
    listed = ", ".join(f"{rate:.1f} % ({loss})" for loss, rate in rates.items())
    note = f"images whose loss does not grow: {listed}."
    details |= {loss: (rate,) for loss, rate in rates.items()}
    return Reading(graded(value, amber=1.0, red=5.0), value, note, proof, details)
