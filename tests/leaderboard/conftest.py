"""Boards and a site built from them, shared by the tests of the leaderboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_boards import every_kind

from harness.standings import Board
from leaderboard.site import build


@pytest.fixture
def boards() -> list[Board]:
    """Two boards with every kind of row on them."""
    return every_kind()


@pytest.fixture
def site(boards: list[Board], tmp_path: Path) -> Path:
    """The folder of a site built from `boards`."""
    return build(boards, tmp_path / "site", generated="from a test").parent
