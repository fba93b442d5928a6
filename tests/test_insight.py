"""What a row's numbers are made of: classes, confusion, history, breaks of single images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Failure,
    Job,
    Outcome,
    Plan,
)
from harness.standings import Question, Standing, boards, measure
from harness.standings.insight import Insight, insight, known_labels
from harness.statistics import wilson
from harness.store.store import Store
from harness.threat import ThreatModel

IMAGES = "f" * 64
THREAT = ThreatModel("linf", Fraction(1, 5))
FIRST = AttackSpec("pgd", "logits", "ce", (("steps", 10),), ("steps",))
SECOND = AttackSpec("apgd_ce", "logits", "ce")
LATE = AttackSpec("late", "gate", "margin")
SURVIVORS = "survivors:adaptive-2"
NAN = float("nan")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "x.db"
    Store.open(path).close()
    return path


@pytest.fixture
def store(tmp_path: Path, empty: Path) -> Iterator[Store]:
    with Store.open(shutil.copy(empty, tmp_path)) as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The date that the store writes beside what it records, last of the list."""
    dates = ["2026-01-01T00:00:00+00:00"]
    monkeypatch.setattr("harness.store.store._now", lambda: dates[-1])
    return iter([dates]).__next__()


def add(store: Store, name: str = "one", classes: int = 3) -> CheckpointRecord:
    digest = name.encode().hex().ljust(64, "0")
    record = CheckpointRecord(
        name, digest, "trained", "digits", THREAT, "w", "e" * 64, Capabilities(classes)
    )
    store.add_checkpoint(record)
    return record


def put(
    store: Store,
    record: CheckpointRecord,
    spec: AttackSpec,
    broken: str,
    predicted: str = "",
    *,
    population: str = CORRECT,
    seed: int = 0,
    first: int = 0,
    attacked: str = "",
) -> None:
    """Record one outcome; `-` among the predicted classes is "not known"."""
    count = len(broken)
    job = Job(
        record.digest,
        "digits",
        IMAGES,
        THREAT,
        spec,
        EVERY if spec == CLEAN else population,
        seed,
        "float32",
        first,
        first + count,
    )
    said = tuple(NAN if one == "-" else float(one) for one in predicted)
    columns = {"margin": (0.5,) * count, "predicted": said} if predicted else {}
    bits = [tuple(one == "1" for one in text) for text in (attacked or "1" * count, broken)]
    store.record(Outcome(job, *bits, columns))


def plan(store: Store, record: CheckpointRecord, *members: tuple[AttackSpec, str]) -> None:
    attacks = tuple((spec.hash, population) for spec, population in members)
    args = (record.digest, "digits", IMAGES, THREAT, 0, "float32", "adaptive-2", attacks)
    store.record_plan(Plan(*args))


def row_of(store: Store, name: str = "one") -> Standing:
    (board,) = boards(store)
    return next(one for one in board.standings if one.checkpoint.name == name)


def look(store: Store, name: str = "one") -> Insight:
    return insight(store, row_of(store, name), known_labels(store, "digits", IMAGES))


@pytest.fixture
def filled(store: Store) -> Store:
    """Six images of true classes 0 0 1 1 2 2; the last is taken for a 0 as it is."""
    record = add(store)
    put(store, record, CLEAN, "000001", "001120")
    put(store, record, FIRST, "100100", "101220", attacked="111110")
    put(store, record, SECOND, "110000", "221120", attacked="111110")
    put(store, record, LATE, "001000", "--0---", population=SURVIVORS, attacked="001010")
    plan(store, record, (FIRST, CORRECT), (SECOND, CORRECT), (LATE, SURVIVORS))
    other = add(store, "other")
    put(store, other, CLEAN, "111110", "222222")
    put(store, other, FIRST, "000000", "222222", attacked="000001")
    return store


def test_classes_are_counted_apart(filled: Store) -> None:
    found = look(filled).classes
    assert [(one.name, one.clean.count, one.robust.count, one.clean.total) for one in found] == [
        ("0", 2, 0, 2),
        ("1", 2, 0, 2),
        ("2", 1, 1, 2),
    ]
    assert (found[2].robust.low, found[2].robust.high) == wilson(1, 2)


def test_a_broken_image_counts_as_what_the_first_attack_of_the_plan_made_of_it(
    filled: Store,
) -> None:
    found = look(filled)
    assert found.confusion == ((0, 1, 1), (1, 0, 1), (1, 0, 1))
    assert found.unknown == 0


def test_the_second_attack_says_it_where_the_plan_names_that_one_first(filled: Store) -> None:
    record = filled.checkpoint("one")
    filled.remove("one")
    filled.add_checkpoint(record)
    put(filled, record, CLEAN, "000001", "001120")
    put(filled, record, FIRST, "100100", "101220", attacked="111110")
    put(filled, record, SECOND, "110000", "221120", attacked="111110")
    plan(filled, record, (SECOND, CORRECT), (FIRST, CORRECT))
    assert look(filled).confusion[0] == (0, 0, 2)


def test_of_two_seeds_that_broke_an_image_the_first_says_what_became_of_it(store: Store) -> None:
    record = add(store)
    put(store, record, CLEAN, "00", "01")
    put(store, record, FIRST, "10", "22", seed=1)
    put(store, record, FIRST, "10", "12", seed=0)
    put(store, record, FIRST, "00", "02", seed=2)
    assert look(store).confusion == ((0, 1, 0), (0, 1, 0), (0, 0, 0))


def test_a_misclassified_image_counts_as_what_it_is_taken_for_without_an_attack(
    store: Store,
) -> None:
    put(store, add(store, "other"), CLEAN, "00", "01")
    record = add(store)
    put(store, record, CLEAN, "10", "11")
    put(store, record, FIRST, "10", "21", population=EVERY)
    found = look(store)
    assert found.confusion == ((0, 1, 0), (0, 1, 0), (0, 0, 0))
    assert found.broken_by == {1: ()}


def test_every_attack_that_broke_an_image_is_named_in_plan_order(filled: Store) -> None:
    assert look(filled).broken_by == {
        0: ("pgd(steps=10)@logits:ce", "apgd_ce@logits:ce"),
        1: ("apgd_ce@logits:ce",),
        2: ("late@gate:margin",),
        3: ("pgd(steps=10)@logits:ce",),
        4: (),
    }


def test_only_the_first_24_images_are_told_one_by_one(store: Store) -> None:
    record = add(store)
    put(store, record, CLEAN, "0" * 30, "1" * 30)
    put(store, record, FIRST, "1" * 30, "2" * 30)
    assert list(look(store).broken_by) == list(range(24))


def test_an_image_that_nobody_has_right_has_no_class(store: Store) -> None:
    record = add(store)
    put(store, record, CLEAN, "0011", "0012")
    put(store, record, FIRST, "1000", "2012", attacked="1100")
    found = look(store)
    assert found.unknown == 2
    assert found.confusion == ((1, 0, 1), (0, 0, 0), (0, 0, 0))
    assert [one.clean.total for one in found.classes] == [2, 0, 0]
    assert (found.classes[1].clean.low, found.classes[1].clean.high) == (0.0, 1.0)


@pytest.mark.parametrize("said", ["", "-01", "001", "901"])
def test_a_break_without_another_decision_is_unknown_and_no_class_loses_it(
    store: Store, said: str
) -> None:
    """Not recorded, not a number, the true class itself, or none of the classes."""
    record = add(store)
    put(store, record, CLEAN, "000", "001")
    put(store, record, FIRST, "100", said)
    found = look(store)
    assert found.unknown == 1
    assert found.confusion == ((1, 0, 0), (0, 1, 0), (0, 0, 0))
    assert found.classes[0].robust.count == 1


def test_two_checkpoints_that_contradict_each_other_say_no_class(store: Store) -> None:
    put(store, add(store, "one"), CLEAN, "0001", "0121")
    put(store, add(store, "two"), CLEAN, "0100", "0212")
    put(store, add(store, "three"), CLEAN, "1001", "2110")
    assert known_labels(store, "digits", IMAGES) == {0: 0, 1: 1, 3: 2}
    assert known_labels(store, "digits", "0" * 64) == {}
    assert known_labels(store, "other", IMAGES) == {}


def test_classes_follow_from_later_slices_and_not_from_attacks(store: Store) -> None:
    record = add(store)
    put(store, record, CLEAN, "00", "21", first=3)
    put(store, record, FIRST, "00", "00")
    put(store, record, CLEAN, "0", "-")
    assert known_labels(store, "digits", IMAGES) == {3: 2, 4: 1}


def test_classes_have_the_names_of_the_dataset(filled: Store) -> None:
    filled.record_dataset("digits", IMAGES, 6, ("zero", "one", "two", "three"))
    found = look(filled)
    assert [one.name for one in found.classes] == ["zero", "one", "two", "three"]
    assert len(found.confusion) == len(found.confusion[3]) == 4


def test_a_claimed_million_of_classes_makes_no_table_of_that_size(store: Store) -> None:
    put(store, (record := add(store, classes=1_000_000)), CLEAN, "00", "01")
    put(store, record, FIRST, "10", "11")
    assert len(look(store).confusion) == 1000


def test_history_tells_when_which_attack_lowered_the_union(store: Store, clock: list[str]) -> None:
    record = add(store)
    put(store, record, CLEAN, "0000", "0000")
    clock.append("2026-02-01T00:00:00+00:00")
    put(store, record, SECOND, "1101", "1111")
    put(store, record, FIRST, "1000", "1111")
    clock.append("2026-03-01T00:00:00+00:00")
    put(store, record, FIRST, "1101", "1111", seed=1)
    clock.append("2026-04-01T00:00:00+00:00")
    put(store, record, LATE, "0010", "1111", population=SURVIVORS)
    clock.append("2026-05-01T00:00:00+00:00")
    put(store, record, LATE, "0000", "1111", population=SURVIVORS, seed=2)
    plan(store, record, (FIRST, CORRECT), (SECOND, CORRECT), (LATE, SURVIVORS))
    found = look(store).history
    assert [(one.created[:7], one.robust.count, one.lowered_by) for one in found] == [
        ("2026-01", 4, ()),
        ("2026-02", 1, (("pgd(steps=10)@logits:ce", 1), ("apgd_ce@logits:ce", 2))),
        ("2026-04", 0, (("late@gate:margin", 1),)),
        ("2026-05", 0, ()),
    ]
    assert {one.robust.total for one in found} == {4}


def test_slices_of_one_date_are_one_drop(store: Store, clock: list[str]) -> None:
    record = add(store)
    put(store, record, CLEAN, "0000", "0000")
    put(store, record, FIRST, "11", "11")
    put(store, record, FIRST, "10", "11", first=2)
    assert [one.lowered_by for one in look(store).history] == [
        (),
        (("pgd(steps=10)@logits:ce", 3),),
    ]


def test_another_number_than_the_row_has_is_refused(filled: Store) -> None:
    standing = row_of(filled)
    put(filled, filled.checkpoint("one"), FIRST, "00001", "22221", seed=9)
    assert insight(filled, standing, {}).unknown == 6  # a seed that the row does not count
    again = row_of(filled)
    put(filled, filled.checkpoint("one"), CLEAN, "1", "2", seed=1)
    with pytest.raises(HarnessError, match="changed while they were read"):
        insight(filled, again, {})


def test_a_row_of_some_attacks_is_looked_into_with_these_alone(filled: Store) -> None:
    record = filled.checkpoint("one")
    put(filled, record, FIRST, "111110", "222202", seed=3)
    attacks = [(CLEAN, EVERY), (FIRST, CORRECT)]
    asked = Question("digits", IMAGES, THREAT, 0, "float32", attacks, 6)
    standing = measure(filled, record, asked)
    found = insight(filled, standing, known_labels(filled, "digits", IMAGES))
    assert found.history[-1].robust == standing.robust
    assert standing.robust.count == 3
    assert found.broken_by[1] == ()


def test_a_row_without_images_has_nothing_to_look_into(store: Store) -> None:
    record = add(store)
    said = ("pgd", "non_finite", "logits are NaN")
    store.record_failure(Failure(record.digest, "digits", IMAGES, THREAT, *said))
    assert look(store) == Insight()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_stored_every_sum_is_that_of_the_row(store: Store, seed: int) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.integers(3, size=40).tolist()
    for name in ("one", "two", "three"):
        _fill_by_chance(store, add(store, name), truth, draw)
    labels = known_labels(store, "digits", IMAGES)
    assert all(truth[image] == label for image, label in labels.items())
    for standing in boards(store)[0].standings:
        _check_sums(standing, insight(store, standing, labels), labels)


def _fill_by_chance(
    store: Store, record: CheckpointRecord, truth: list[int], draw: np.random.Generator
) -> None:
    """Attacks in slices that overlap, two seeds, images that nobody attacked."""
    wrong = [draw.random() < 0.2 for _ in truth]
    said = "".join(str((t + w) % 3) for t, w in zip(truth, wrong, strict=True))
    put(store, record, CLEAN, "".join(str(int(w)) for w in wrong), said)
    for spec in (FIRST, SECOND, LATE):
        for number, first in ((0, 0), (0, 10), (1, 5)):
            inside = range(first, min(first + 25, 40) if spec is not FIRST else 40)
            hit = [draw.random() < 0.2 for _ in inside]
            seen = [h or draw.random() < 0.7 for h in hit]
            put(
                store,
                record,
                spec,
                "".join(str(int(h)) for h in hit),
                "".join(str((truth[i] + 1 + h) % 3) for i, h in zip(inside, hit, strict=True)),
                first=first,
                seed=number,
                attacked="".join(str(int(s)) for s in seen),
            )


def _check_sums(standing: Standing, found: Insight, labels: Mapping[int, int]) -> None:
    assert found.history[0].robust == standing.clean
    assert found.history[-1].robust == standing.robust
    counts = [one.robust.count for one in found.history]
    assert counts == sorted(counts, reverse=True)
    lost = sum(count for drop in found.history for _, count in drop.lowered_by)
    assert lost == standing.clean.count - standing.robust.count
    assert sum(map(sum, found.confusion)) + found.unknown == standing.examples
    diagonal = [found.confusion[k][k] for k in range(3)]
    assert diagonal == [one.robust.count for one in found.classes]
    counted = sum(image < standing.examples for image in labels)
    assert sum(one.clean.total for one in found.classes) == counted
    broken = sum(bool(who) for who in found.broken_by.values())
    assert broken <= standing.clean.count - standing.robust.count
