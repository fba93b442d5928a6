"""D20: what the adaptive suite broke beyond the standard one."""

from __future__ import annotations

from harness.diagnostics.diagnostic import Reading, diagnostic, graded
from harness.diagnostics.examination import Examination, NotRun


@diagnostic("D20", title="Adaptive gap", amber="> 1 point", red="> 5 points", needs="row")
def adaptive_gap(examination: Examination) -> Reading:
    """Accuracy under the standard suite minus that under everything, in points."""
    row = examination.row
    if not row.is_adaptive or row.standard is None or row.robust is None:
        raise NotRun(
            "no complete adaptive evaluation: run the adaptive protocol on this checkpoint."
        )
    # decimal fractions: 0.61 - 0.6 must not exceed 1 point by a rounding
    gap = round(100 * (row.standard - row.robust), 9)
    return Reading(
        graded(gap, amber=1, red=5),
        gap,
        f"{100 * row.standard:.1f} under standard attacks, {100 * row.robust:.1f} under all.",
        None,
        {"standard": (100 * row.standard,), "robust": (100 * row.robust,)},
    )
