"""D03: accuracy against the number of iterations."""

from __future__ import annotations

from itertools import combinations

import torch

from harness.diagnostics.diagnostic import (
    Reading,
    as_floats,
    diagnostic,
    graded_difference,
    points,
    worst,
)
from harness.diagnostics.examination import Examination

STEPS = (10, 20, 50, 100, 500)


@diagnostic(
    "D03",
    title="More iterations",
    amber="accuracy rises by more than 0.3 points, or drops by more than 0.5 from 100 to 500",
    red="rises by more than 1 point, or drops by more than 2 from 100 to 500",
)
def more_iterations(examination: Examination) -> Reading:
    """Accuracy under PGD of 10 to 500 steps from one start: it must fall, and then settle.

    The drop is of the accuracy that we report, where every iterate counts. That one cannot rise,
    so rises are looked for on the last iterates, from each length to every longer one.
    """
    right = examination.right
    trials = [
        examination.run(examination.spec("pgd", steps=steps), stream="D03") for steps in STEPS
    ]
    last = [trial.last_wrong & right for trial in trials]
    best = [trial.broken & right for trial in trials]
    rises = [
        graded_difference(shorter, longer, right, amber=0.3, red=1.0)
        for shorter, longer in combinations(last, 2)
    ]
    drop = graded_difference(best[4], best[3], right, amber=0.5, red=2.0)
    rise = max(rises, key=lambda each: each.points)
    states = [drop.state, *(each.state for each in rises)]
    proof = torch.stack([drop.proof, rise.proof]).any(0)
    note = (
        f"accuracy drops by {drop.points:.1f} points from 100 to 500 iterations; its largest rise "
        f"is {max(rise.points, 0.0):.1f} points."
    )
    details = {
        "steps": as_floats(STEPS),
        "every_iterate": as_floats([100 - points(mask, examination) for mask in best]),
        "last_iterate": as_floats([100 - points(mask, examination) for mask in last]),
    }
    return Reading(worst(states), max(drop.points, rise.points), note, proof, details)
