"""D20: what the adaptive suite broke beyond the standard one."""

from __future__ import annotations

from harness.diagnostics.diagnostic import (
    GREEN,
    MANY,
    Reading,
    diagnostic,
    graded,
    more_than_chance,
)
from harness.diagnostics.examination import Examination, NotRun


@diagnostic("D20", title="Adaptive gap", amber="> 1 point", red="> 5 points", needs="row")
def adaptive_gap(examination: Examination) -> Reading:
    """Accuracy under the standard suite minus that under everything, in points.

    On a row of few images a threshold counts only where the exact test rejects too: whoever is not
    broken by everything is not broken by the standard suite either, so that takes seven images.
    """
    row = examination.row
    if not row.is_adaptive or row.standard is None or row.robust is None:
        raise NotRun(
            "no complete adaptive evaluation: run the adaptive protocol on this checkpoint."
        )
    # decimal fractions: 0.61 - 0.6 must not exceed 1 point by a rounding
    gap = round(100 * (row.standard - row.robust), 9)
    state = graded(gap, amber=1, red=5)
    if row.examples is not None and row.examples < MANY:
        lost = round(row.examples * (row.standard - row.robust))
        state = state if more_than_chance(lost, 0) else GREEN
    return Reading(
        state,
        gap,
        f"{100 * row.standard:.1f} under standard attacks, {100 * row.robust:.1f} under all.",
        None,
        {"standard": (100 * row.standard,), "robust": (100 * row.robust,)},
    )
