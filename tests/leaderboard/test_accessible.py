"""What a screen reader meets: axe-core on every kind of page, in both schemes, menus open."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import PHONE, WIDE, one_of_each_kind
from playwright.sync_api import Page
from synthetic_boards import every_kind

from leaderboard import addresses
from leaderboard.material import Material
from leaderboard.site import build

BAD = {"serious", "critical"}
OPTIONS = {"resultTypes": ["violations"], "preload": False}  # no file may be asked for by a script


def violations(page: Page) -> list[str]:
    """One line per serious violation, with the first element that has it."""
    found = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{one['id']} ({len(one['nodes'])}): {one['nodes'][0]['html'][:160]}"
        for one in found
        if one["impact"] in BAD
    ]


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_on_any_kind_of_page(visitor, browsed, is_dark):
    page = visitor.open(browsed / addresses.HOME, is_dark=is_dark, is_examined=True)
    found = {}
    for path in one_of_each_kind(browsed, 1 if is_dark else 2):
        page.goto(path.as_uri())
        if said := violations(page):
            found[str(path.relative_to(browsed))] = said
    assert found == {}


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("menu", ["Filter", "Columns"])
def test_axe_finds_nothing_serious_in_an_open_menu(visitor, browsed, size, menu):
    address = (browsed / addresses.board_page(every_kind()[0])).as_uri()
    page = visitor.open(f"{address}?sort=-gap&robust=x", size, is_examined=True)
    page.locator("summary", has_text=menu).first.click()
    assert violations(page) == []


def test_axe_finds_nothing_serious_where_nothing_is_evaluated(visitor, tmp_path):
    page = visitor.open(build(Material(), tmp_path).index, is_examined=True)
    assert violations(page) == []


def test_axe_does_find_what_is_wrong(visitor, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<!DOCTYPE html><html lang="en"><title>x</title><h1>x</h1><input><button>')
    said = violations(visitor.open(bad, is_examined=True))
    assert {"label", "button-name"} <= {one.split()[0] for one in said}
