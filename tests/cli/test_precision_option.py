"""`--precision`: searches on a copy of the model, stored and shown as what they are."""

from __future__ import annotations

import json
from pathlib import Path

from harness.store.store import Store

OPTIONS = ("--attack", "pgd(steps=3)", "--examples", 40, "--workers", 1)


def _precisions(name: str) -> set[str]:
    with Store.open(read_only=True) as store:
        return {one.job.precision for one in store.outcomes(store.checkpoint(name).digest)}


def test_every_precision_is_a_search_of_its_own(small, harness):
    before = _precisions("plain")
    found = harness("eval", "plain", *OPTIONS, "--precision", "folded", "--json")

    assert before == {"float32"}
    assert found.code == 0
    assert found.json()[0]["precision"] == "folded"
    assert _precisions("plain") == {"float32", "folded"}
    again = harness("eval", "plain", *OPTIONS, "--precision", "folded")
    assert "nothing to do" in again.err


def test_a_search_on_a_copy_is_verified_on_the_copy(small, harness):
    harness("eval", "plain", *OPTIONS, "--precision", "mixed", "-q")

    found = harness("verify", "plain", "--whole", "--workers", 1, "-q", "--json")

    assert found.code == 0
    assert harness("results", "verify").code == 0


def test_a_row_says_what_was_differentiated(small, harness):
    harness("eval", "plain", "--attack", "mim(steps=2)", *OPTIONS[2:], "--precision", "folded")
    harness("site", "--out", "site", "-q")

    (page,) = Path("site/checkpoints").glob("*.html")
    text = page.read_text()
    (file,) = Path("site/boards").glob("*.json")
    (board,) = json.loads(file.read_text())["boards"]
    (row,) = board["standings"]
    assert {a["attack"]: a["precisions"] for a in row["attacks"]} == {
        "fgsm": ["float32"],
        "mim": ["folded"],
        "pgd": ["float32"],
    }
    assert text.count("precision folded") == 1


def test_an_unknown_precision_is_refused_with_those_there_are(small, harness):
    found = harness("eval", "plain", *OPTIONS, "--precision", "float16")

    assert found.code == 2
    assert "float32" in found.err
    assert "mixed" in found.err
    assert _precisions("plain") == {"float32"}
