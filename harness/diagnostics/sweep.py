"""D08: accuracy against epsilon."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate, combinations

import torch
from torch import Tensor

from harness.diagnostics.diagnostic import (
    GREEN,
    RED,
    Reading,
    as_floats,
    diagnostic,
    graded_difference,
    points,
    worst,
)
from harness.diagnostics.examination import Examination, NotRun

LEVELS = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128, 255)
"""Epsilon in 255ths."""

_HALF = LEVELS.index(128)


@diagnostic(
    "D08",
    title="Accuracy against epsilon",
    amber="accuracy rises by more than 0.3 points with epsilon",
    red="by more than 1 point, or is above 1/K at 128/255",
)
def epsilon_sweep(examination: Examination) -> Reading:
    """Accuracy under APGD-CE and APGD-DLR for thirteen epsilons: it must fall to nothing.

    Rises are looked for between the attacks as they ran, from each epsilon to every larger one.
    The security curve counts an image as broken from the smallest epsilon on that broke it, as
    an attack that starts from the smaller one's result would; it cannot rise.
    """
    if examination.threat.norm != "linf":
        raise NotRun("the epsilons of the sweep are those of L-infinity.")
    right = examination.right
    raw = [_broken(examination, Fraction(level, 255)) for level in LEVELS]
    curve = list(accumulate(raw, torch.logical_or))
    rises = [
        graded_difference(smaller, larger, right, amber=0.3, red=1.0)
        for smaller, larger in combinations(raw, 2)
    ]
    rise = max(rises, key=lambda each: each.points)
    standing = right & ~curve[_HALF]
    left = points(standing, examination)
    is_above_chance = left > 100 / examination.capabilities.classes
    states = [each.state for each in rises] + [RED if is_above_chance else GREEN]
    note = (
        f"accuracy rises with epsilon by at most {max(rise.points, 0.0):.1f} points; "
        f"{left:.1f} % are not broken at 128/255."
    )
    details = {
        "epsilon_255ths": as_floats(LEVELS),
        "as_run": as_floats([100 - points(mask, examination) for mask in raw]),
        "security_curve": as_floats([100 - points(mask, examination) for mask in curve]),
        "clean": (100 * examination.accuracy,),
    }
    proof = rise.proof | standing if is_above_chance else rise.proof
    return Reading(worst(states), max(rise.points, 0.0), note, proof, details)


def _broken(examination: Examination, epsilon: Fraction) -> Tensor:
    broken = torch.zeros_like(examination.right)
    if epsilon == 0:
        return broken
    specs = [examination.spec("apgd_ce", steps=100)]
    if examination.capabilities.classes >= 3:
        specs.append(examination.spec("apgd_dlr", steps=100))
    else:
        specs.append(examination.spec("apgd_ce", steps=100, loss="margin"))
    for spec in specs:
        broken |= examination.run(spec, epsilon=epsilon).broken
    return broken & examination.right
