"""E4: an independent re-run that agrees, and everything that is none."""

from fractions import Fraction

import pytest

from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Job,
    Outcome,
    Plan,
)
from harness.standings.agreement import agreements
from harness.store.store import Store
from harness.threat import ThreatModel

THREAT = ThreatModel("linf", Fraction(1, 5))
PGD, LATE = AttackSpec("pgd", "logits", "ce"), AttackSpec("late", "auxiliary(0)", "ce")
SURVIVORS = "survivors:standard-2"
RECORD = CheckpointRecord(
    "one", "a" * 64, "trained", "digits", THREAT, "w", "e" * 64, Capabilities(10)
)
COUNT = 200
BITS = {
    CLEAN: [index % 10 == 0 for index in range(COUNT)],
    PGD: [index % 10 == 1 for index in range(COUNT)],
    LATE: [index % 10 == 2 for index in range(COUNT)],
}


def database(path, *, changes=(), without=(), run=None):
    """The same evaluation with some bits changed: (attack, image) pairs."""
    store = Store.open(path)
    store.add_checkpoint(RECORD)
    uid = run or store.start_run("eval", versions={}, device="cpu")
    for spec, population in ((CLEAN, EVERY), (PGD, CORRECT), (LATE, SURVIVORS)):
        if spec in without:
            continue
        broken = [
            not bit if (spec, index) in changes else bit for index, bit in enumerate(BITS[spec])
        ]
        job = Job(
            *(RECORD.digest, "digits", "f" * 64, THREAT, spec, population),
            *(0, "float32", 0, COUNT),
        )
        store.record(Outcome(job, (True,) * COUNT, tuple(broken)), run=uid)
    members = ((PGD.hash, CORRECT), (LATE.hash, SURVIVORS))
    store.record_plan(
        Plan(RECORD.digest, "digits", "f" * 64, THREAT, 0, "float32", "adaptive-2", members)
    )
    return store


@pytest.fixture
def compared(tmp_path):
    stores = []

    def compare(**changes):
        ours, theirs = database(tmp_path / "ours.db"), database(tmp_path / "other.db", **changes)
        stores.extend((ours, theirs))
        (found,) = agreements(ours, theirs)
        return found

    yield compare
    for store in stores:
        store.close()


def test_the_same_bits_found_by_another_run_are_enough(compared):
    found = compared()
    assert found.is_enough
    assert (found.pairs, found.equal, found.differing) == (3 * COUNT, 3 * COUNT, ())
    assert found.finding().state == "green"


@pytest.mark.parametrize(("count", "enough"), [(1, True), (2, False)])
def test_one_image_in_two_hundred_may_differ_and_two_may_not(compared, count, enough):
    found = compared(changes=[(PGD, 3 + 10 * place) for place in range(count)])
    assert found.is_enough == enough
    assert found.differing == tuple(3 + 10 * place for place in range(count))


def test_another_attack_that_breaks_the_same_image_leaves_the_union_alone(compared):
    found = compared(changes=[(LATE, 1), (LATE, 11), (LATE, 21)])
    assert found.differing == ()
    assert found.equal == found.pairs - 3
    assert found.is_enough


def test_what_the_other_database_lacks_does_not_agree(compared):
    found = compared(without=[LATE])
    assert (found.lacking, found.is_enough) == (1, False)
    assert "1 attacks" in found.sentence()


def test_searches_of_another_precision_are_neither_asked_for_nor_missed(tmp_path):
    """Ten images of the folded copy, clean ones among them, in one database alone."""
    with database(tmp_path / "a.db") as ours, database(tmp_path / "b.db") as theirs:
        for spec, population in ((CLEAN, EVERY), (PGD, CORRECT)):
            job = Job(
                *(RECORD.digest, "digits", "f" * 64, THREAT, spec, population),
                *(0, "folded", 0, 10),
            )
            ours.record(Outcome(job, (True,) * 10, (False,) * 10))
        (found,) = agreements(ours, theirs)
    assert (found.examples, found.lacking, found.is_enough) == (COUNT, 0, True)


def test_a_copy_is_no_rerun(tmp_path):
    with database(tmp_path / "ours.db") as ours:
        (found,) = agreements(ours, ours)
        assert found.shared_runs == 1
        assert not found.is_enough
        assert found.finding().state == "red"


def test_a_row_without_the_adaptive_protocol_is_not_compared(tmp_path):
    with Store.open(tmp_path / "empty.db") as empty, database(tmp_path / "ours.db") as ours:
        empty.add_checkpoint(RECORD)
        assert list(agreements(empty, ours)) == []
        assert list(agreements(ours, empty)) == []
