"""Weight schedules against the table of `frpat.md` section 3."""

import pytest

from harness.errors import HarnessError
from harness.regularisers.weight_schedules import (
    check_schedule,
    constant,
    factor,
    literal_ramp,
    sigmoid_ramp,
)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0.0),
        (1, 0.049958),
        (5, 0.244919),
        (10, 0.462117),
        (25, 0.848284),
        (50, 0.986614),
        (75, 0.998894),
        (100, 0.999909),
    ],
)
def test_the_ramp_is_that_of_the_table(epoch, expected):
    assert sigmoid_ramp(epoch) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 1.462117), (50, 1.995055), (100, 1.999967)])
def test_the_literal_formula_is_that_of_the_table(epoch, expected):
    assert literal_ramp(epoch) == pytest.approx(expected, abs=1e-6)


def test_without_a_schedule_the_weight_stays():
    assert [constant(epoch) for epoch in (0, 1, 100)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("epoch", "epochs", "expected"), [(10, 100, 0.462117), (10, 110, 0.462117), (2, 20, 0.462117)]
)
def test_a_short_run_counts_hundredths_and_a_long_one_keeps_its_epochs(
    epoch, epochs, expected, answered
):
    batch = answered([0], epoch=epoch, epochs=epochs)
    assert factor("ramp", batch) == pytest.approx(expected, abs=1e-6)
    assert factor("none", batch) == 1.0
    assert factor("literal", batch) == pytest.approx(literal_ramp(10))


def test_an_unknown_schedule_is_refused_with_the_nearest_name():
    with pytest.raises(HarnessError, match="Did you mean 'literal'"):
        check_schedule("litteral")
