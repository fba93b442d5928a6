"""A stamp changes with whatever is stored of its checkpoint, and with nothing else."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_galleries import GALLERY

from harness.identity import (
    DIAGNOSED,
    CheckpointRecord,
    Failure,
    Finding,
    Measurement,
    Outcome,
    Plan,
)
from harness.store import schema
from harness.store.store import Store
from harness.threat import ThreatModel

DIGEST, OTHER, IMAGES = "d" * 64, "a" * 64, "f" * 64
THREAT = ThreatModel("linf", 1)
NOON = "2026-01-01T12:00:00+00:00"
OF_A_ROW: dict[str, Any] = {
    "checkpoint": DIGEST,
    "dataset": "digits",
    "images": IMAGES,
    "threat": THREAT,
    "seed": 0,
    "examples": 10,
    "created": NOON,
}
FINDING = Finding(**OF_A_ROW, diagnostic="D01", state="green", value=0.1, threshold="none")
MEASUREMENT = Measurement(**OF_A_ROW, analysis="angles", on="clean", values={"mean": (0.5,)})


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens within one second: dates alone tell nothing apart."""
    monkeypatch.setattr("harness.store.store._now", lambda: NOON)


@pytest.fixture
def both(
    store: Store, record_of: Callable[..., CheckpointRecord], outcome_of: Callable[..., Outcome]
) -> Store:
    """A second checkpoint beside the first, with an outcome of each."""
    store.add_checkpoint(record_of("other", digest=OTHER))
    store.record(outcome_of())
    store.record(outcome_of(checkpoint=OTHER))
    store.record_finding(FINDING)
    store.record_measurement(MEASUREMENT)
    return store


def changes(store: Store, change: Callable[[], object]) -> bool:
    """Whether it changes the stamp of the first checkpoint; that of the second never does."""
    before = store.stamps()
    change()
    after = store.stamps()
    assert before.keys() == after.keys() == {DIGEST, OTHER}
    assert before[OTHER] == after[OTHER]
    return before[DIGEST] != after[DIGEST]


def test_stamps_stay_while_nothing_changes_even_in_a_copy(both: Store, tmp_path: Path) -> None:
    before = both.stamps()
    assert both.stamps() == before
    assert len(set(before.values())) == 2
    assert both.path is not None
    with Store.open(both.path, read_only=True, is_copied=True) as copied:
        assert copied.stamps() == before


def test_a_new_row_of_any_kind_changes_the_stamp(
    both: Store, plan: Plan, failure_of: Callable[..., Failure], outcome_of: Callable[..., Outcome]
) -> None:
    assert changes(both, lambda: both.record(outcome_of(10, 20)))
    assert changes(both, lambda: both.record(outcome_of(seed=1)))
    assert changes(both, lambda: both.record_plan(plan))
    assert changes(both, lambda: both.record_failure(failure_of(20, 30)))
    other = dataclasses.replace(FINDING, diagnostic="D02")
    assert changes(both, lambda: both.record_finding(other))
    more = dataclasses.replace(MEASUREMENT, on="training")
    assert changes(both, lambda: both.record_measurement(more))


def test_what_is_renewed_within_a_second_changes_the_stamp(
    both: Store, failure_of: Callable[..., Failure]
) -> None:
    """Such a row has its earlier one's number, and may have its date."""
    red = dataclasses.replace(FINDING, state="red")
    assert changes(both, lambda: both.record_finding(red))
    measured = dataclasses.replace(MEASUREMENT, values={"mean": (0.25,)})
    assert changes(both, lambda: both.record_measurement(measured))
    assert changes(both, lambda: both.record_failure(failure_of()))
    again = dataclasses.replace(failure_of(), message="4 logits are NaN")
    assert changes(both, lambda: both.record_failure(again))


def test_what_is_said_of_the_checkpoint_changes_the_stamp(
    both: Store, record_of: Callable[..., CheckpointRecord]
) -> None:
    assert changes(both, lambda: both.add_checkpoint(record_of(paper={"title": "A paper"})))
    assert changes(both, lambda: both.add_checkpoint(record_of("second-name")))
    assert changes(both, lambda: both.remove("second-name"))


def test_the_same_again_changes_nothing(
    both: Store, record_of: Callable[..., CheckpointRecord], outcome_of: Callable[..., Outcome]
) -> None:
    assert not changes(both, lambda: both.record(outcome_of()))
    assert not changes(both, lambda: both.add_checkpoint(record_of()))
    assert not changes(both, lambda: both.record_finding(FINDING))
    assert not changes(both, lambda: both.record_measurement(MEASUREMENT))
    assert not changes(both, lambda: both.finish_run(both.start_run("x", versions={}, device="")))


def test_a_failure_that_is_cleared_changes_the_stamp(
    both: Store, failure_of: Callable[..., Failure], outcome_of: Callable[..., Outcome]
) -> None:
    diagnosed = dataclasses.replace(failure_of(), attack=DIAGNOSED, threat=THREAT)
    both.record_failure(diagnosed)
    assert both.failures()
    assert changes(both, lambda: both.record_finding(FINDING))  # clears it, and is the same itself
    assert not both.failures()


def test_what_is_said_of_its_attacks_and_images_changes_the_stamp(
    both: Store, outcome_of: Callable[..., Outcome]
) -> None:
    spec = outcome_of(seed=2).job.attack
    late = dataclasses.replace(spec, attack="late")
    both.record(outcome_of(attack=late))
    assert changes(both, lambda: both.record_attack(late, {"description": "Comes last."}))
    unused = dataclasses.replace(spec, attack="unused")
    assert not changes(both, lambda: both.record_attack(unused, {}))
    before = both.stamps()
    both.record_dataset("digits", IMAGES, 10, ("zero", "one"))
    assert all(both.stamps()[digest] != stamp for digest, stamp in before.items())


def test_pictures_of_its_test_images_change_the_stamp(both: Store, path: Path) -> None:
    before = both.stamps()
    both.record_gallery(GALLERY)
    first = both.stamps()
    assert all(first[digest] != stamp for digest, stamp in before.items())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE gallery SET labels = '[1, 1, 1]'")
    assert all(both.stamps()[digest] != stamp for digest, stamp in first.items())


def test_every_table_that_belongs_to_a_checkpoint_counts(both: Store, path: Path) -> None:
    """Whatever table the schema gets: one more row of it is one more thing that is known."""
    both.close()
    of_function = [t for t in schema.metadata.sorted_tables if "function_id" in t.c]
    assert {"outcome", "plan", "failure", "finding", "measurement", "checkpoint"} <= {
        table.name for table in of_function
    }
    for table in of_function:
        before = _stamps(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(*_another(table, connection))
        after = _stamps(path)
        assert [d for d in after if after[d] != before[d]] == [DIGEST], table.name


def _stamps(path: Path) -> dict[str, str]:
    with Store.open(path, read_only=True) as opened:
        return opened.stamps()


def _another(table: Any, connection: sqlite3.Connection) -> tuple[str, list[Any]]:
    """A row that refers to the first checkpoint and holds anything else."""
    ids = connection.execute("SELECT id FROM function WHERE digest = ?", [DIGEST]).fetchone()
    values = {}
    for column in table.c:
        if column.name == "id":
            continue
        kind = column.type.python_type if not isinstance(column.type, schema.Json) else dict
        values[column.name] = {int: 1, float: 0.5, bytes: b"x", dict: "{}"}.get(kind, "new")
    values["function_id"] = ids[0]
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks})", [*values.values()]  # noqa: S608
