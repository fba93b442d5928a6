"""`harness add --card`: what a person says of a model stands beside its numbers, as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store.store import Store

CARD = """
paper: {title: "<b>Bold</b> claims", authors: A. Person, year: 2024, url: "https://example.org/x"}
extra_data: a million generated images
note: "[red]Trained[/red] for a week."
"""
WHERE = ("--model", "models.py:build", "--weights", "weights.pt", "--dataset", "digits")


@pytest.mark.slow  # a model from elsewhere runs in a process of its own
def test_what_a_card_says_is_shown_with_the_checkpoint(harness, model_file, home):
    Path("card.yaml").write_text(CARD)
    assert harness("add", "mine", *WHERE, "--card", "card.yaml").code == 0
    with Store.open(read_only=True) as store:
        assert store.checkpoint("mine").paper["extra_data"] == "a million generated images"

    shown = harness("show", "mine").out
    assert "paper title" in shown
    assert "<b>Bold</b> claims" in shown
    assert "[red]Trained[/red] for a week." in shown


@pytest.mark.parametrize(
    ("card", "reason"),
    [("note: &a [*a]", "alias"), ("titel: x", "no entry of a card"), (None, "cannot be read")],
)
def test_a_bad_card_is_refused_before_any_model_is_loaded(harness, home, card, reason):
    if card is not None:
        Path("card.yaml").write_text(card)
    found = harness("add", "mine", *WHERE, "--card", "card.yaml")

    assert found.code == 2
    assert reason in found.err
    assert not Path("results.db").exists()
