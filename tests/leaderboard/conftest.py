"""Boards and a site built from them, shared by the tests of the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, FLAGS, MISSING, Visitor
from playwright.sync_api import Browser, sync_playwright
from synthetic_boards import every_kind, everything

from harness.standings import Board
from leaderboard.material import Material
from leaderboard.site import build


@pytest.fixture
def boards() -> list[Board]:
    """Two boards with every kind of row on them."""
    return every_kind()


@pytest.fixture
def material(boards: list[Board]) -> Material:
    """What a site of these boards is made of."""
    return Material(boards=boards, generated="from a test")


@pytest.fixture
def site(material: Material, tmp_path: Path) -> Path:
    """The folder of a site built from `boards`."""
    return build(material, tmp_path / "site").index.parent


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this folder; nothing else here may start Playwright."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield launched
        launched.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Opens pages of files; a test in which one of them complains or calls elsewhere fails."""
    one = Visitor(browser)
    yield one
    one.close()
    assert one.complaints == []


@pytest.fixture(scope="package")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site with every kind of page; only to be looked at."""
    return build(everything(), tmp_path_factory.mktemp("browsed")).index.parent
