"""Exhibits whose model is honest and whose record is not."""

from __future__ import annotations

from harness.diagnostics.examination import Examination, RowFacts
from harness.museum.exhibit import exhibit
from harness.museum.gated import measured
from harness.museum.hall import Hall


def _with_record(hall: Hall, *, claimed: float, lead: float, level: str) -> Examination:
    """The linear model; claimed more than measured, and leading the best other row."""
    examination = hall.examine(hall.linear)
    row = measured(examination, [examination.spec("fgsm")], [])
    robust = row.robust or 0.0
    examination.row = RowFacts(
        robust=robust, standard=robust, claimed=robust + claimed, best=robust - lead, level=level
    )
    return examination


@exhibit(D25="red", D26="red")
def untested_record(hall: Hall) -> Examination:
    """Leads its board by 10 points on standard attacks alone; its paper claims 10 more."""
    return _with_record(hall, claimed=0.10, lead=0.10, level="E1")


@exhibit(D25="amber", D26="amber")
def narrow_claim(hall: Hall) -> Examination:
    """Leads by 4 points after the adaptive suite; its paper claims 2 more."""
    return _with_record(hall, claimed=0.02, lead=0.04, level="E3")
