"""The museum's page: every exhibit, what must catch it, and nothing coloured that is not asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_reader import Read, read

from leaderboard.material import Material
from leaderboard.pages import PAGES
from leaderboard.site import _render
from leaderboard.texts import ExhibitText, Texts, texts


def page(said: Texts | None = None) -> Read:
    material = Material(texts=said or texts())
    return read(_render(PAGES["museum"](material))["museum.html"])


@pytest.fixture(scope="module")
def shown() -> Read:
    return page()


def matrix(found: Read) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in found.rows[1:]}


def test_every_exhibit_has_a_card_with_what_is_wrong_with_it(shown: Read):
    for one in texts().exhibits.values():
        assert one.description in shown.text
        assert f"exhibit-{one.name}" in " ".join(shown.attributes("id", "article"))


def test_the_matrix_has_exactly_the_states_that_the_exhibits_name(shown: Read):
    rows = matrix(shown)
    for one in texts().exhibits.values():
        wanted = [one.catches.get(name, "") for name in texts().diagnostics]
        assert rows[one.name.replace("_", " ")] == wanted


def test_a_diagnostic_that_is_not_asked_has_an_empty_cell_and_is_never_green(shown: Read):
    rows = matrix(shown)
    empty = sum(cell == "" for row in rows.values() for cell in row)
    asked = sum(len(one.catches) for one in texts().exhibits.values())
    assert empty == len(texts().exhibits) * len(texts().diagnostics) - asked


def test_each_card_says_when_a_diagnostic_reaches_its_state(shown: Read):
    said = " ".join(shown.text.split())
    for one in texts().exhibits.values():
        for name, state in one.catches.items():
            if state != "green":
                diagnostic = texts().diagnostics[name]
                assert f"{name} {diagnostic.title}: {getattr(diagnostic, state)}" in said


def test_every_link_of_the_matrix_leads_to_a_card(shown: Read):
    links = {href for href in shown.attributes("href", "a") if href.startswith("#exhibit")}
    assert links == {f"#{text}" for text in shown.attributes("id", "article")}


def test_the_command_that_proves_it_is_there(shown: Read):
    assert "harness museum" in shown.text


def test_diagnostics_without_an_exhibit_are_named():
    said = texts()
    assert "No exhibit has to set off" not in page().text  # every one has
    kept = {name: one for name, one in said.exhibits.items() if "D11" not in one.catches}
    assert "No exhibit has to set off D11" in page(replace(said, exhibits=kept)).text


def test_a_diagnostic_that_only_stays_green_counts_as_not_set_off():
    said = texts()
    honest = ExhibitText("calm", "Nothing is wrong with it.", {"D01": "green"})
    half = ExhibitText("half", "Something is.", {"D02": "green", "D03": "red"})
    found = page(replace(said, exhibits={"calm": honest, "half": half}))
    assert "1 model that pretends, 1 of 32 diagnostics" in found.text
    assert "No exhibit has to set off D01, D02, D04, D05" in found.text


def test_hostile_exhibits_of_other_distributions_are_text():
    evil = "<b onclick=x>"
    bad = {evil: ExhibitText(evil, evil, {evil: "red"})}
    found = page(replace(texts(), exhibits=bad))
    assert not any("onclick" in attributes for _, attributes in found.elements)
    assert evil in found.text
