"""What options stand for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import options
from harness.errors import HarnessError
from harness.store.store import Store
from harness.threat import ThreatModel

DEFAULT = ThreatModel("linf", Fraction(8, 255))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (119.4, "119 s"),
        (120, "2.0 min"),
        (7199, "120.0 min"),
        (7200, "2.0 h"),
        (3 * 86400, "3.0 days"),
    ],
)
def test_a_duration_has_the_unit_that_people_would_use(seconds, said):
    assert options.duration(seconds) == said


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("key=1", 1),
        ("key=-1", -1),
        ("key=1.5", 1.5),
        ("key=1e-3", 0.001),
        ("key=true", True),
        ("key=False", False),
        ("key=word", "word"),
        ("key=75,90", "75,90"),
        ("key=a=b", "a=b"),
        (" key = 1 ", 1),
    ],
)
def test_a_setting_has_the_type_that_it_looks_like(text, value):
    (found,) = options.parse_settings([text]).items()

    assert found == ("key", value)
    assert type(found[1]) is type(value)


@given(st.lists(st.text(max_size=30) | st.from_regex(r"\w{0,3}=\w{0,30}"), max_size=4))
def test_any_text_is_a_setting_or_a_sentence(texts):
    try:
        found = options.parse_settings(texts)
    except HarnessError:
        return
    assert len(found) == len(texts)
    assert all(key for key in found)


@pytest.mark.parametrize(
    ("norm", "epsilon", "chosen"),
    [
        (None, None, DEFAULT),
        ("linf", None, DEFAULT),
        (None, "4/255", ThreatModel("linf", Fraction(4, 255))),
        ("l2", "0.5", ThreatModel("l2", Fraction(1, 2))),
    ],
)
def test_what_is_not_said_of_a_threat_model_is_the_datasets(norm, epsilon, chosen):
    assert options.chosen_threat(norm, epsilon, DEFAULT) == chosen


def test_a_device_that_is_not_there_is_refused_and_auto_takes_what_is(monkeypatch):
    for there, auto in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)

        assert options.chosen_device("auto") == auto
        assert options.chosen_device("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(HarnessError, match="--device cpu"):
        options.chosen_device("cuda")


def test_weights_lie_beside_the_database_wherever_the_command_is_run(home, monkeypatch):
    (home / "deep").mkdir()
    with Store.open(home / "deep" / "results.db") as store:
        assert options.checkpoint_folder(store) == home.resolve() / "deep" / "checkpoints"
        monkeypatch.setenv("HARNESS_CHECKPOINTS", "~/weights")

        assert options.checkpoint_folder(store) == Path.home() / "weights"


def test_versions_name_what_a_number_depends_on():
    assert {"harness", "python", "torch", "numpy"} <= options.versions().keys()
    assert options.device_name("cpu").startswith("cpu")


@pytest.mark.parametrize(
    "name", ["standard", "trades", "trades+he", "las_trades", "a/b", "", "x" * 121]
)
def test_a_new_name_is_no_defense_and_fits_a_file(name):
    with pytest.raises(HarnessError):
        options.check_new_name(name)


def test_what_a_model_prints_goes_to_stderr(capsys):
    with options.models_print_to_stderr():
        print("from a model")
    print("a result")

    assert capsys.readouterr() == ("a result\n", "from a model\n")
