"""Every pair of ranked rows: its difference, its p, and how it becomes the board's ranks."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import numpy as np
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
from harness.standings import Rate, Standing, boards
from harness.standings.derivation import read_boards, stacked
from harness.standings.row import Row
from harness.standings.significance import significance
from harness.statistics import holm, mcnemar, rank_groups, separated
from harness.store.store import Store
from harness.threat import ThreatModel

THREAT = ThreatModel("linf", Fraction(8, 255))
PGD = AttackSpec("pgd", "logits", "ce")


def record_of(name: str) -> CheckpointRecord:
    digest = name.encode().hex().ljust(64, "0")
    return CheckpointRecord(
        name, digest, "trained", "digits", THREAT, "w", "e" * 64, Capabilities(10)
    )


def row(name: str, robust: np.ndarray, *, is_ranked: bool = True) -> Row:
    rate = Rate(int(robust.sum()), len(robust), 0.0, 1.0)
    standing = Standing(
        checkpoint=record_of(name),
        dataset="digits",
        images="f" * 64,
        threat=THREAT,
        seed=0,
        examples=len(robust),
        clean=rate,
        robust=rate,
        standard=None,
        is_adaptive=True,
        protocols=("adaptive-2",),
        attacks=(),
    )
    return Row(standing, robust, is_ranked)


def drawn(rows: int, examples: list[int], seed: int = 0) -> list[Row]:
    """Rows from 20 to 80 % that hold similar images."""
    draw = np.random.default_rng(seed)
    ease = draw.random(max(examples))
    return [
        row(f"m{number}", ease[: examples[number % len(examples)]] < 0.2 + 0.6 * number / rows)
        for number in range(rows)
    ]


def test_each_pair_has_the_p_of_the_test_and_the_difference_of_its_common_images() -> None:
    rows = drawn(7, [120, 60, 90])
    found = significance(rows)
    assert found.names == tuple(f"m{number}" for number in range(7))
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            count = min(len(one.robust), len(other.robust))
            mine, theirs = one.robust[:count], other.robust[:count]
            here, there = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
            assert found.examples[i, j] == count
            assert found.p_values[i, j] == mcnemar(here, there)
            assert found.differences[i, j] == pytest.approx((mine.sum() - theirs.sum()) / count)


def test_adjusted_values_are_those_of_all_pairs_of_the_board() -> None:
    found = significance(drawn(6, [100]))
    upper = np.triu_indices(6, k=1)
    assert np.array_equal(found.adjusted[upper], holm(found.p_values[upper]))
    assert np.array_equal(found.adjusted, found.adjusted.T)
    assert (found.adjusted.diagonal() == 1).all()
    assert (found.differences.diagonal() == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_what_is_below_the_level_is_what_the_ranks_separate(seed: int) -> None:
    rows = drawn(12, [200, 80], seed)
    found = significance(rows)
    is_above = (found.adjusted < 0.05) & (found.differences > 0)
    assert is_above.any()
    assert np.array_equal(is_above, separated(*stacked(rows)))


def test_rows_without_rank_are_left_out_and_correct_nothing() -> None:
    ranked = drawn(3, [100])
    unranked = row("zz", np.ones(100, dtype=np.bool_), is_ranked=False)
    found = significance([unranked, *ranked])
    assert found.names == ("m0", "m1", "m2")
    assert np.array_equal(found.adjusted, significance(ranked).adjusted)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_board_without_a_pair_has_nothing_to_test(rows: int) -> None:
    found = significance(drawn(max(rows, 1), [10])[:rows])
    assert found.adjusted.shape == found.differences.shape == (rows, rows)
    assert (found.adjusted == 1).all()


def test_five_hundred_rows_take_less_than_three_seconds() -> None:
    rows = drawn(500, [1000])
    start = time.perf_counter()
    assert significance(rows).adjusted.shape == (500, 500)
    assert time.perf_counter() - start < 3


@pytest.fixture
def store(tmp_path: Path):
    """Three rows that a protocol covers, one that none does, on two boards."""
    with Store.open(tmp_path / "x.db") as opened:
        for threat in (THREAT, ThreatModel("l2", Fraction(1, 2))):
            for number, broken in enumerate(("1" * 40, "1" * 20 + "0" * 20, "0" * 40, "0" * 40)):
                record = record_of(f"m{number}")
                opened.add_checkpoint(record)
                _evaluate(opened, record, threat, broken, is_planned=number < 3)
        yield opened


def _evaluate(store, record, threat, broken, *, is_planned):
    owner = (record.digest, "digits", "f" * 64, threat)
    for spec, text in ((CLEAN, "0" * len(broken)), (PGD, broken)):
        population = EVERY if spec == CLEAN else CORRECT
        job = Job(*owner, spec, population, 0, "float32", 0, len(text))
        bits = tuple(character == "1" for character in text)
        store.record(Outcome(job, (True,) * len(text), bits))
    if is_planned:
        store.record_plan(Plan(*owner, 0, "float32", "adaptive-2", ((PGD.hash, CORRECT),)))


def test_read_boards_are_the_boards_with_the_bits_of_each_row(store: Store) -> None:
    found = read_boards(store)
    assert tuple(one.board for one in found) == boards(store)
    assert len(found) == 2
    for one in found:
        assert tuple(row.standing for row in one.rows) == one.board.standings
        assert [row.is_ranked for row in one.rows] == [True, True, True, False]
        assert all(int(row.robust.sum()) == row.standing.robust.count for row in one.rows)


def test_the_matrix_of_a_board_explains_its_ranks(store: Store) -> None:
    (first, _) = read_boards(store)
    found = significance(first.rows)
    is_above = (found.adjusted < 0.05) & (found.differences > 0)
    ranks = [standing.rank for standing in first.board.standings if standing.rank]
    assert rank_groups(is_above) == ranks == [(1, 1), (2, 2), (3, 3)]
    assert found.names == ("m2", "m1", "m0")


def test_the_bits_of_a_store_are_read_once_for_boards_and_pairs(store: Store) -> None:
    with patch.object(Store, "slices", autospec=True, side_effect=Store.slices) as read:
        for one in read_boards(store):
            significance(one.rows)
    assert read.call_count == 1
