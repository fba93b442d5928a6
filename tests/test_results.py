"""The project's own results: one finished file, and the page that is made from it."""

from pathlib import Path

import pytest

from harness.catalogue import DEFENSES
from harness.claims import claims
from harness.cli.published import THIN
from harness.cli.results_page import results_page
from harness.standings.comparison import comparisons
from harness.store.finished import is_finished
from harness.store.store import Store
from leaderboard.gathering import gather

HERE = Path(__file__).parents[1]
FILE = HERE / "results.db"


@pytest.fixture(scope="module")
def results():
    with Store.open(FILE, create=False, read_only=True) as store:
        yield store


def test_the_file_is_finished_and_read_without_a_trace(results):
    assert is_finished(FILE)
    assert FILE.read_bytes()[18:20] == b"\x01\x01"  # rollback journal
    results.checkpoints()
    assert not [path for path in HERE.iterdir() if path.name.startswith("results.db-")]


def test_it_holds_every_claim(results):
    assert sorted(map(repr, results.claims())) == sorted(map(repr, claims()))


def test_the_page_is_what_the_file_says(results):
    assert (HERE / "docs" / "results.md").read_text() == results_page(results)


def test_every_defense_has_a_digits_row_and_the_thin_ones_a_cifar_row(results):
    measured = {"digits": set(), "cifar10": set()}
    for row in comparisons(results, {}):
        standing = row.standings[0]
        if standing.is_adaptive:
            measured[standing.dataset].add(row.defense)

    assert measured == {"digits": set(DEFENSES), "cifar10": set(THIN)}


def test_the_page_says_what_is_reduced_of_each_board(results):
    page = results_page(results)
    trained = "10 epochs, at most 3 inner steps, trained in bfloat16; the first 100 test images."
    assert f"resnet18 of width 16, scale smoke: {trained}" in page
    assert "small_resnet of width 16, scale smoke: 20 epochs, at most 7 inner steps; the" in page


@pytest.mark.parametrize("board", ["digits", "cifar10"])
def test_a_site_of_one_board_keeps_its_paired_gains_and_no_other(results, board):
    material = gather(results)
    assert len(material.boards) == 2
    assert len(material.comparisons) > 50
    ours = [one for one in material.comparisons if one.standings[0].dataset == board]
    only = material.cut_down_to(material.slug_of(board))
    assert only.comparisons == ours != []


def test_no_path_of_a_machine_is_in_it():
    content = FILE.read_bytes()
    for hint in (b"/home/", b"/root/", b"/tmp/", b"/work/"):
        assert hint not in content
