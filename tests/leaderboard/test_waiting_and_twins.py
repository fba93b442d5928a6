"""What waits for attacks is not invisible, and one function under two names says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_reader import read
from synthetic_boards import board, record, standing

from harness.store.store import Store
from leaderboard import addresses
from leaderboard.gathering import gather
from leaderboard.material import Material
from leaderboard.site import render


def front(material: Material) -> str:
    return read(render(material)[addresses.HOME]).text


def test_one_checkpoint_that_nothing_attacked_is_named_with_its_command(tmp_path):
    with Store.open(tmp_path / "x.db") as store:
        store.add_checkpoint(record("solo"))
        text = front(gather(store))
    assert "1 checkpoint stored, not attacked yet" in text
    assert "harness eval solo --adaptive" in text
    assert "Nothing is evaluated yet" in text


def test_many_are_counted_and_the_rows_of_the_board_are_not_among_them():
    many = [record(f"waits-{number:02d}") for number in range(12)]
    text = front(Material(boards=[board(standing())], waiting=many))
    assert "12 checkpoints stored, not attacked yet" in text
    assert "waits-09" in text
    assert "waits-10" not in text
    assert "and 2 more" in text
    assert "harness eval --adaptive --all" in text
    assert "Nothing is evaluated yet" not in text


def test_a_site_where_everything_was_attacked_says_nothing_of_it():
    assert "not attacked yet" not in front(Material(boards=[board(standing())]))


@pytest.mark.parametrize("is_same", [True, False])
def test_two_names_of_one_function_lead_to_each_other(is_same):
    one = record("one", digest="a" * 64)
    two = record("two", digest=("a" if is_same else "b") * 64)
    rows = [standing(checkpoint=checkpoint) for checkpoint in (one, two)]
    files = render(Material(boards=[board(*rows)]))
    page = read(files[addresses.checkpoint_page(one)])
    assert ("The same weights and the same function" in page.text) is is_same
    assert ("../checkpoints/two.html" in page.attributes("href")) is is_same


def test_a_second_name_draws_the_page_of_the_first_anew():
    one = record("one", digest="a" * 64)
    alone = Material(boards=[board(standing(checkpoint=one))])
    both = replace(
        alone,
        boards=[board(standing(checkpoint=one), standing(checkpoint=replace(one, name="two")))],
    )
    path = addresses.checkpoint_page(one)
    assert render(alone)[path] != render(both)[path]
