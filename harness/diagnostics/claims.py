"""D25 and D26: numbers that stand out of a board, or below what a paper says."""

from __future__ import annotations

from harness.diagnostics.diagnostic import AMBER, GREEN, RED, Reading, diagnostic, graded
from harness.diagnostics.examination import Examination, NotRun

_EXTRAORDINARY = 3.0
_ENOUGH = "E3"


@diagnostic(
    "D25",
    title="Extraordinary claim",
    amber="> 3 points above the best comparable row at E3",
    red="and its own level is below E3",
    needs="row",
)
def extraordinary_claim(examination: Examination) -> Reading:
    """How far the headline lies above the best adaptively tested row of its kind, in points.

    Comparable: same dataset and data regime, at most twice the parameters.
    """
    row = examination.row
    if row.robust is None:
        raise NotRun("the row has no headline yet: evaluate this checkpoint.")
    if row.best is None:
        raise NotRun("no other row of its dataset and data regime has reached level E3.")
    above = round(100 * (row.robust - row.best), 9)
    is_hit = above > _EXTRAORDINARY
    return Reading(
        GREEN if not is_hit else RED if row.level < _ENOUGH else AMBER,
        above,
        f"{above:+.1f} points against the best comparable row at level E3; this one is at "
        f"{row.level}.",
    )


@diagnostic("D26", title="Paper vs ours", amber="> 1 point", red="> 5 points", needs="row")
def claim_gap(examination: Examination) -> Reading:
    """Robust accuracy that the paper claims minus the headline, in points."""
    row = examination.row
    if row.claimed is None:
        raise NotRun("no claim is on record for this defense, dataset and threat model.")
    if row.robust is None:
        raise NotRun("the row has no headline yet: evaluate this checkpoint.")
    gap = round(100 * (row.claimed - row.robust), 9)
    return Reading(
        graded(gap, amber=1, red=5),
        gap,
        f"the paper claims {100 * row.claimed:.1f}, we measured {100 * row.robust:.1f}.",
    )
