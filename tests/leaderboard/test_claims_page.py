"""The page of published figures: all of them, as printed, and what follows from them alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from page_reader import Read, read

from harness.claims import claims
from harness.identity import Claim
from harness.standings.studies import impossible
from leaderboard.material import Material
from leaderboard.minus import minus
from leaderboard.pages import PAGES
from leaderboard.printed import variant
from leaderboard.site import _render
from leaderboard.worked import Example, examples


def html(found: tuple[Claim, ...] = claims()) -> bytes:
    return _render(PAGES["claims"](Material(claims=found)))["claims.html"]


def page(found: tuple[Claim, ...] = claims()) -> Read:
    return read(html(found))


def figures(shown: Read) -> list[list[str]]:
    return [row for row in shown.rows if len(row) == 13][1:]


def worked(title: str) -> Example:
    return next(one for one in examples(claims()) if one.title.startswith(title))


@pytest.fixture(scope="module")
def whole() -> Read:
    return page()


def test_every_figure_has_a_row_with_its_own_digits(whole: Read):
    rows = figures(whole)
    assert len(rows) == len(claims())
    assert [row[1].split()[0] for row in rows] == [one.printed for one in claims()]
    assert [row[0] for row in rows] == [one.defense for one in claims()]


def test_the_page_stays_below_600_kilobytes():
    assert len(html()) < 600_000


def test_without_the_script_the_table_is_whole_and_has_no_dead_control(whole: Read):
    assert not {"input", "button", "select", "form"} & set(whole.tags())
    assert not any("hidden" in attributes for _, attributes in whole.elements)


def test_the_script_may_sort_and_filter_it(whole: Read):
    tables = [a for tag, a in whole.elements if tag == "table" and "data-tools" in a]
    assert [a["class"] for a in tables] == ["claims sortable"]
    columns = whole.attributes("data-column", "th")
    assert len(columns) == len(set(columns)) == 13


def test_exactly_the_impossible_figures_are_flagged_with_their_reason(whole: Read):
    flagged = [row for row in figures(whole) if row[11]]
    assert flagged == [row for row in figures(whole) if "flagged" in row[1]]
    wanted = {claim for claim, _ in impossible(claims())}
    assert len(flagged) == len(wanted)
    assert f"{len(wanted)} of them cannot be" in whole.text
    assert all(row[1].endswith(" flagged") and len(row[11]) > 20 for row in flagged)


def test_notes_and_quotations_are_told(whole: Read):
    rows = figures(whole)
    for row, claim in zip(rows, claims(), strict=True):
        assert minus(claim.note) in row[12]
        assert claim.quoted_from in row[12]


def test_every_figure_leads_to_its_table(whole: Read):
    links = [href for href in whole.attributes("href", "a") if href.startswith("studies/")]
    assert len(links) >= len(claims())


def test_the_worked_examples_are_those_of_the_protocol(whole: Read):
    weakest = worked("The weakest number")
    assert [(row[0], row[1], row[4]) for row in weakest.rows] == [
        ("pgd_at", "+5.39", "+1.65"),
        ("alp", "+5.40", "−0.91"),
        ("trades", "+5.54", "−0.08"),
    ]
    assert weakest.rows[0][2:4] == ("51.23 (fab)", "52.88 (feature attack)")
    above = worked("Right more often")
    assert above.rows[0] == ("pgd_at_ancra", "85.10", "87.00", "89.03", "59.15", "54.43", "54.43")
    adaptive = worked("The same attack")
    assert [row[4:] for row in adaptive.rows] == [("+14.76", "+0.74"), ("+15.49", "+1.20")]
    small = worked("A small gain")
    assert [(row[3], row[4]) for row in small.rows] == [("+1.94", "0.98"), ("+1.18", "0.98")]
    assert whole.text.count("percent and points") == 4


def test_what_the_examples_say_in_words_holds_for_their_numbers():
    for row in worked("Right more often").rows:
        clean, *attacked, lowest = map(Fraction, row[1:])
        assert max(attacked) > clean
        assert lowest == min(attacked)
    first = dict(
        zip(worked("Right more often").columns, worked("Right more often").rows[0], strict=True)
    )
    assert Fraction(first["FGSM"]) < Fraction(first["PGD-40"])


def test_an_example_whose_figures_are_missing_or_contradictory_is_left_out():
    rest = [one for one in claims() if (one.source, one.place) != ("he", "2")]
    assert len(list(examples(rest))) == 3
    assert list(examples([])) == []
    doubled = [*claims(), *(replace(one, printed="1.00") for one in claims())]
    assert all(one.source == "he" for one in examples(doubled))


@pytest.mark.parametrize("printed", ["nan", "1e999", "-5", "101", "½", ""])
def test_a_figure_that_is_no_percentage_breaks_nothing(printed):
    changed = tuple(replace(one, printed=printed) for one in claims()[:200])
    assert len(figures(page(changed))) == 200


def test_hostile_claims_are_text():
    evil = "</table><script>alert(1)</script>"
    bad = replace(
        claims()[0], defense=evil, variant=evil, note=evil, source=evil, place=evil, unit=evil
    )
    shown = page((bad,))
    assert shown.tags().count("script") == 1  # that of the boards
    assert evil in shown.text


def test_without_claims_the_page_says_so():
    said = " ".join(page(()).text.split())
    assert "No published figure is stored" in said
    assert "of them cannot be" not in said
    assert "quoted by" not in said
    assert "0 published figures" not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("relative_to=pgd_at", "relative to pgd_at"),
        ("mean_of=pgd+cw_linf", "mean of pgd, cw_linf"),
        ("best_epoch_minus_last_epoch", "best epoch minus last epoch"),
        ("s=15,m=0.1,sweep=m", "s = 15, m = 0.1, sweep m"),
        ("severity=mean_1_to_5,corruptions=15", "severity mean 1 to 5, corruptions 15"),
        ("severity=none", "severity none"),
    ],
)
def test_settings_of_a_figure_read_as_words(text, words):
    assert variant(text) == words


def test_no_setting_stands_on_the_page_as_it_is_stored(whole: Read):
    rows = figures(whole)
    assert [row[8] for row in rows] == [variant(one.variant) for one in claims()]
    assert not any("relative_to" in row[8] or "=" in row[8].replace(" = ", "") for row in rows)


def test_a_negative_figure_has_a_minus_sign():
    changed = replace(claims()[0], printed="-1.25", note="89.50 - 84.57 of pgd-40, step 1e-4")
    row = figures(page((changed,)))[0]
    assert row[1].startswith("−1.25")
    assert "89.50 − 84.57 of pgd-40, step 1e-4" in row[12]
