"""Every page is what the standard calls valid: html5lib's strict parser finds no error."""

from __future__ import annotations

import html5lib
import pytest
from html5lib.html5parser import ParseError
from synthetic_boards import board, failed, record, standing

from leaderboard.material import Material
from leaderboard.site import render


def errors(page: bytes | str) -> list[str]:
    """What the parser objects to, with the place in the page."""
    parser = html5lib.HTMLParser(strict=False)
    text = page.decode() if isinstance(page, bytes) else page
    parser.parse(text)
    return [f"{place}: {code} {about}" for place, code, about in parser.errors]


def test_every_page_of_a_site_is_valid(browsed):
    found = {}
    for path in sorted(browsed.rglob("*.html")):
        if said := errors(path.read_bytes()):
            found[str(path.relative_to(browsed))] = said[:3]
    assert found == {}


def test_pages_of_nothing_are_valid():
    for name, page in render(Material()).items():
        if name.endswith(".html"):
            assert errors(page) == [], name


@pytest.mark.parametrize(
    "text",
    ['"><b>', "'=>`", "&amp", "&notit;", "<!--", "]]>", "\x0c\x01", "\ufdd0\uffff\U0001fffe"],
)
def test_pages_of_hostile_names_are_valid(text):
    row = standing(checkpoint=record(text, defense=text, architecture=text), last_lowered_by=text)
    files = render(Material(boards=[board(row, failed(f"{text}!", text), dataset=text)]))
    for name, page in files.items():
        if name.endswith(".html"):
            assert errors(page) == [], name


def test_the_strict_parser_refuses_what_is_not_valid():
    bad = "<!DOCTYPE html><title>x</title><p><table><tr><td></p></table><b></i>"
    assert errors(bad)
    with pytest.raises(ParseError):
        html5lib.HTMLParser(strict=True).parse(bad)
