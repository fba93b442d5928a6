"""Learning rates: one cycle against PyTorch's own, drops as the papers count epochs."""

import itertools

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.steps.schedules import cyclic, one_cycle, parse_drops, parse_factors, step_drops


def of_pytorch(peak, steps):
    """The rates that OneCycleLR gives to `steps` steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=peak, total_steps=steps, cycle_momentum=False
    )
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step() if len(rates) < steps else None
    return rates


@pytest.mark.parametrize("steps", [50, 220, 1000])
@pytest.mark.parametrize("peak", [0.1, 0.21])
def test_one_cycle_is_pytorchs_once_its_phases_end_a_step_later(peak, steps):
    """PyTorch ends its phases at steps 0.3 T - 1 and T - 1, ours end at 0.3 T and T."""
    top, end = 0.3 * steps - 1, steps - 1
    for step, expected in enumerate(of_pytorch(peak, steps)):
        fraction = 0.3 * step / top if step <= top else 0.3 + 0.7 * (step - top) / (end - top)
        assert one_cycle(peak, fraction) == pytest.approx(expected, abs=1e-6 * peak)


def test_one_cycle_differs_from_pytorchs_by_less_than_one_step():
    steps, peak = 220, 0.1
    theirs = of_pytorch(peak, steps)
    ours = [one_cycle(peak, step / steps) for step in range(steps)]
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.0025
    steepest = max(abs(a - b) for a, b in itertools.pairwise(theirs))
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1.05 * steepest


def test_one_cycle_starts_at_a_25th_peaks_at_30_percent_and_ends_near_zero():
    assert one_cycle(0.1, 0.0) == pytest.approx(0.004)
    assert one_cycle(0.1, 0.3) == pytest.approx(0.1)
    assert one_cycle(0.1, 1.0) == pytest.approx(4e-7)
    rates = [one_cycle(0.1, step / 1000) for step in range(1001)]
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (1, 0.01),
        (74, 0.01),
        (75, 1e-3),
        (89, 1e-3),
        (90, 1e-4),
        (99, 1e-4),
        (100, 1e-5),
        (120, 1e-5),
    ],
)
def test_drops_lower_the_rate_from_their_own_epoch_on(epoch, rate):
    assert step_drops(0.01, epoch, (75, 90, 100)) == pytest.approx(rate, rel=1e-12)


def test_without_drops_the_rate_stays():
    assert {step_drops(0.1, epoch, ()) for epoch in range(1, 50)} == {0.1}


@given(st.lists(st.integers(1, 10**6 - 1), unique=True, max_size=5).map(sorted))
def test_drops_are_read_as_they_are_written(drops):
    assert parse_drops(",".join(map(str, drops))) == tuple(drops)
    assert parse_drops(" , ".join(map(str, drops))) == tuple(drops)


@pytest.mark.parametrize(
    "text",
    [
        "75,",
        ",75",
        "75,,90",
        "75;90",
        "-1",
        "0",
        "0,1",
        "90,75",
        "75,75",
        "7.5",
        "1e2",
        "²",
        "٣",
        "seventy",
        "9" * 5000,
        "[75]",
        "75 90",
    ],
)
def test_drops_that_are_no_increasing_epochs_are_refused_in_a_sentence(text):
    with pytest.raises(HarnessError, match=r"^drops (are|must)") as caught:
        parse_drops(text)
    assert len(str(caught.value)) < 150


@given(st.text(max_size=12))
@example("0\x1f")
def test_any_text_is_drops_or_an_error_for_the_person(text):
    try:
        drops = parse_drops(text)
    except HarnessError:
        return
    assert list(drops) == sorted(set(drops))
    assert all(drop >= 1 for drop in drops)


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_text_means_no_drop(text):
    assert parse_drops(text) == ()


@pytest.mark.parametrize(
    ("progress", "rate"), [(0, 0), (0.25, 0.02), (0.5, 0.04), (0.75, 0.02), (1, 0), (0.1, 0.008)]
)
def test_cyclic_rises_and_falls_linearly_as_in_the_check_case(progress, rate):
    assert cyclic(0.04, progress) == pytest.approx(rate, abs=1e-15)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(1, 0.1), (59, 0.1), (60, 0.01), (90, 1e-3), (109, 1e-3), (110, 5e-4)]
)
def test_factors_are_shares_of_the_first_rate(epoch, rate):
    found = step_drops(0.1, epoch, (60, 90, 110), (0.1, 0.01, 0.005))
    assert found == pytest.approx(rate, rel=1e-12)


def test_factors_are_read_as_they_are_written():
    assert parse_factors("0.1, 0.01 ,0.005") == (0.1, 0.01, 0.005)
    assert parse_factors("1") == (1.0,)
    assert parse_factors(" ") == ()


@pytest.mark.parametrize("text", ["0", "-0.1", "1.1", "nan", "inf", "0.1,", "a tenth", "0.1;0.2"])
def test_factors_outside_their_range_are_refused_in_a_sentence(text):
    with pytest.raises(HarnessError, match=r"^factors are numbers such as"):
        parse_factors(text)
