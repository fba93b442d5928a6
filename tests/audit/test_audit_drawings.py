"""What somebody changed in a written site by hand is found wherever it stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.audit import drawing_problems
from leaderboard import addresses
from leaderboard.material import Material
from leaderboard.site import build

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))
from synthetic_boards import every_kind

BOARDS = every_kind()
MATERIAL = Material(boards=BOARDS)
CHECKPOINT = addresses.checkpoint_page(BOARDS[0].standings[2].checkpoint)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return build(MATERIAL, tmp_path / "site").index.parent


def test_a_site_that_nobody_touched_has_no_problem(site):
    assert drawing_problems(site, MATERIAL) == []


@pytest.mark.parametrize(
    "name",
    [CHECKPOINT, addresses.board_page(BOARDS[0], "json"), addresses.READING, "style.css"],
)
def test_one_byte_that_was_changed_is_found_on_any_page(site, name):
    path = site / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1", b"2", 1))
    (problem,) = drawing_problems(site, MATERIAL)
    assert problem.startswith(f"{name}: not what the rows give now")


def test_pages_that_are_gone_are_named_up_to_ten_and_then_counted(site):
    pages = list(site.rglob("*.html"))
    for path in pages:
        path.unlink()
    problems = drawing_problems(site, MATERIAL)
    assert len(problems) == 11
    assert problems[-1].startswith(f"{len(pages) - 10} more files")


def test_a_site_of_one_board_is_compared_with_that_board(tmp_path):
    only = MATERIAL.cut_down_to(addresses.board_slug(BOARDS[1]))
    site = build(only, tmp_path / "one").index.parent
    assert drawing_problems(site, MATERIAL) == []
    (site / addresses.HOME).write_text("mine")
    assert len(drawing_problems(site, MATERIAL)) == 1
