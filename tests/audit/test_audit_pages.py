"""Numbers on written pages are found by the names of their columns, and a wrong one is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.audit import page_problems
from harness.audit.tables import read_page
from leaderboard import addresses
from leaderboard.material import Material
from leaderboard.site import build

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))
from synthetic_boards import board, every_kind, standing

BOARDS = every_kind()
DIGITS = addresses.board_page(BOARDS[0])
MASKED = BOARDS[0].standings[2]
MASKED_PAGE = addresses.checkpoint_page(MASKED.checkpoint)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = build(Material(boards=BOARDS), tmp_path_factory.mktemp("whole")).index.parent
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def site(whole: dict[str, bytes], tmp_path: Path) -> Path:
    """A site that a test may change."""
    for name, content in whole.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_site_of_every_kind_of_row_has_no_problem(site):
    assert page_problems(site, BOARDS) == []


@pytest.mark.parametrize(
    ("page", "old", "new", "said"),
    [
        (DIGITS, ">87.0<", ">86.0<", "standard accuracy is '86.0', not 87.00"),
        (DIGITS, ">34.5<", ">3.5<", "adaptive gap is '3.5"),
        (DIGITS, "<b>52.5</b>", "<b>62.5</b>", "robust accuracy is '62.5"),
        (DIGITS, "45.6–59.3", "45.6–59.9", "robust accuracy: its interval is"),
        (DIGITS, ">97.0 <", ">99.0 <", "clean accuracy is '99.0"),
        (DIGITS, 'data-column="clean"', 'data-column="dirty"', "it has no column clean"),
        (DIGITS, MASKED_PAGE, "checkpoints/nobody.html", "it has no line"),
        (DIGITS, MASKED_PAGE, "checkpoints/nobody.html", "checkpoints/nobody.html that no board"),
        (addresses.HOME, ">34.5<", ">3.5<", "index.html: trades_ancra-digits-cnn-smoke-s0 on"),
        (addresses.HOME, MASKED_PAGE, "checkpoints/nobody.html", "that no board has"),
        (MASKED_PAGE, "52.5&nbsp;%", "53.5&nbsp;%", "robust accuracy under linf 1/5 is"),
        (MASKED_PAGE, "64.0", "94.0", "pgd@sum:ce: so far is '94.0"),
    ],
)
def test_what_was_changed_on_a_page_is_named(site, page, old, new, said):
    edit(site / page, old, new)
    assert any(said in problem for problem in page_problems(site, BOARDS))


def test_columns_in_another_order_are_read_by_their_names(site):
    """Swapped headings without swapped cells are wrong; swapped together they are right."""
    page = site / DIGITS
    edit(page, 'data-column="clean"', 'data-column="x"')
    edit(page, 'data-column="standard"', 'data-column="clean"')
    edit(page, 'data-column="x"', 'data-column="standard"')
    assert any("clean accuracy" in problem for problem in page_problems(site, BOARDS))
    table = read_page(
        "<table class='board sortable'><thead><tr><th data-column=gap>Gap<th data-column=robust>R"
        "<tbody><tr><td>1.0<td><b>52.5</b> <small>45.6–59.3</small></table>"
    ).tables[0]
    (line,) = table.lines
    assert (table.kind, table.columns) == ("board", ["gap", "robust"])
    assert table.cell(line, "robust") == "52.5 45.6–59.3"
    assert table.cell(line, "gap") == "1.0"
    assert table.cell(line, "clean") is None


def test_a_heading_without_a_name_is_found_by_its_text_and_wide_cells_count_as_many():
    table = read_page(
        "<table><thead><tr><th>No.</th><th>So far, % <small>not broken</small></th><th>Z</th></tr>"
        "</thead><tbody><tr><td colspan=2>both</td><td>last</td></tr></tbody></table>"
    ).tables[0]
    assert table.cell(table.lines[0], "so far") == "both"
    assert table.cell(table.lines[0], "z") == "last"


def test_a_row_that_is_missing_on_its_board_is_named(site):
    more = board(*BOARDS[0].standings, standing("forgotten", rank=(6, 6)))
    problems = page_problems(site, [more, BOARDS[1]])
    assert any("forgotten on digits" in one and "it has no line" in one for one in problems)
