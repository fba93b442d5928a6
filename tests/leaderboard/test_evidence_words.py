"""Evidence in words: what chance may explain, whom attacks saw, and signs before numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_reader import read
from synthetic_boards import attack, board, finding, rate, standing

from harness.standings.levels import MANY
from leaderboard.evidence import DiagnosticRow, Evidence
from leaderboard.material import Material
from leaderboard.pages import PAGES
from leaderboard.site import _render


def row(diagnostic: str, state: str, value: float | None, note: str = "") -> DiagnosticRow:
    found = finding(diagnostic, state, value=value, note=note, examples=100)
    return DiagnosticRow.of(found, is_adaptive=True)


@pytest.mark.parametrize(
    ("diagnostic", "state", "value"),
    [("D13", "green", 6.06), ("D13", "green", 1.01), ("D13", "amber", 3.03), ("I3", "green", 1.0)],
)
def test_a_value_beyond_a_threshold_in_a_milder_state_is_said_not_to_be_beyond_chance(
    diagnostic, state, value
):
    assert row(diagnostic, state, value).chance == "not beyond chance on 100 images"


@pytest.mark.parametrize(
    ("diagnostic", "state", "value"),
    [
        ("D13", "green", 1.0),
        ("D13", "amber", 3.0),
        ("D13", "red", 10.2),
        ("D13", "not_run", None),
        ("D13", "green", None),
        ("D13", "green", float("nan")),
        ("D25", "green", 50.0),
        ("X99", "green", 50.0),
    ],
)
def test_nothing_is_said_of_chance_where_the_state_follows_from_the_value(diagnostic, state, value):
    assert row(diagnostic, state, value).chance == ""


@pytest.mark.parametrize(
    ("examples", "is_said"), [(100, True), (MANY, True), (2 * MANY, False), (10_000, False)]
)
def test_the_test_against_chance_is_told_where_correct_images_are_few(examples, is_said):
    found = (finding("D13", examples=examples),)
    said = Evidence.of(standing(findings=found, clean=rate(150, 200))).caution
    assert ("can be green" in said) is is_said
    assert (f"fewer than {MANY} images" in said) is is_said


def test_where_no_diagnostic_in_points_was_run_no_test_is_told():
    others = (finding("D09", examples=100), finding("D13", "not_run", examples=100))
    assert Evidence.of(standing(findings=others)).caution == ""


def unions(*attacks):
    found = Evidence.of(standing(attacks=attacks, unions={"query": rate(198, 200)})).unions
    return [(one.percent, one.interval, one.said) for one in found]


def test_a_kind_that_attacked_survivors_alone_has_no_percentage():
    first = attack("square@logits:margin", "survivors:standard-1", None, 190, 200)
    second = replace(first, knowledge="decision", attacked=80, broken=3)
    said = "only survivors of an earlier stage were attacked: at most 3 of 80 broken by one attack"
    assert unions(replace(first, attacked=90, broken=2), second) == [("–", "", said)]
    nothing = "only survivors of an earlier stage were attacked: none was broken"
    assert unions(replace(first, broken=0)) == [("–", "", nothing)]
    some = replace(second, population="correct")
    assert unions(some)[0][2].startswith("not every correct image was attacked: at most 3 of 80")


def test_one_attack_on_every_correct_image_gives_the_kind_its_percentage():
    whole = attack("square@logits:margin", "correct", 190, 190, 200)
    later = replace(whole, knowledge="none", robust=None, population="survivors:standard-1")
    elsewhere = replace(later, knowledge="transfer")
    assert unions(whole, later, elsewhere)[0][0] == "99.0"
    assert unions(elsewhere)[0][0] == "99.0"  # no attack of its kind to say more of


def test_fewer_points_are_not_called_more_and_a_minus_is_one():
    note = "with logits times 10 cross-entropy breaks -1.0 points more; -2.0 against PGD-100."
    shown = row("D15", "green", -13.131313, note)
    assert shown.value == "−13.13"
    assert "breaks 1.0 points fewer; −2.0 against PGD-100." in shown.note


def test_the_page_says_both_beside_the_state_and_above_the_table():
    found = finding("D13", value=6.06, examples=100)
    drafts = PAGES["checkpoint"](Material(boards=[board(standing(findings=(found,)))]))
    page = next(text for path, text in _render(drafts).items() if path.endswith(".html"))
    text = " ".join(read(page).text.split())
    assert "green not beyond chance on 100 images 6.06" in text
    assert "rejects chance at 1 % too. So a value above its threshold can be green." in text
