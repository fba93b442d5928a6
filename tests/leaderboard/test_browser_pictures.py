"""The pictures of a board in a browser: readable, reachable, valid, whatever the names are."""

from __future__ import annotations

import re

import pytest
from browser import PHONE, WIDE, sideways
from synthetic_pictures import pictured
from test_accessible import violations
from test_html_is_valid import errors

from leaderboard import addresses
from leaderboard.site import build, render

SECTIONS = (
    *("clean-and-robust", "attacks-and-checkpoints", "differences-and-chance"),
    *("transferred-attacks", "sweeps"),
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The page of a board on which no picture is missing."""
    material = pictured()
    folder = build(material, tmp_path_factory.mktemp("drawn")).index.parent
    return folder / addresses.board_page(material.boards[0])


def test_every_picture_is_on_the_page_and_none_is_called_missing(drawn):
    html = drawn.read_text()
    assert all(f'id="{one}"' in html for one in SECTIONS)
    assert 'id="not-drawn"' not in html


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing_serious_in_the_pictures(visitor, drawn, size, is_dark):
    page = visitor.open(drawn, size, is_dark=is_dark, is_examined=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert violations(page) == []


def test_the_page_does_not_scroll_sideways_and_wide_pictures_do_in_their_boxes(visitor, drawn):
    page = visitor.open(drawn, PHONE)
    assert sideways(page) == 0
    boxes = page.locator(".picture > .scroll").all()
    hidden = [box.evaluate("one => one.scrollWidth - one.clientWidth") for box in boxes]
    assert len(hidden) == 4
    assert max(hidden) > 0


def test_a_dot_leads_to_its_checkpoint(visitor, drawn):
    page = visitor.open(drawn)
    dot = page.locator("svg.plane a").first
    name = dot.locator("title").text_content().split(":")[0]
    dot.locator("circle").click(force=True)
    assert page.get_by_role("heading", level=1).inner_text().replace("\n", "") == name


def test_colours_follow_the_scheme(visitor, drawn):
    def shade(is_dark):
        cell = visitor.open(drawn, is_dark=is_dark).locator("td.h8, td.h7, td.h6, td.h5").first
        return cell.evaluate("one => getComputedStyle(one).backgroundColor")

    assert shade(is_dark=False) != shade(is_dark=True)


@pytest.mark.parametrize("text", ['"><u>{}', "</title></svg>{}", "&notit;{}", "x\x0c\u202e{}"])
def test_hostile_names_stay_text_in_every_picture(text):
    material = pictured(text, rows=4)
    html = render(material)[addresses.board_page(material.boards[0])].decode()
    assert errors(html) == []
    assert len(re.findall("<svg class=.chart plane", html)) == 1
    assert "<u>" not in html
    assert "\u202e" not in html


def test_the_pictures_need_no_inline_style_and_no_script(drawn):
    html = drawn.read_text()
    pictures = html[html.index('id="clean-and-robust"') :]
    assert not re.search(r"\sstyle=|\son\w+=|<script|<style", pictures)
