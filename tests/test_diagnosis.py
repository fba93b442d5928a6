"""Which stored findings still hold for a row that has changed since."""

from dataclasses import replace
from fractions import Fraction

import pytest

from harness.campaign.diagnosis import _current, _is_measured
from harness.diagnostics.examination import RowFacts
from harness.identity import Capabilities, CheckpointRecord, Finding
from harness.store.store import Store
from harness.threat import ThreatModel

GAP = Finding(
    *("c" * 64, "digits", "f" * 64, ThreatModel("linf", Fraction(1, 5)), 0, 100),
    *("D20", "red", 16.0, "red: > 5 points"),
    is_adaptive=True,
)
STORED = [replace(GAP, diagnostic=identity) for identity in ("D10", "D21", "D25", "E4", "I1")]
ROW = RowFacts(robust=0.52, standard=0.68, is_adaptive=True)


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (ROW, ["D10", "D20", "D21", "D25", "E4", "I1"]),
        (replace(ROW, robust=0.51), ["D10", "E4", "I1"]),
        (replace(ROW, standard=0.67), ["D10", "E4", "I1"]),
        (RowFacts(), ["D10", "D20", "D21", "D25", "E4", "I1"]),
    ],
)
def test_findings_about_a_row_hold_until_one_of_its_two_numbers_changes(row, kept):
    found = _current([*STORED, GAP], row)
    assert sorted(one.diagnostic for one in found) == kept


def test_without_a_measured_gap_nothing_is_thrown_away():
    assert _current(STORED, ROW) == STORED
    unknown = [*STORED, replace(GAP, value=None, state="not_run")]
    assert _current(unknown, ROW) == unknown


@pytest.mark.parametrize(
    ("diagnostic", "before", "now", "stays"),
    [
        ("D05", "green", "not_run", True),
        ("D05", "green", "red", False),
        ("D05", "not_run", "not_run", False),
        ("D06", "green", "not_run", True),
        ("D20", "green", "not_run", False),
    ],
)
def test_what_cannot_be_run_now_does_not_replace_what_was_measured(
    tmp_path, diagnostic, before, now, stays
):
    known = CheckpointRecord(
        *("any", GAP.checkpoint, "trained", "digits", GAP.threat, "w", "e" * 64, Capabilities(10))
    )
    with Store.open(tmp_path / "x.db") as store:
        store.add_checkpoint(known)
        store.record_finding(replace(GAP, diagnostic=diagnostic, state=before))
        later = replace(GAP, diagnostic=diagnostic, state=now, value=None)
        assert _is_measured(store, later) is stays
        assert not _is_measured(store, replace(later, diagnostic="I5"))
        assert not _is_measured(store, replace(later, dataset="cifar10"))
