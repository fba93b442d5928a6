"""Pages of the papers' tables: as printed, ours beside them, compared only where it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_reader import Read, read
from synthetic_boards import CIFAR, board, rate, record, standing

from harness.claims import claims
from harness.identity import Claim
from harness.standings import Board, Rate
from leaderboard.addresses import study_page
from leaderboard.evaluations import AMBER, RED
from leaderboard.material import Material
from leaderboard.pages import PAGES, Draft
from leaderboard.site import _render

TABLE = tuple(one for one in claims() if (one.source, one.place) == ("ancra_iclr", "1"))
PATH = study_page("ancra_iclr", "1")


def measured(clean: Rate, scale: str = "full", architecture: str = "resnet18") -> Board:
    name = f"trades-cifar10-{scale}"
    made = record(name, dataset="cifar10", scale=scale, architecture=architecture, threat=CIFAR)
    row = standing(name, checkpoint=made, dataset="cifar10", threat=CIFAR, clean=clean)
    return board(row, threat=CIFAR, dataset="cifar10")


def drafts(found: tuple[Claim, ...] = TABLE, *boards: Board) -> list[Draft]:
    return list(PAGES["studies"](Material(boards=boards, claims=found)))


def page(found: tuple[Claim, ...] = TABLE, *boards: Board) -> Read:
    return read(_render(drafts(found, *boards))[study_page(found[0].source, found[0].place)])


def cell(shown: Read, name: str, column: int, dataset: str = "cifar10") -> str:
    return next(
        row[column] for row in shown.rows if row[0].startswith(f"{name} ") and dataset in row[0]
    )


def test_every_table_of_the_papers_has_a_page_and_a_line():
    found = _render(drafts(claims()))
    places = {(one.source, one.place) for one in claims()}
    assert {study_page(*place) for place in places} == found.keys() - {"studies.html"}
    assert len(read(found["studies.html"]).attributes("href", "a")) >= len(places)


def test_every_figure_is_printed_with_its_own_digits():
    shown = page()
    cells = [text.split()[0] for row in shown.rows[1:] for text in row[1:] if text]
    assert sorted(cells) == sorted(one.printed for one in TABLE)


def test_nothing_measured_is_said_and_no_cell_has_a_number_of_ours():
    shown = page()
    assert "No number of ours lies beside it yet" in shown.text
    assert not any("ours" in text for row in shown.rows for text in row)


@pytest.mark.parametrize(
    ("right", "words", "kind"),
    [
        (1579, "0.0", None),  # 78.95 of 78.92 printed
        (1600, "1.1 higher", "match "),
        (1565, "0.7 lower", "match "),
        (1550, "1.4 lower", "match amber"),
        (1470, "5.4 lower", "match red"),
    ],
)
def test_a_difference_has_its_word_and_is_marked_where_ours_is_lower(right, words, kind):
    shown = page(TABLE, measured(rate(right, 2000)))
    said = cell(shown, "trades", 1)
    assert said.startswith("78.92 ours ")
    assert said.endswith("the same" if kind is None else words)
    kinds = [text for text in shown.attributes("class", "b") if text.startswith("match")]
    assert kinds[0] == (kind or "match ")


def test_the_marks_are_those_of_the_diagnostic_of_claims():
    assert (AMBER, RED) == (1.0, 5.0)
    assert (
        "by more than 1 point (amber) or 5 points (red)"
        in page(TABLE, measured(rate(1600, 2000))).text
    )


@pytest.mark.parametrize(
    ("scale", "architecture", "why"),
    [
        ("smoke", "resnet18", "not comparable: smoke scale"),
        ("full", "small_resnet", "not comparable: architecture small_resnet"),
        ("reduced", "cnn", "not comparable: architecture cnn, reduced scale"),
    ],
)
def test_where_two_are_about_different_things_no_difference_is_said_but_why(
    scale, architecture, why
):
    said = cell(page(TABLE, measured(rate(1600, 2000), scale, architecture)), "trades", 1)
    assert said.endswith(why)
    assert "higher" not in said
    assert "lower" not in said


def test_ours_links_to_the_checkpoint():
    shown = page(TABLE, measured(rate(1600, 2000)))
    assert "../checkpoints/trades-cifar10-full.html" in shown.attributes("href", "a")


def test_another_dataset_is_never_laid_beside_a_figure():
    shown = page(TABLE, measured(rate(1600, 2000)))
    assert cell(shown, "trades", 1, "cifar100") == "53.46"


def test_figures_that_cannot_be_a_worst_case_are_marked_with_the_reason_below():
    shown = page()
    assert "not a worst case" in cell(shown, "pgd_at_ancra", 2)
    assert "not a worst case" not in cell(shown, "pgd_at", 2)
    assert "More than without any attack: clean accuracy is 85.1." in shown.text


def test_remarks_are_numbered_once_and_every_number_leads_to_one():
    shown = page()
    wanted = {text for text in shown.attributes("href", "a") if text.startswith("#remark-")}
    given = {f"#{text}" for text in shown.attributes("id", "li")}
    assert wanted == given
    assert len(given) == shown.tags().count("li") - _links_of_the_frame(shown)


def _links_of_the_frame(shown: Read) -> int:
    return sum(
        "remark" not in (attributes.get("id") or "")
        for tag, attributes in shown.elements
        if tag == "li"
    )


def test_a_note_and_a_quotation_are_told():
    one = replace(TABLE[0], note="a remark of the file", quoted_from="Somebody, 2020")
    shown = page((one, *TABLE[1:]))
    assert "a remark of the file" in shown.text
    assert "Quoted by the text from Somebody, 2020." in shown.text
    assert "quoted" in cell(shown, "pgd_at", 1)


def test_units_and_printed_errors_are_kept():
    times = tuple(one for one in claims() if (one.source, one.place) == ("frpat", "3"))
    shown = page(times)
    assert any(" s" in text[:8] for row in shown.rows[1:] for text in row[1:] if text)
    spread = tuple(one for one in claims() if (one.source, one.place) == ("ancra_iclr", "8"))
    assert "±" in page(spread).text


def test_a_page_is_drawn_anew_only_when_its_table_has_another_number():
    found = claims()
    before = {draft.path: repr(draft.facts) for draft in drafts(found)}
    after = {draft.path: repr(draft.facts) for draft in drafts(found, measured(rate(1, 2)))}
    changed = {path for path in before if before[path] != after[path]}
    assert PATH in changed
    assert study_page("frpat", "2") not in changed


def test_hostile_claims_are_text_and_never_a_path():
    evil = "<script>alert(1)</script>"
    bad = replace(TABLE[0], source=f"../../{evil}", defense=evil, printed=evil, note=evil)
    found = _render(drafts((bad,)))
    assert all(".." not in path for path in found)
    shown = page((bad,))
    assert "script" not in shown.tags()
    assert evil in shown.text


def test_without_claims_the_list_says_so():
    assert "No published figure is stored" in read(_render(drafts(()))["studies.html"]).text
