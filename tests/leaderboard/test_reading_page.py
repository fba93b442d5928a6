"""How to read this: every threshold is the one that the code applies, links lead somewhere."""

from __future__ import annotations

import re

import pytest
from page_reader import Read, read

import leaderboard.pages.reading as module
from harness.standings import agreement, levels
from harness.standings.row import DIAGNOSED
from harness.statistics import wilson
from leaderboard import evaluations, gains
from leaderboard.material import Material
from leaderboard.pages import PAGES
from leaderboard.site import _render
from leaderboard.texts import texts


def page() -> Read:
    return read(_render(PAGES["reading"](Material()))["reading.html"])


@pytest.fixture(scope="module")
def shown() -> Read:
    return page()


def said(found: Read) -> str:
    return " ".join(found.text.split())


def test_every_diagnostic_is_defined_with_amber_and_red(shown: Read):
    rows = {row[0].split()[0]: row for row in shown.rows[1:]}
    assert list(rows) == list(texts().diagnostics)
    for one in texts().diagnostics.values():
        assert rows[one.id][1:4] == [one.description, one.amber, one.red]
        assert one.id in shown.attributes("id", "tr")


def test_every_surface_loss_and_protocol_is_explained(shown: Read):
    for meanings in (texts().surfaces, texts().losses, texts().protocols):
        for name, meaning in meanings.items():
            assert f"{name} {meaning}" in said(shown)


def test_every_part_of_the_contents_is_there_and_nothing_else(shown: Read):
    contents = {href for href in shown.attributes("href", "a") if href.startswith("#")}
    assert contents - {"#content"} == {f"#{text}" for text in shown.attributes("id", "h2")}


def test_every_level_is_explained(shown: Read):
    for level in ("E0", "E1", "E2", "E3", "E4"):
        assert f"{level} " in said(shown)
    assert ", ".join(levels.BARRING) in shown.text
    assert ", ".join(levels.RECOMPUTED) in shown.text
    assert ", ".join(sorted(levels.ADAPTIVE_ONLY)) in shown.text


@pytest.mark.parametrize(
    ("place", "name", "changed", "words"),
    [
        (module, "AMBER", 2.0, "Above 2 point"),
        (module, "RED", 7.5, "above 7.5 points it is red"),
        (module, "LEVEL", 0.01, "three to five open at 1 %"),
        (module, "ENOUGH", 0.9, "at least 90 %"),
        (module, "DIAGNOSED", 1234, "up to 1,234 images"),
        (module, "BARRING", ("D99",), "none of D99 is red"),
        (module, "MANY", 750, "On 750 images and more that are right"),
        (module, "CHANCE", 0.05, "rejects chance at 5 %"),
        (module, "IN_POINTS", {"D98": (1, 2)}, "This holds for D98."),
    ],
)
def test_a_threshold_that_changes_in_the_code_changes_on_the_page(
    monkeypatch, place, name, changed, words
):
    assert words not in said(page()).replace("\xa0", " ")
    monkeypatch.setattr(place, name, changed)
    assert words in said(page()).replace("\xa0", " ")


def test_the_thresholds_are_those_of_the_code_that_applies_them():
    assert (module.AMBER, module.RED) == (evaluations.AMBER, evaluations.RED)
    assert (module.LEVEL, module.ENOUGH) == (gains.LEVEL, agreement.ENOUGH)
    assert module.DIAGNOSED == DIAGNOSED


def test_the_interval_of_the_example_is_the_one_that_rows_have(shown: Read):
    low, high = wilson(592, 1000)
    assert f"59.2 %, from {100 * low:.1f} to {100 * high:.1f}" in said(shown).replace("\xa0", " ")
    assert "from 56.1 to 62.2" in said(shown)  # protocol, section 3


def test_nothing_refers_to_a_text_that_a_reader_cannot_open(shown: Read):
    assert ".md" not in said(shown)
    assert not re.search(r"\((RA-S|A)\d", said(shown))
    assert "Pintor et al., 2022 (arXiv:2106.09947)" in said(shown)


def test_the_command_that_checks_a_site_names_the_folder_that_the_site_has(shown: Read):
    assert "harness results verify --site site" in said(shown)


def test_no_model_is_ever_called_robust(shown: Read):
    words = said(shown).lower().replace("robust harness", "").replace("robust accuracy", "")
    assert "robust" not in words.replace("robust-harness", "")


def test_it_needs_no_script(shown: Read):
    assert "script" not in shown.tags()
