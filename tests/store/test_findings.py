"""Findings of diagnostics: a round trip, the latest wins, merged whole, hostile ones refused."""

import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import pytest

from harness.errors import HarnessError
from harness.identity import DIAGNOSED, Finding
from harness.store.store import Store
from harness.threat import ThreatModel

DIGEST, IMAGES = "d" * 64, "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
FINDING = Finding(
    checkpoint=DIGEST,
    dataset="digits",
    images=IMAGES,
    threat=THREAT,
    seed=0,
    examples=100,
    diagnostic="D10",
    state="red",
    value=12.5,
    threshold="amber: > 0.5 %; red: > 5 %",
    proof=(3, 17),
    note="the gradient is zero",
    is_adaptive=True,
    details={"ce": (0.1, math.inf), "empty": ()},
    created="2026-11-20T00:00:00+00:00",
)


def test_a_finding_comes_back_as_it_was(store, record_of):
    store.add_checkpoint(record_of())
    assert store.record_finding(FINDING)
    assert store.findings() == [FINDING]
    assert store.findings(DIGEST, images=IMAGES, threat=THREAT) == [FINDING]
    assert store.findings("0" * 64) == []


def test_a_later_finding_of_the_same_diagnostic_takes_its_place(store, record_of):
    store.add_checkpoint(record_of())
    store.record_finding(FINDING)
    later = replace(FINDING, state="green", value=None, seed=1, examples=200)
    assert not store.record_finding(later)
    assert store.record_finding(replace(FINDING, diagnostic="D11"))
    assert [one.diagnostic for one in store.findings()] == ["D10", "D11"]
    assert store.findings()[0] == later


def test_a_finding_clears_that_the_checkpoint_could_not_be_examined(store, record_of, failure_of):
    store.add_checkpoint(record_of())
    store.record_failure(failure_of(0, 0, DIAGNOSED))
    other = failure_of(0, 10)
    store.record_failure(other)
    store.record_finding(replace(FINDING, threat=ThreatModel("linf", Fraction(1, 255))))
    assert len(store.failures()) == 2
    store.record_finding(FINDING)
    assert store.failures() == [other]


def test_a_finding_without_a_date_is_dated(store, record_of):
    store.add_checkpoint(record_of())
    store.record_finding(replace(FINDING, created=""))
    assert store.findings()[0].created


def test_a_finding_goes_with_its_checkpoint(store, record_of):
    store.add_checkpoint(record_of())
    store.record_finding(FINDING)
    store.remove("trades")
    assert store.findings() == []


def test_a_finding_of_an_unknown_checkpoint_is_refused(store):
    with pytest.raises(HarnessError, match="no checkpoint with digest"):
        store.record_finding(replace(FINDING, checkpoint="0" * 64))


@pytest.fixture
def theirs(tmp_path, record_of):
    path = tmp_path / "theirs.db"
    with Store.open(path) as other:
        other.add_checkpoint(record_of())
        other.record_finding(FINDING)
    return path


def test_merging_adds_findings_and_keeps_our_own(store, theirs):
    assert store.merge(theirs).findings == 1
    assert store.findings() == [FINDING]
    mine = replace(FINDING, state="green")
    store.record_finding(mine)
    assert store.merge(theirs).findings == 0
    assert store.findings() == [mine]


@pytest.mark.parametrize(
    "change",
    [
        *("state='purple'", "state='<b>'", "value='much'", "proof='[-1]'", "proof='[1.5]'"),
        *("proof='{}'", "details='[1]'", 'details=\'{"a": ["b"]}\'', "is_adaptive=2"),
        *("diagnostic='a b'", "note=x'00'", "examples=-1", "norm='l7'", "seed='zero'"),
    ],
)
def test_a_hostile_finding_is_refused_and_nothing_is_merged(store, theirs, change):
    with closing(sqlite3.connect(theirs)) as connection, connection:
        connection.execute("UPDATE finding SET " + change)  # noqa: S608
    before = store.checkpoints()
    with pytest.raises(HarnessError):
        store.merge(theirs)
    assert store.findings() == []
    assert store.checkpoints() == before
