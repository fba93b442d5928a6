from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Failure,
    Finding,
    Job,
    Outcome,
    Plan,
)
from harness.standings import Question, Standing, as_csv, as_json, boards, measure, still_right
from harness.standings.export import numbers_json
from harness.standings.levels import TITLES
from harness.statistics import wilson
from harness.store.store import Store
from harness.threat import ThreatModel

IMAGES = "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
SURVIVORS = "survivors:adaptive-2"
A = AttackSpec("a", "logits", "ce", (("steps", 10),), ("steps",))
B = AttackSpec("b", "logits", "ce")
HEAD = AttackSpec("a", "auxiliary(0)", "ce")
GATE = AttackSpec("a", "gate", "ce")
LATE = AttackSpec("late", "logits", "margin")


class Bench:
    """A store and short words for filling it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def checkpoint(self, name: str, **more: Any) -> CheckpointRecord:
        digest = name.encode().hex().ljust(64, "0")
        record = CheckpointRecord(
            name, digest, "trained", "digits", THREAT, "w", "e" * 64, Capabilities(10), **more
        )
        self.store.add_checkpoint(record)
        return record

    def record(
        self,
        checkpoint: CheckpointRecord,
        spec: AttackSpec,
        broken: str,
        attacked: str = "",
        *,
        population: str = CORRECT,
        seed: int = 0,
        first: int = 0,
        threat: ThreatModel = THREAT,
        **rest: Any,
    ) -> None:
        count = len(broken)
        job = Job(
            checkpoint.digest,
            "digits",
            IMAGES,
            threat,
            spec,
            EVERY if spec == CLEAN else population,
            seed,
            "float32",
            first,
            first + count,
        )
        self.store.record(Outcome(job, _bits(attacked or "1" * count), _bits(broken), **rest))

    def plan(
        self,
        checkpoint: CheckpointRecord,
        protocol: str,
        *members: tuple[AttackSpec, str],
        seed: int = 0,
    ) -> None:
        attacks = tuple((spec.hash, population) for spec, population in members)
        self.store.record_plan(
            Plan(checkpoint.digest, "digits", IMAGES, THREAT, seed, "float32", protocol, attacks)
        )

    def measure(
        self,
        checkpoint: CheckpointRecord,
        examples: int,
        *members: tuple[AttackSpec, str],
        seed: int = 0,
    ) -> Standing:
        return measure(
            self.store, checkpoint, Question(**_where(seed), attacks=members, examples=examples)
        )

    def rows(self) -> tuple[Standing, ...]:
        (board,) = boards(self.store)
        return board.standings


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without rows; copying it is faster than migrating."""
    path = tmp_path_factory.mktemp("new") / "results.db"
    Store.open(path).close()
    return path


@pytest.fixture
def bench(tmp_path: Path, new_database: Path) -> Iterator[Bench]:
    with Store.open(shutil.copy(new_database, tmp_path)) as store:
        yield Bench(store)


@pytest.fixture
def row(bench: Bench) -> CheckpointRecord:
    """Eight images, two wrong as they are; A, B and a head attacked; a gate the survivors."""
    checkpoint = bench.checkpoint("trades")
    bench.record(checkpoint, CLEAN, "00000011")
    bench.record(checkpoint, A, "11000000", "11111100", forwards=60, seconds=1.0)
    bench.record(checkpoint, B, "01100000", "11111100", queries=600)
    bench.record(checkpoint, HEAD, "01000000", "11111100")
    bench.record(checkpoint, GATE, "00010000", "00011100", population=SURVIVORS)
    bench.plan(checkpoint, "standard-2", (A, CORRECT), (B, CORRECT))
    bench.plan(
        checkpoint, "adaptive-2", (A, CORRECT), (B, CORRECT), (HEAD, CORRECT), (GATE, SURVIVORS)
    )
    return checkpoint


def test_a_row_has_the_counts_that_its_bits_spell(bench: Bench, row: CheckpointRecord) -> None:
    (standing,) = bench.rows()
    assert standing.examples == 8
    assert (standing.clean.count, standing.robust.count) == (6, 2)
    assert (standing.clean.low, standing.clean.high) == wilson(6, 8)
    assert standing.standard is not None
    assert standing.standard.count == 3
    assert standing.adaptive_gap == 1 / 8
    assert standing.is_adaptive
    assert standing.protocols == ("adaptive-2", "standard-2")
    assert standing.rank == (1, 1)
    assert standing.checkpoint == row


def test_every_attack_has_the_counts_that_its_bits_spell(
    bench: Bench, row: CheckpointRecord
) -> None:
    (standing,) = bench.rows()
    found = [
        (line.label, line.attacked, line.broken, line.union_after.count, line.sole_breaks)
        for line in standing.attacks
    ]
    assert found == [
        ("a(steps=10)@logits:ce", 6, 2, 4, 1),
        ("b@logits:ce", 6, 2, 3, 1),
        ("a@auxiliary(0):ce", 6, 1, 3, 0),
        ("a@gate:ce", 3, 1, 2, None),
    ]
    assert [line.robust and line.robust.count for line in standing.attacks] == [4, 4, 5, None]
    assert (standing.attacks[0].forwards, standing.attacks[1].queries) == (60, 600)
    assert standing.attacks[0].parameters == {"steps": 10}
    assert standing.last_lowered_by == "a@gate:ce"


def test_the_second_stage_attack_that_lowered_the_union_most_is_named_first(bench: Bench) -> None:
    """Sole breaks of the first stage say nothing then: the second never sees what it broke."""
    checkpoint = bench.checkpoint("one")
    bench.record(checkpoint, CLEAN, "00000000")
    bench.record(checkpoint, A, "11100000")
    bench.record(checkpoint, B, "01110000")
    bench.plan(checkpoint, "standard-2", (A, CORRECT), (B, CORRECT))
    assert bench.rows()[0].last_lowered_by == "a(steps=10)@logits:ce"
    bench.record(checkpoint, GATE, "00001000", "00001111", population=SURVIVORS)
    bench.record(checkpoint, LATE, "00000110", "00001111", population=SURVIVORS)
    bench.plan(checkpoint, "adaptive-2", (A, CORRECT), (GATE, SURVIVORS), (LATE, SURVIVORS))
    assert bench.rows()[0].last_lowered_by == "late@logits:margin"


def test_nothing_is_named_where_nothing_broke(bench: Bench) -> None:
    checkpoint = bench.checkpoint("one")
    bench.record(checkpoint, CLEAN, "0001")
    bench.record(checkpoint, A, "0000", "1110")
    assert bench.rows()[0].last_lowered_by == ""


def test_an_attack_that_missed_a_right_image_has_no_accuracy_of_its_own(bench: Bench) -> None:
    checkpoint = bench.checkpoint("one")
    bench.record(checkpoint, CLEAN, "0001")
    bench.record(checkpoint, A, "1000", "1100")
    (standing,) = bench.rows()
    assert standing.attacks[0].robust is None
    assert standing.attacks[0].sole_breaks is None
    assert standing.standard is None
    assert standing.robust.count == 2


def test_healing_a_wrong_image_never_counts_as_right(bench: Bench) -> None:
    checkpoint = bench.checkpoint("one")
    bench.record(checkpoint, CLEAN, "0011")
    bench.record(checkpoint, A, "0001", population=EVERY)
    (standing,) = bench.rows()
    assert (standing.clean.count, standing.robust.count) == (2, 2)
    assert (standing.attacks[0].attacked, standing.attacks[0].broken) == (4, 0)


def test_another_seed_and_another_protocol_lower_the_same_row(
    bench: Bench, row: CheckpointRecord
) -> None:
    bench.record(row, A, "00001000", "11111100", seed=7, forwards=40)
    (standing,) = bench.rows()
    assert standing.robust.count == 1
    assert standing.attacks[0].seeds == (0, 7)
    assert standing.attacks[0].broken == 3
    assert standing.attacks[0].forwards == 100


def test_a_row_counts_what_the_adaptive_protocol_covers_without_a_gap(
    bench: Bench, row: CheckpointRecord
) -> None:
    for spec in (CLEAN, A, B):
        bench.record(row, spec, "0000", first=8)
    bench.record(row, HEAD, "00", first=10)
    (standing,) = bench.rows()
    assert standing.examples == 8
    bench.record(row, HEAD, "00", first=8)
    bench.record(row, GATE, "000", "000", population=SURVIVORS, first=8)
    assert bench.rows()[0].examples == 11
    assert bench.rows()[0].robust.count == 5


def test_without_an_adaptive_protocol_the_standard_one_rules_and_no_gap_is_claimed(
    bench: Bench,
) -> None:
    checkpoint = bench.checkpoint("one")
    bench.record(checkpoint, CLEAN, "0000")
    bench.record(checkpoint, A, "100")
    bench.plan(checkpoint, "standard-2", (A, CORRECT))
    bench.plan(checkpoint, "adaptive-2", (A, CORRECT), (HEAD, CORRECT))
    (standing,) = bench.rows()
    assert (standing.examples, standing.is_adaptive, standing.rank) == (3, False, (1, 1))
    assert standing.adaptive_gap is None


def test_a_row_without_a_complete_protocol_has_no_rank_and_stands_below(
    bench: Bench, row: CheckpointRecord
) -> None:
    perfect = bench.checkpoint("perfect")
    bench.record(perfect, CLEAN, "00000000")
    assert len(bench.rows()) == 1
    bench.record(perfect, A, "000000")
    ranked, unranked = bench.rows()
    assert (unranked.checkpoint.name, unranked.rank, unranked.examples) == ("perfect", None, 6)
    assert ranked.rank == (1, 1)


def test_a_plan_that_covers_images_with_another_seed_is_not_complete(bench: Bench) -> None:
    checkpoint = bench.checkpoint("one")
    bench.record(checkpoint, CLEAN, "0000")
    bench.record(checkpoint, A, "1000", seed=1)
    bench.plan(checkpoint, "standard-2", (A, CORRECT), seed=0)
    assert bench.rows()[0].rank is None
    bench.plan(checkpoint, "standard-2", (A, CORRECT), seed=1)
    assert (bench.rows()[0].rank, bench.rows()[0].seed) == ((1, 1), 1)


def test_images_whose_clean_decision_is_unknown_do_not_count(bench: Bench) -> None:
    checkpoint = bench.checkpoint("one")
    bench.record(checkpoint, CLEAN, "0001")
    bench.record(checkpoint, A, "100000")
    assert bench.rows()[0].examples == 4
    bench.plan(checkpoint, "standard-2", (A, CORRECT))
    (standing,) = bench.rows()
    assert (standing.examples, standing.robust.count, standing.rank) == (4, 2, (1, 1))


def test_rows_that_the_paired_test_does_not_separate_share_their_places(bench: Bench) -> None:
    for name, broken in [("first", 60), ("second", 62), ("last", 95)]:
        checkpoint = bench.checkpoint(name)
        bench.record(checkpoint, CLEAN, "0" * 100)
        bench.record(checkpoint, A, "1" * broken + "0" * (100 - broken))
        bench.plan(checkpoint, "standard-2", (A, CORRECT))
    found = [(standing.checkpoint.name, standing.rank) for standing in bench.rows()]
    assert found == [("first", (1, 2)), ("second", (1, 2)), ("last", (3, 3))]


def test_equal_rows_are_ordered_by_clean_accuracy_and_then_by_name(bench: Bench) -> None:
    for name, clean in [("b", "0001"), ("a", "0001"), ("c", "0000")]:
        checkpoint = bench.checkpoint(name)
        bench.record(checkpoint, CLEAN, clean)
        bench.record(checkpoint, A, "1100")
    bench.record(bench.checkpoint("c"), B, "0001")
    assert [standing.checkpoint.name for standing in bench.rows()] == ["c", "a", "b"]


def test_each_threat_model_has_a_board_of_its_own(bench: Bench, row: CheckpointRecord) -> None:
    decimal = ThreatModel("linf", Fraction("0.031"))
    bench.record(row, CLEAN, "0000", threat=decimal)
    bench.record(row, A, "0000", threat=decimal)
    found = boards(bench.store)
    assert [(board.threat, len(board.standings)) for board in found] == [(decimal, 1), (THREAT, 1)]
    assert found[0].standings[0].robust.count == 4


def test_two_names_of_one_function_have_two_rows_with_the_same_numbers(
    bench: Bench, row: CheckpointRecord
) -> None:
    bench.store.add_checkpoint(CheckpointRecord(**{**vars(row), "name": "twin"}))
    first, second = bench.rows()
    assert [first.checkpoint.name, second.checkpoint.name] == ["trades", "twin"]
    assert first.robust == second.robust
    assert first.rank == second.rank == (1, 2)


def test_a_row_carries_its_failures(bench: Bench, row: CheckpointRecord) -> None:
    failure = Failure(row.digest, "digits", IMAGES, THREAT, "z", "non_finite", "NaN", "2026", 0, 5)
    bench.store.record_failure(failure)
    assert bench.rows()[0].failures == (failure,)
    assert bench.measure(row, 4, (A, CORRECT)).failures == (failure,)


def test_a_checkpoint_that_failed_at_once_has_a_row_of_no_images_with_its_reason(
    bench: Bench, row: CheckpointRecord
) -> None:
    failed = bench.checkpoint("broken")
    failure = Failure(failed.digest, "digits", IMAGES, THREAT, "none", "non_finite", "NaN", "2026")
    bench.store.record_failure(failure)
    first, last = bench.rows()
    assert (first.checkpoint.name, last.checkpoint.name) == ("trades", "broken")
    assert (last.examples, last.robust.total, last.rank) == (0, 0, None)
    assert last.failures == (failure,)
    assert "NaN" in as_json(boards(bench.store))


def test_an_empty_store_has_no_boards(bench: Bench) -> None:
    bench.checkpoint("one")
    assert boards(bench.store) == ()


def test_measuring_counts_exactly_the_attacks_and_images_asked_for(
    bench: Bench, row: CheckpointRecord
) -> None:
    standing = bench.measure(row, 8, (B, CORRECT), (A, CORRECT))
    assert [line.label for line in standing.attacks] == ["b@logits:ce", "a(steps=10)@logits:ce"]
    assert (standing.robust.count, standing.protocols, standing.rank) == (3, ("standard-2",), None)
    assert not standing.is_adaptive
    assert bench.measure(row, 2, (A, CORRECT)).robust.count == 0
    clean_only = bench.measure(row, 8)
    assert (clean_only.robust.count, clean_only.attacks, clean_only.standard) == (6, (), None)


def test_measuring_the_whole_adaptive_protocol_equals_the_row_of_the_board(
    bench: Bench, row: CheckpointRecord
) -> None:
    members = ((A, CORRECT), (B, CORRECT), (HEAD, CORRECT), (GATE, SURVIVORS))
    found = bench.measure(row, 8, (CLEAN, EVERY), *members)
    (board,) = boards(bench.store)
    assert {**vars(board.standings[0]), "rank": None} == vars(found)


def test_cost_of_a_slice_cut_short_is_its_share_and_overlap_counts_once(
    bench: Bench, row: CheckpointRecord
) -> None:
    bench.record(row, A, "1100", forwards=40)
    assert bench.measure(row, 4, (A, CORRECT)).attacks[0].forwards == 30
    assert bench.measure(row, 8, (A, CORRECT)).attacks[0].forwards == 60


@pytest.mark.parametrize(
    ("examples", "members", "reason"),
    [
        (9, ((A, CORRECT),), r"2 of 2 attacks cover fewer, such as clean \(8\), a\(steps=10\)"),
        (8, ((A, SURVIVORS),), r"1 of 2 .*a\(steps=10\)@logits:ce \(0\)"),
        (0, ((A, CORRECT),), "not finished"),
    ],
)
def test_measuring_what_is_not_finished_is_refused_with_the_next_step(
    bench: Bench,
    row: CheckpointRecord,
    examples: int,
    members: Sequence[tuple[AttackSpec, str]],
    reason: str,
) -> None:
    for ask in (measure, still_right):
        with pytest.raises(HarnessError, match=reason) as caught:
            ask(bench.store, row, Question(**_where(), attacks=members, examples=examples))
        assert "Repeat the command" in str(caught.value)


def test_the_bits_are_those_of_the_counts(bench: Bench, row: CheckpointRecord) -> None:
    members = ((A, CORRECT), (GATE, SURVIVORS))
    found = still_right(bench.store, row, Question(**_where(), attacks=members, examples=8))
    assert {key: "".join(map(str, bits.astype(int))) for key, bits in found.items()} == {
        "clean": "11111100",
        "robust": "00101100",
        "a(steps=10)@logits:ce": "00111100",
        "a@gate:ce": "11101100",
    }


def test_a_label_with_two_populations_has_two_vectors(bench: Bench, row: CheckpointRecord) -> None:
    bench.record(row, A, "00100000", "00111100", population=SURVIVORS)
    members = ((A, CORRECT), (A, SURVIVORS))
    found = still_right(bench.store, row, Question(**_where(), attacks=members, examples=8))
    assert list(found)[2:] == [A.label, f"{A.label} on {SURVIVORS}"]
    assert found["robust"].sum() == 3


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wrong=st.lists(st.booleans(), min_size=6, max_size=6),
    breaks=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=3),
)
def test_each_new_attack_can_only_lower_the_row(
    wrong: list[bool],
    breaks: list[list[bool]],
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Path,
) -> None:
    with Store.open(shutil.copy(new_database, tmp_path_factory.mktemp("s"))) as store:
        bench = Bench(store)
        checkpoint = bench.checkpoint("one")
        bench.record(checkpoint, CLEAN, _text(wrong))
        before = 6 - sum(wrong)
        for place, broken in enumerate(breaks):
            spec = AttackSpec(f"attack-{place}", "logits", "ce")
            hit = [not is_wrong for is_wrong in wrong]
            both = [a and b for a, b in zip(broken, hit, strict=True)]
            bench.record(checkpoint, spec, _text(both), _text(hit))
            (standing,) = bench.rows()
            assert standing.robust.count <= min(before, standing.clean.count)
            assert standing.attacks[-1].union_after == standing.robust
            before = standing.robust.count


def test_json_keeps_every_count_and_is_the_same_each_time(
    bench: Bench, row: CheckpointRecord
) -> None:
    text = as_json(boards(bench.store))
    assert text == as_json(boards(bench.store))
    (board,) = json.loads(text)["boards"]
    (standing,) = board["standings"]
    assert (board["norm"], board["epsilon"], standing["rank"]) == ("linf", "8/255", [1, 1])
    assert (standing["robust"]["count"], standing["robust"]["total"]) == (2, 8)
    assert standing["attacks"][3]["robust"] is None
    assert standing["attacks"][0]["parameters"] == {"steps": 10}


def test_scale_and_collapse_stand_beside_the_number_in_both_exports(bench: Bench) -> None:
    training = {"collapsed_at": 2}
    short = bench.checkpoint("short", scale="smoke", training=training)
    bench.record(short, CLEAN, "0000")
    bench.record(short, HEAD, "1000")
    (line,) = csv.DictReader(io.StringIO(as_csv(boards(bench.store))))
    (standing,) = json.loads(as_json(boards(bench.store)))["boards"][0]["standings"]
    assert line["scale"] == standing["scale"] == "smoke, collapsed at epoch 2"


def test_numbers_that_are_none_are_null_in_json() -> None:
    values = {"ratio": (0.5, float("nan"), float("inf"))}
    assert numbers_json(values) == {"ratio": [0.5, None, None]}


def test_csv_has_a_line_per_row_and_leaves_the_unknown_empty(
    bench: Bench, row: CheckpointRecord
) -> None:
    unranked = bench.checkpoint("other,with,commas")
    bench.record(unranked, CLEAN, "0000")
    bench.record(unranked, HEAD, "1000")
    ranked, other = csv.DictReader(io.StringIO(as_csv(boards(bench.store))))
    assert (ranked["best_rank"], ranked["robust_count"], ranked["epsilon"]) == ("1", "2", "8/255")
    assert float(ranked["robust_fraction"]) == 0.25
    assert (other["best_rank"], other["standard_fraction"], other["adaptive_gap"]) == ("", "", "")


def _where(seed: int = 0) -> dict[str, Any]:
    return {
        "dataset": "digits",
        "images": IMAGES,
        "threat": THREAT,
        "seed": seed,
        "precision": "float32",
    }


def _bits(text: str) -> tuple[bool, ...]:
    return tuple(letter == "1" for letter in text)


def _text(bits: Sequence[bool]) -> str:
    return "".join("1" if bit else "0" for bit in bits)


def test_the_standard_number_counts_the_first_stage_on_the_deployed_logits_alone(
    bench: Bench, row: CheckpointRecord
) -> None:
    bench.record(row, LATE, "00001000", "00011100", population=SURVIVORS)
    late, early = (
        bench.rows()[0].standard,
        bench.measure(row, 8, (A, CORRECT), (B, CORRECT)).standard,
    )
    assert late is not None
    assert early is not None
    assert (early.count, late.count) == (3, 3)
    assert bench.rows()[0].robust.count == 1


def test_diagnostics_of_fewer_images_than_the_row_found_no_level(
    bench: Bench, row: CheckpointRecord
) -> None:
    for examples, is_open in ((7, True), (8, False)):
        for identity in TITLES:
            bench.store.record_finding(
                Finding(
                    *(row.digest, "digits", IMAGES, THREAT, 0, examples, identity),
                    *("green", 0.0, "amber: more"),
                    is_adaptive=True,
                )
            )
        lacking = " ".join(bench.rows()[0].lacking)
        assert ("diagnostics not run: D01" in lacking) is is_open


def test_a_kind_of_attack_counts_for_the_level_once_it_covers_the_row(
    bench: Bench, row: CheckpointRecord
) -> None:
    moved = AttackSpec("a", "surrogate(0123456789ab)", "ce")
    bench.record(row, moved, "0000", "1111")
    assert "no transferred attack" in bench.rows()[0].lacking
    bench.record(row, moved, "0000", "1100", first=4)
    assert "no transferred attack" not in bench.rows()[0].lacking


def test_an_attack_that_no_suite_names_lowers_the_union_but_not_the_standard_number(
    bench: Bench, row: CheckpointRecord
) -> None:
    """Else more attacks by hand would shrink the adaptive gap that they prove."""
    before = bench.rows()[0]
    bench.record(row, LATE, "00001100", "11111100")
    after = bench.rows()[0]
    assert after.robust.count == before.robust.count - 2
    assert after.standard == before.standard


@pytest.mark.parametrize(
    ("broken_of_large", "order"),
    [("01" * 50, ["large", "small"]), ("1" * 60 + "0" * 40, ["small", "large"])],
)
def test_a_smaller_tier_stands_above_a_larger_one_only_where_a_test_tells_them_apart(
    bench: Bench, broken_of_large: str, order: list[str]
) -> None:
    small, large = bench.checkpoint("small"), bench.checkpoint("large")
    for checkpoint, broken in (
        (small, "10" * 45 + "0" * 10),
        (large, broken_of_large + "1" * 250 + "0" * 150),
    ):
        bench.record(checkpoint, CLEAN, "0" * len(broken))
        bench.record(checkpoint, A, broken)
        bench.plan(checkpoint, "standard-2", (A, CORRECT))
    bench.record(small, B, "0" * 100)
    found = bench.rows()
    assert [standing.checkpoint.name for standing in found] == order
    assert found[0].rank == ((1, 2) if order[0] == "large" else (1, 1))


def test_protocols_of_an_older_version_give_a_rank_and_no_level(bench: Bench) -> None:
    for name, version in (("new", 2), ("old", 1)):
        checkpoint = bench.checkpoint(name)
        bench.record(checkpoint, CLEAN, "0000")
        bench.record(checkpoint, A, "1000")
        bench.plan(checkpoint, f"standard-{version}", (A, CORRECT))
    levels = {row.checkpoint.name: (row.level, row.rank) for row in bench.rows()}
    assert levels == {"new": ("E1", (1, 2)), "old": ("", (1, 2))}
