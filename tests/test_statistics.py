from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from harness.statistics import (
    contributions,
    finite_population_factor,
    holm,
    mcnemar,
    mcnemar_pairs,
    paired_bootstrap,
    rank_groups,
    separated,
    wilson,
)


@pytest.mark.parametrize(
    ("count", "total", "low", "high", "digits"),
    [
        (592, 1000, 0.5612, 0.6221, 4),
        (0, 1000, 0.0, 0.003827, 6),
        (1000, 1000, 0.996173, 1.0, 6),
        (500, 1000, 0.46907, 0.53093, 5),
        (50, 100, 0.4038, 0.5962, 4),
        (5199, 10000, 0.5101, 0.5297, 4),
    ],
)
def test_the_interval_has_the_published_values(
    count: int, total: int, low: float, high: float, digits: int
) -> None:
    assert tuple(round(bound, digits) for bound in wilson(count, total)) == (low, high)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_equals_the_one_of_scipy(case: tuple[int, int]) -> None:
    expected = binomtest(*case).proportion_ci(method="wilson")
    assert wilson(*case) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_a_count_that_is_no_fraction_has_no_interval(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="no fraction"):
        wilson(count, total)


def test_half_width_shrinks_with_the_part_of_the_test_set_that_was_used() -> None:
    assert round(finite_population_factor(1000, 10_000), 3) == 0.949
    assert finite_population_factor(10_000, 10_000) == 0
    with pytest.raises(ValueError, match="no sample"):
        finite_population_factor(11, 10)


def test_the_paired_test_has_the_published_value() -> None:
    assert mcnemar(12, 3) == pytest.approx(0.03515625, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [*itertools.product((0, 1, 5, 40), repeat=2)])
def test_the_paired_test_equals_the_exact_binomial_test(first: int, second: int) -> None:
    expected = 1.0 if first + second == 0 else binomtest(first, first + second).pvalue
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_many_pairs_at_once_are_the_pairs_one_by_one() -> None:
    first, second = np.array([[0, 12], [7, 500]]), np.array([[0, 3], [7, 400]])
    together = mcnemar_pairs(first, second)
    for place in np.ndindex(2, 2):
        assert together[place] == mcnemar(int(first[place]), int(second[place]))


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_adjusted_p_values_equal_those_of_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values).tolist() == pytest.approx(list(expected))


def test_the_bootstrap_covers_the_difference_and_repeats_with_its_seed() -> None:
    images = np.random.default_rng(0)
    second = images.random(1000) < 0.5
    first = second | (images.random(1000) < 0.1)
    difference = first.mean() - second.mean()
    low, high = paired_bootstrap(first, second, seed=1)
    spread = math.sqrt(difference * (1 - difference) / 1000)
    assert (low, high) == pytest.approx(
        (difference - 1.96 * spread, difference + 1.96 * spread), abs=2e-3
    )
    assert paired_bootstrap(first, second, seed=1) == (low, high)
    assert paired_bootstrap(first, second, seed=2) != (low, high)
    assert paired_bootstrap(first, first, seed=1) == (0, 0)


def test_the_bootstrap_has_the_law_of_drawing_images() -> None:
    images = np.random.default_rng(3)
    first, second = images.random((2, 200)) < 0.5
    drawn = images.integers(0, 200, size=(4000, 200))
    slow = np.quantile(first[drawn].mean(axis=1) - second[drawn].mean(axis=1), [0.025, 0.975])
    assert paired_bootstrap(first, second, seed=0) == pytest.approx(slow, abs=0.011)


def test_contributions_are_the_union_in_order_and_the_sole_breaks() -> None:
    right = np.array([1, 1, 1, 1, 0], dtype=bool)
    broken = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)
    after, alone = contributions(right, broken)
    assert after.astype(int).tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]]
    assert alone.tolist() == [1, 1, 0]


@given(st.data())
def test_one_more_attack_never_raises_the_union_nor_another_ones_sole_breaks(
    data: st.DataObject,
) -> None:
    bits = st.lists(st.booleans(), min_size=6, max_size=6)
    right = np.array(data.draw(bits))
    broken = np.array(data.draw(st.lists(bits, min_size=2, max_size=5)))
    fewer, fewer_alone = contributions(right, broken[:-1])
    more, more_alone = contributions(right, broken)
    assert (more[:-1] == fewer).all()
    assert not (more[-1] & ~fewer[-1]).any()
    assert (more_alone[:-1] <= fewer_alone).all()
    assert not (more[-1] & ~right).any()


def test_rows_are_separated_where_the_adjusted_test_says_so() -> None:
    robust = np.zeros((3, 100), dtype=bool)
    robust[0, :60] = True
    robust[1, 3:60] = True  # loses 3 images to the first: p = 0.25
    robust[2, 30:60] = True  # loses 30
    is_above = separated(robust, np.array([100, 100, 100]))
    assert is_above.astype(int).tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_rows_are_compared_on_their_common_images_only() -> None:
    robust = np.zeros((2, 100), dtype=bool)
    robust[0, 10:] = True  # worse on the first ten, better on images the second never saw
    robust[1, :10] = True
    assert separated(robust, np.array([100, 10])).astype(int).tolist() == [[0, 0], [1, 0]]


def test_a_board_of_many_equal_rows_separates_none() -> None:
    robust = np.random.default_rng(0).random((40, 200)) < 0.5
    assert not separated(robust, np.full(40, 200)).any()


def test_rank_groups_reach_from_the_first_tie_above_to_the_last_below() -> None:
    above = np.zeros((4, 4), dtype=bool)
    above[0, 2] = above[0, 3] = above[1, 3] = True
    assert rank_groups(above) == [(1, 2), (1, 3), (2, 4), (3, 4)]
    assert rank_groups(np.triu(np.ones((3, 3), dtype=bool), 1)) == [(1, 1), (2, 2), (3, 3)]
    assert rank_groups(np.zeros((0, 0), dtype=bool)) == []
