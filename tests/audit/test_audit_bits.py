"""The second computation: held against the first on random rows, and against known values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.audit.bits import Attack, Found, interval, ones
from harness.identity import CLEAN
from harness.statistics import wilson
from harness.store.bits import pack
from harness.store.rows import Slice

BITS = st.lists(st.booleans(), min_size=1, max_size=40)


def _slice(attack: str, attacked: str, broken: str, *, first: int = 0, seed: int = 0) -> Slice:
    hits, wrong = ([letter == "1" for letter in text] for text in (attacked, broken))
    return Slice(
        *("c" * 64, "digits", "f" * 64, "linf", "1/5", attack, "correct", seed, "float32"),
        *(first, first + len(hits), pack(hits), pack(wrong), 0, 0, 0, 0.0),
    )


def _found(*slices: Slice) -> Found:
    found = Found()
    for one in slices:
        found.add(one)
    return found


@given(BITS)
def test_bits_are_read_as_the_store_packs_them(bits):
    assert ones(pack(bits), len(bits)) == [i for i, bit in enumerate(bits) if bit]


@pytest.mark.parametrize(("packed", "count"), [(b"\x01", 7), (b"\x00\x00", 8), (b"", 1)])
def test_bytes_of_another_number_of_images_are_refused(packed, count):
    with pytest.raises(ValueError, match=f"{count} images"):
        ones(packed, count)


@given(st.integers(1, 10_000), st.data())
def test_the_roots_of_the_quadratic_are_wilson_s_interval(total, data):
    count = data.draw(st.integers(0, total))
    assert interval(count, total) == pytest.approx(wilson(count, total), abs=1e-9)


def test_an_interval_is_where_the_score_test_stops_rejecting():
    for end in interval(37, 120):
        score = (37 / 120 - end) / math.sqrt(end * (1 - end) / 120)
        assert abs(score) == pytest.approx(1.959963984540054)


def test_a_row_in_numbers_that_a_person_can_count():
    found = _found(
        _slice(CLEAN.hash, "11111111", "00000011"),
        _slice("a", "11111100", "11000000"),
        _slice("b", "11111100", "01100000"),
        _slice("b", "11111100", "00010000", seed=1),
    )
    first, second = (found.part(Attack(name, "correct"), 8) for name in "ab")

    assert found.right(8).tolist() == [True] * 6 + [False] * 2
    assert (first.attacked, first.broken, first.alone, first.sole) == (6, 2, 4, 1)
    assert (second.attacked, second.broken, second.alone, second.sole) == (6, 3, 3, 2)
    assert int((first.left & second.left).sum()) == 2


def test_an_attack_that_left_right_images_out_has_no_accuracy_of_its_own():
    found = _found(_slice(CLEAN.hash, "1111", "0000"), _slice("a", "1100", "1000"))
    assert found.part(Attack("a", "correct"), 4).alone is None
    assert found.part(Attack("a", "correct"), 2).alone == 1


def test_a_gap_ends_what_an_attack_covers():
    found = _found(_slice("a", "11", "00"), _slice("a", "11", "00", first=3))
    assert found.prefix(("a", "correct", 0, "float32")) == 2
    assert found.clean_prefix() == 0
