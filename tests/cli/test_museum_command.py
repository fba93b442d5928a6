"""`harness museum`: the table, the document, and the exit code when something is missed."""

from __future__ import annotations

import pytest

from harness.diagnostics.examination import RowFacts
from harness.museum.exhibit import Exhibit


@pytest.fixture
def museum(monkeypatch):
    """`museum(D20=...)`: a museum of one exhibit whose record has a gap of 10 points."""

    def build(hall):
        examination = hall.examine(_untrained())
        examination.row = RowFacts(robust=0.5, standard=0.6, is_adaptive=True, claimed=0.5)
        return examination

    def open_with(**catches):
        exhibits = {"pretender": Exhibit("pretender", "It pretends.", catches, build)}
        monkeypatch.setattr("harness.museum.tour.EXHIBITS", exhibits)

    return open_with


def _untrained():
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_an_exhibit_that_is_caught_is_shown_with_its_states(harness, museum):
    museum(D20="red", D26="green")
    called = harness("museum")

    assert called.code == 0
    row = next(line for line in called.out.splitlines() if "D20" in line)
    assert " ".join(row.split()) == "pretender It pretends. D20 Adaptive gap red red yes"
    assert "2 of 2 as expected." in called.out
    assert "pretender" in called.err


def test_a_missed_exhibit_ends_with_one_and_says_what_was_seen(harness, museum):
    museum(D20="red", D26="red")
    called = harness("museum", "-q")

    assert called.code == 1
    assert "MISSED" in called.out
    assert "the paper claims 50.0, we measured 50.0" in called.out
    assert "1 of 2 as expected." in called.out
    assert called.err == ""


def test_json_is_one_document_with_a_row_per_diagnostic(harness, museum):
    museum(D20="amber", D26="red")
    called = harness("museum", "--json")

    assert called.code == 1
    found = {row["diagnostic"]: row for row in called.json()}
    assert (found["D20"]["found"], found["D20"]["value"], found["D20"]["ok"]) == ("red", 10, True)
    assert (found["D26"]["found"], found["D26"]["ok"]) == ("green", False)
    assert found["D26"]["wrong"] == "It pretends."


def test_only_shows_what_was_asked_for(harness, museum):
    museum(D20="red", D26="red")
    called = harness("museum", "--only", "d20", "--json")

    assert called.code == 0
    assert [row["diagnostic"] for row in called.json()] == ["D20"]


def test_a_name_that_nothing_has_is_an_error(harness, museum):
    museum(D20="red")
    called = harness("museum", "--only", "pretendr")

    assert (called.code, called.out) == (2, "")
    assert "Did you mean 'pretender'?" in called.err


def test_a_real_exhibit_is_caught(harness):
    called = harness("museum", "--only", "untested_record", "--json")

    assert called.code == 0
    assert [(row["diagnostic"], row["found"]) for row in called.json()] == [
        ("D25", "red"),
        ("D26", "red"),
    ]
