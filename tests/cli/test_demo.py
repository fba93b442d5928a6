"""`harness demo`, with fewer defenses and images: the whole of it is too long for a test."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from harness import protocols, recipe
from harness.attacks.attack import attack_spec


@pytest.fixture
def small(monkeypatch):
    quick = replace(protocols.PROTOCOLS["standard"], first=lambda _: [attack_spec("pgd", steps=40)])
    adaptive = replace(
        protocols.PROTOCOLS["adaptive"],
        first=quick.first,
        second=lambda _: [attack_spec("fgsm")],
    )
    monkeypatch.setitem(protocols.PROTOCOLS, "standard", quick)
    monkeypatch.setitem(protocols.PROTOCOLS, "adaptive", adaptive)
    monkeypatch.setattr(recipe, "DIGITS", replace(recipe.DIGITS, epochs=1, inner_steps=1))
    module = importlib.import_module("harness.cli.demo")  # `harness.cli.demo` is the command
    monkeypatch.setattr(module, "DEFENSES", ("standard", "trades_he"))
    monkeypatch.setattr(module, "EXAMPLES", 10)


def test_the_demo_trains_attacks_stores_renders_and_prints(small, home, harness):
    found = harness("demo", "--workers", 1)

    assert found.code == 0
    assert found.out.splitlines()[-1] == "The leaderboard: demo/site/index.html"
    for word in ("digits, linf 1/5", "standard", "trades_he", "pgd-40", "adaptive"):
        assert word in found.out
    assert (home / "demo" / "site" / "index.html").is_file()
    assert {file.name for file in home.iterdir()} == {"demo"}
    assert {"results.db", "checkpoints", "site"} == {f.name for f in (home / "demo").iterdir()}


def test_a_second_demo_does_nothing_again(small, home, harness, monkeypatch):
    first = harness("demo", "--workers", 1, "--out", "here")
    monkeypatch.setattr("harness.campaign.campaign.do", None)
    monkeypatch.setattr("harness.training.work.do", None)
    second = harness("demo", "--workers", 1, "--out", "here", "-q")

    assert second.code == 0
    assert second.out == first.out
    assert second.err == ""


def test_what_the_demo_made_is_read_by_the_other_commands(small, harness):
    harness("demo", "--workers", 1, "-q")
    options = ("--db", "demo/results.db", "--workers", 1, "--examples", 10)

    assert len(harness("list", "checkpoints", "--json", "--db", "demo/results.db").json()) == 2
    assert harness("eval", "--all", "--attacks", "fgsm", *options).code == 0
