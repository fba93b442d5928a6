"""Every diagnostic of the second half catches a model that pretends, and no honest one."""

from __future__ import annotations

import pytest
import torch

from harness.diagnostics.diagnostic import AMBER, DIAGNOSTICS, GREEN, NOT_RUN, RED
from harness.errors import HarnessError
from harness.museum.exhibit import EXHIBITS, Exhibit
from harness.museum.hall import Hall
from harness.museum.tour import Sight, route, tour

IDS = [f"D{number}" for number in range(14, 27)] + [f"I{number}" for number in range(1, 7)]
MODULES = ("blocked", "claimed", "gated", "pockets", "rescaled", "restless")
MINE = [n for n in EXHIBITS if EXHIBITS[n].build.__module__.rpartition(".")[2] in MODULES]


@pytest.fixture(scope="module")
def hall():
    """The hall of `harness museum`, models and all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Hall()
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", MINE)
def test_an_exhibit_is_caught_by_every_diagnostic_that_it_names(hall, name):
    missed = [sight for sight in tour(hall, [name]) if not sight.is_as_expected]

    assert missed == []


@pytest.mark.parametrize("identity", IDS)
def test_a_diagnostic_has_an_exhibit_that_it_must_catch(identity):
    states = {EXHIBITS[name].catches.get(identity, GREEN) for name in MINE}

    assert states & {AMBER, RED}


@pytest.mark.parametrize("identity", IDS)
@pytest.mark.parametrize("model", ["linear", "honest"])
def test_an_honest_model_is_not_accused(hall, model, identity):
    reading = DIAGNOSTICS[identity].read(hall.examine(getattr(hall, model)))

    assert reading.state in {GREEN, NOT_RUN}
    assert (reading.state == NOT_RUN) == (identity in {"D20", "D21", "D25", "D26", "I5"})


@pytest.mark.parametrize("model", ["linear", "honest"])
def test_the_honest_models_keep_most_of_their_images(hall, model):
    """So that an exhibit around one of them is not caught for being a bad model."""
    examination = hall.examine(getattr(hall, model))
    broken = examination.broken(examination.spec("apgd_dlr", steps=100))

    assert examination.accuracy > 0.9
    assert float((examination.right & ~broken).float().mean()) > 0.7


def test_the_gated_exhibit_is_as_fragile_as_the_model_that_it_hides(hall):
    """What the adaptive suite breaks on it is what anything breaks on the honest model."""
    gated = EXHIBITS["hard_class_gate"].build(hall)
    plain = hall.examine(hall.honest)
    broken = plain.broken(plain.spec("apgd_ce", steps=100), plain.spec("apgd_dlr", steps=100))
    unbroken = float((plain.right & ~broken).float().mean())

    assert gated.row.standard > unbroken + 0.05
    assert abs(gated.row.robust - unbroken) < 0.03


@pytest.mark.parametrize(
    ("expected", "found", "is_as_expected"),
    [
        (AMBER, AMBER, True),
        (AMBER, RED, True),
        (AMBER, GREEN, False),
        (AMBER, NOT_RUN, False),
        (RED, AMBER, False),
        (RED, RED, True),
        (GREEN, GREEN, True),
        (GREEN, NOT_RUN, False),
        (GREEN, AMBER, False),
    ],
)
def test_amber_means_at_least_amber_and_the_others_exactly(expected, found, is_as_expected):
    sight = Sight("model", "", "D15", "", expected, found, None, "")

    assert sight.is_as_expected == is_as_expected


@pytest.fixture
def small_museum(monkeypatch):
    """Two exhibits that no one builds."""

    def build(hall):
        raise AssertionError("built")

    catches = {"first": {"D14": RED, "D15": AMBER}, "second": {"D15": AMBER, "I1": RED}}
    exhibits = {name: Exhibit(name, "", found, build) for name, found in catches.items()}
    monkeypatch.setattr("harness.museum.tour.EXHIBITS", exhibits)


@pytest.mark.usefixtures("small_museum")
@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ([], [("first", ["D14", "D15"]), ("second", ["D15", "I1"])]),
        (["second"], [("second", ["D15", "I1"])]),
        (["d15"], [("first", ["D15"]), ("second", ["D15"])]),
        (["FIRST", "I1"], [("first", ["D14", "D15"]), ("second", ["I1"])]),
    ],
)
def test_a_tour_leads_past_what_was_asked_for(only, expected):
    assert route(only) == expected


@pytest.mark.usefixtures("small_museum")
def test_a_tour_to_nowhere_names_the_nearest_exhibit():
    with pytest.raises(HarnessError, match=r"'secnd'\. Did you mean 'second'"):
        route(["secnd"])
