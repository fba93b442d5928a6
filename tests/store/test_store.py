from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    EVERY,
    AttackSpec,
    CheckpointRecord,
    Failure,
    Job,
    Outcome,
    Plan,
    Runtime,
)
from harness.store import schema
from harness.store.store import Store
from harness.threat import ThreatModel

Make = Callable[..., Any]

DIGEST = "d" * 64
IMAGES = "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = WORDS | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.booleans()
EPSILONS = st.fractions(0, 1, max_denominator=1000)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    first = draw(st.integers(0, 10_000))
    count = draw(st.integers(1, 20))
    parameters = draw(st.dictionaries(WORDS, VALUES, max_size=3))
    names = tuple(sorted(parameters))
    spec = AttackSpec(
        draw(WORDS), draw(WORDS), draw(WORDS), tuple((n, parameters[n]) for n in names), names[:1]
    )
    attacked = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    column = st.lists(numbers, min_size=count, max_size=count).map(tuple)
    whole = st.integers(0, 2**63 - 1)
    job = Job(
        DIGEST,
        draw(WORDS),
        IMAGES,
        ThreatModel(draw(st.sampled_from(["linf", "l2"])), draw(EPSILONS)),
        spec,
        draw(WORDS),
        draw(st.integers(-(2**62), 2**62)),
        draw(WORDS),
        first,
        first + count,
    )
    return Outcome(
        job,
        tuple(attacked),
        tuple(hit and draw(st.booleans()) for hit in attacked),
        draw(st.dictionaries(WORDS, column, max_size=2)),
        draw(whole),
        draw(whole),
        draw(whole),
        draw(st.floats(0, 1e9)),
        Runtime(draw(WORDS), draw(st.integers(1, 512)), draw(st.integers(1, 64))),
    )


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(outcomes(), min_size=1, max_size=3, unique_by=lambda o: o.job))
def test_every_outcome_comes_back_equal_after_reopening(
    found: list[Outcome],
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Path,
    record_of: Make,
) -> None:
    path = Path(shutil.copy(new_database, tmp_path_factory.mktemp("store")))
    with Store.open(path) as store:
        store.add_checkpoint(record_of())
        for outcome in found:
            assert store.record(outcome)
    with Store.open(path, read_only=True) as store:
        again = store.outcomes(DIGEST)
    assert sorted(again, key=repr) == sorted(found, key=repr)


def test_a_checkpoint_comes_back_equal_with_nan_in_its_curves(path: Path, record_of: Make) -> None:
    record = record_of(
        "a.b_c-1",
        settings={"beta": 6.0, "steps": 10, "name": "ü", "is_soft": True},
        curves={"loss": (1.5, float("nan"))},
        seed=2**62,
    )
    with Store.open(path) as store:
        store.add_checkpoint(record)
    with Store.open(path, read_only=True) as store:
        found = store.checkpoint("a.b_c-1")
    assert replace(found, curves={}) == replace(record, curves={})
    assert found.curves["loss"][0] == 1.5
    assert math.isnan(found.curves["loss"][1])


def test_the_table_of_checkpoints_has_a_column_for_every_field() -> None:
    held = {field.name for field in fields(CheckpointRecord)} - {"digest", "threat"}
    assert held | {"norm", "epsilon", "id", "function_id"} == set(schema.checkpoint.c.keys())


def test_an_outcome_recorded_twice_is_there_once_and_the_first_stays(
    store: Store, outcome_of: Make
) -> None:
    first = outcome_of(broken=(False,) * 10)
    assert store.record(first)
    assert not store.record(outcome_of(broken=(True,) * 10))
    assert store.outcomes(DIGEST) == [first]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attacked": (False,) * 10, "broken": (True,) + (False,) * 9}, "not attacked"),
        ({"attacked": (True,) * 9}, "9 images"),
        ({"broken": (True,) * 11}, "11 images"),
        ({"columns": {"loss": (1.0,) * 9}}, "column loss"),
        ({"columns": {"loss": (math.inf,) * 10}}, "infinite"),
        ({"forwards": -1}, "forwards"),
        ({"queries": 2**63}, "queries"),
        ({"seconds": math.nan}, "seconds"),
        ({"attack": CLEAN, "attacked": (False,) * 10, "broken": (False,) * 10}, "clean"),
    ],
)
def test_an_outcome_that_contradicts_itself_is_refused(
    store: Store, outcome_of: Make, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        store.record(outcome_of(**change))
    assert store.outcomes(DIGEST) == []


@pytest.mark.parametrize(("first", "last"), [(-1, 9), (5, 5), (10_000_000, 10_000_001)])
def test_a_slice_outside_every_test_set_is_refused(
    store: Store, outcome_of: Make, first: int, last: int
) -> None:
    with pytest.raises(ValueError, match="no slice"):
        store.record(outcome_of(first, last))


def test_nested_and_overlapping_slices_are_covered_once(store: Store, outcome_of: Make) -> None:
    for first, last in [(0, 10), (0, 5), (5, 20), (30, 40), (40, 45)]:
        store.record(outcome_of(first, last))
    assert _covered(store, outcome_of()) == [(0, 20), (30, 45)]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"precision": "bfloat16"},
        {"population": EVERY},
        {"threat": ThreatModel("linf", Fraction("0.031"))},
        {"threat": ThreatModel("l2", Fraction(8, 255))},
        {"attack": AttackSpec("pgd", "logits", "ce", (("steps", 41),))},
    ],
)
def test_what_another_job_covers_is_not_covered(
    store: Store, outcome_of: Make, other: dict[str, Any]
) -> None:
    store.record(outcome_of())
    assert _covered(store, outcome_of(**other)) == []


def test_outcomes_are_found_by_images_and_threat(store: Store, outcome_of: Make) -> None:
    weak = outcome_of(threat=ThreatModel("linf", Fraction(4, 255)))
    store.record(outcome_of())
    store.record(weak)
    assert store.outcomes(DIGEST, threat=weak.job.threat) == [weak]
    assert len(store.outcomes(DIGEST, images=IMAGES)) == 2
    assert store.outcomes(DIGEST, images="0" * 64) == []
    assert store.outcomes("0" * 64) == []


def test_an_outcome_of_a_removed_checkpoint_is_refused(store: Store, outcome_of: Make) -> None:
    with pytest.raises(HarnessError, match="no checkpoint with digest 999999999999"):
        store.record(outcome_of(checkpoint="9" * 64))
    assert store.attacks() == {}


def test_a_name_belongs_to_one_digest(store: Store, record_of: Make) -> None:
    with pytest.raises(HarnessError, match=r"'trades' is taken .*harness remove trades"):
        store.add_checkpoint(record_of(digest="1" * 64))
    assert [record.digest for record in store.checkpoints()] == [DIGEST]


def test_adding_a_checkpoint_again_renews_what_is_said_and_keeps_its_outcomes(
    store: Store, record_of: Make, outcome_of: Make
) -> None:
    store.record(outcome_of())
    store.add_checkpoint(record_of(scale="smoke"))
    assert [record.scale for record in store.checkpoints()] == ["smoke"]
    assert len(store.outcomes(DIGEST)) == 1


def test_an_unknown_name_is_answered_with_the_nearest(store: Store) -> None:
    for ask in (store.checkpoint, store.remove, lambda name: store.find(["trades", name])):
        with pytest.raises(HarnessError, match=r"'trade'\. Did you mean 'trades'"):
            ask("trade")


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a b", "-a", "a\n", "x" * 121])
def test_a_name_that_is_no_file_name_is_refused(store: Store, record_of: Make, name: str) -> None:
    with pytest.raises(HarnessError, match="no name for a checkpoint"):
        store.add_checkpoint(record_of(name))


def test_removing_a_checkpoint_removes_all_of_it_and_nothing_else(
    store: Store, record_of: Make, outcome_of: Make, plan: Plan, failure_of: Make
) -> None:
    other = "1" * 64
    store.add_checkpoint(record_of("other", digest=other))
    store.record(outcome_of())
    store.record(outcome_of(checkpoint=other))
    store.record_plan(plan)
    store.record_failure(failure_of(attack="another"))
    store.remove("trades")
    assert [record.name for record in store.checkpoints()] == ["other"]
    assert (store.outcomes(DIGEST), store.plans(), store.failures()) == ([], [], [])
    assert len(store.outcomes(other)) == 1


def test_two_names_of_one_function_share_its_outcomes_until_both_are_removed(
    store: Store, record_of: Make, outcome_of: Make
) -> None:
    store.add_checkpoint(record_of("twin"))
    store.record(outcome_of())
    store.remove("trades")
    assert len(store.outcomes(DIGEST)) == 1
    store.remove("twin")
    assert store.outcomes(DIGEST) == []


def test_a_failure_is_cleared_by_success_on_its_own_slice_only(
    store: Store, outcome_of: Make, failure_of: Make
) -> None:
    for failure in (failure_of(0, 5), failure_of(10, 20), failure_of(0, 5, attack="another")):
        store.record_failure(failure)
    store.record(outcome_of(0, 10))
    assert store.failures() == [failure_of(10, 20), failure_of(0, 5, attack="another")]


@pytest.mark.parametrize("attack", ["", "pgd@logits:ce"])
def test_a_failure_of_no_particular_slice_is_cleared_by_any_success(
    store: Store, outcome_of: Make, failure_of: Make, attack: str
) -> None:
    store.record_failure(failure_of(0, 0, attack))
    store.record(outcome_of(30, 40))
    assert store.failures() == []


def test_a_job_that_fails_twice_keeps_the_later_reason(store: Store, failure_of: Make) -> None:
    later: Failure = replace(failure_of(), status="wrong_shape")
    assert store.record_failure(failure_of())
    assert not store.record_failure(later)
    assert store.failures(DIGEST, images=IMAGES, threat=THREAT) == [later]


def test_plans_come_back_once_and_by_checkpoint(store: Store, plan: Plan) -> None:
    assert store.record_plan(plan)
    assert not store.record_plan(plan)
    longer = replace(plan, attacks=(*plan.attacks, ("1" * 64, "correct")))
    assert store.record_plan(longer)
    assert store.plans(DIGEST) == [plan, longer]
    assert store.plans("0" * 64) == []


def test_the_latest_words_about_an_attack_stay_and_silence_erases_none(
    store: Store, outcome_of: Make
) -> None:
    spec = outcome_of().job.attack
    for said in ({"description": "old"}, {"description": "new"}, None):
        store.record(outcome_of(), description=said)
    assert store.attacks()[spec.hash].description == {"description": "new"}
    store.record_attack(spec, {"description": "newest"})
    assert store.attacks()[spec.hash].description == {"description": "newest"}


def test_a_dataset_that_an_outcome_named_can_be_described_later(
    store: Store, outcome_of: Make
) -> None:
    store.record(outcome_of())
    store.record_dataset("digits", IMAGES, 360, [str(digit) for digit in range(10)])
    (images,) = store.datasets()
    assert (images.size, images.classes[9]) == (360, "9")


def test_a_run_knows_when_it_began_and_ended(store: Store, outcome_of: Make) -> None:
    uid = store.start_run("harness eval", versions={"torch": "2.6"}, device="cpu")
    assert store.runs()[0].finished == ""
    store.record(outcome_of(), run=uid)
    store.finish_run(uid)
    (run,) = store.runs()
    assert (run.uid, run.command, run.versions) == (uid, "harness eval", {"torch": "2.6"})
    assert run.started <= run.finished


def _covered(store: Store, outcome: Outcome) -> list[tuple[int, int]]:
    job = outcome.job
    return store.covered(
        checkpoint=job.checkpoint,
        dataset=job.dataset,
        images=job.images,
        threat=job.threat,
        attack=job.attack.hash,
        population=job.population,
        seed=job.seed,
        precision=job.precision,
    )
