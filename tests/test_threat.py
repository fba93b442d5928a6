"""Epsilon stays exact, and whatever is printed can be read again."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.threat import NORMS, ThreatModel, format_fraction, parse_fraction

numbers = st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,9})?(/[0-9]{1,9})?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "value", "printed"),
    [
        ("8/255", Fraction(8, 255), "8/255"),
        ("16/510", Fraction(8, 255), "8/255"),
        ("0.031", Fraction(31, 1000), "0.031"),
        (" 1/5 ", Fraction(1, 5), "1/5"),
        ("0.2", Fraction(1, 5), "1/5"),
        ("0", Fraction(0), "0"),
        ("1", Fraction(1), "1"),
        ("1.0", Fraction(1), "1"),
        ("0.5/255", Fraction(1, 510), "1/510"),
        ("007/255", Fraction(7, 255), "7/255"),
        ("0.03125", Fraction(1, 32), "1/32"),
    ],
)
def test_an_epsilon_is_read_exactly_and_printed_in_one_way(text, value, printed):
    assert parse_fraction(text) == value
    assert format_fraction(value) == printed


@given(numbers)
def test_what_was_read_and_printed_is_read_as_the_same(text):
    try:
        value = parse_fraction(text)
    except HarnessError:
        return
    assert parse_fraction(format_fraction(value)) == value
    assert Fraction(format_fraction(value)) == value


@given(st.fractions(min_value=0, max_value=10**6, max_denominator=10**9))
def test_reading_undoes_printing(value):
    assert parse_fraction(format_fraction(value)) == value


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_two_values_never_print_alike(one, other):
    assert (format_fraction(one) == format_fraction(other)) == (one == other)


@given(st.text() | st.from_regex(r"[-+0-9./e]{0,45}", fullmatch=True))
def test_garbage_is_refused_in_a_sentence(text):
    try:
        value = parse_fraction(text)
    except HarnessError:
        return
    assert value >= 0
    assert re.fullmatch(r"\s*[0-9.]+(/[0-9]+)?\s*", text)


@pytest.mark.parametrize("text", ["", "8/", "/255", "1e-3", "-1", "inf", "nan", "1/0", "0x1", "٨"])
def test_what_is_no_epsilon_is_refused(text):
    with pytest.raises(HarnessError):
        parse_fraction(text)


@pytest.mark.parametrize("text", ["9" * 31, "0." + "1" * 29, "0.1234567890123/9999999999991"])
def test_an_epsilon_that_could_not_be_printed_shortly_is_refused(text):
    with pytest.raises(HarnessError):
        parse_fraction(text)


def test_a_threat_model_prints_its_norm_and_its_exact_epsilon():
    assert str(ThreatModel.parse("linf", "8/255")) == "linf 8/255"
    assert ThreatModel.parse("l2", "0.5") == ThreatModel("l2", Fraction(1, 2))


@pytest.mark.parametrize(
    ("norm", "epsilon", "said"),
    [
        ("l1", Fraction(1), "no norm named 'l1'"),
        ("Linf", Fraction(0), "Did you mean 'linf'?"),
        ("linf", Fraction(-1, 255), "must not be negative but is -1/255"),
        ("linf", Fraction(8), "write 8/255, not 8"),
    ],
)
def test_a_threat_model_that_cannot_be_is_refused(norm, epsilon, said):
    with pytest.raises(HarnessError, match=re.escape(said)):
        ThreatModel(norm, epsilon)


@pytest.mark.parametrize("norm", NORMS)
def test_the_edges_of_a_threat_model_are_allowed(norm):
    assert ThreatModel(norm, Fraction(0)).epsilon == 0
    assert ThreatModel(norm, Fraction(1)).epsilon == 1


def test_an_l2_ball_may_be_wider_than_the_box():
    assert ThreatModel("l2", Fraction(128, 255) * 4).epsilon > 1
