"""D13: what more random starts add."""

from __future__ import annotations

from torch import Tensor

from harness.diagnostics.diagnostic import (
    Difference,
    Reading,
    as_floats,
    diagnostic,
    graded_difference,
    points,
    worst,
)
from harness.diagnostics.examination import Examination, Trial
from harness.identity import AttackSpec

RESTARTS = 10


@diagnostic(
    "D13",
    title="Gain of restarts",
    amber="ten random starts break more than 1 point more than one",
    red="more than 3 points more",
)
def restart_gain(examination: Examination) -> Reading:
    """How many more images PGD-20 or APGD-CE break with ten random starts than with the first.

    Where one start finds what there is, nine more find nothing.
    """
    spec = examination.spec
    specs = [
        spec("pgd", steps=20, restarts=RESTARTS),
        spec("apgd_ce", steps=100, restarts=RESTARTS),
    ]
    found: list[Difference] = []
    details = {}
    for each in specs:
        trial = examination.run(each)
        curve = [_broken_after(trial, each, restarts) for restarts in range(1, RESTARTS + 1)]
        found.append(graded_difference(curve[-1], curve[0], examination.right, amber=1.0, red=3.0))
        details[each.label] = as_floats([100 - points(mask, examination) for mask in curve])
    largest = max(found, key=lambda each: each.points)
    note = f"ten random starts break {largest.points:.1f} points more than the first alone."
    proof = found[0].proof | found[1].proof
    return Reading(worst([each.state for each in found]), largest.points, note, proof, details)


def _broken_after(trial: Trial, spec: AttackSpec, restarts: int) -> Tensor:
    """[N] bool: by the clean image or by a look of the first restarts, one more than steps each."""
    looks = int(dict(spec.parameters)["steps"]) + 1
    return (trial.first_success >= 0) & (trial.first_success <= restarts * looks)
