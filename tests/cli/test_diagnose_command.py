"""`harness diagnose`: what it runs once, what it prints, what it refuses."""

from __future__ import annotations

import pytest

from harness.store.store import Store

TWO = ("--only", "D10,D11", "--examples", 10, "--workers", 1)


def _findings(name: str = "plain") -> dict:
    with Store.open(read_only=True) as store:
        found = store.findings(store.checkpoint(name).digest)
    return {finding.diagnostic: finding for finding in found}


def _failures() -> list:
    with Store.open(read_only=True) as store:
        return store.failures()


def test_what_was_asked_for_is_run_stored_and_told(stored, harness):
    before = _findings()
    found = harness("diagnose", "plain", *TWO)
    stored_now = _findings()

    assert found.code == 0
    assert set(stored_now) - set(before) == {"D10", "D11"}
    assert (stored_now["D11"].state, stored_now["D11"].examples) == ("green", 10)
    for word in ("plain:", "D10", "D11", "Zero gradient", "non-finite gradients"):
        assert word in found.out
    assert "D20" not in found.out  # stored by eval, and not asked for
    assert "nothing to do" not in found.err


def test_a_second_run_does_nothing_and_tells_the_same(stored, harness, monkeypatch):
    first = harness("diagnose", "plain", *TWO)
    monkeypatch.setattr("harness.campaign.diagnosis.diagnose", None)
    second = harness("diagnose", "plain", *TWO)
    fewer = harness("diagnose", "plain", "--only", "d10", "--examples", 4, "--workers", 1)

    assert (second.code, second.out) == (0, first.out)
    assert "digits: nothing to do, all of it is stored." in second.err
    assert "nothing to do" in fewer.err
    assert "D10" in fewer.out


@pytest.mark.parametrize("more", [("--examples", 12), ("--seed", 1), ("--epsilon", "1/10")])
def test_more_images_another_seed_and_another_epsilon_are_run(stored, harness, more):
    harness("diagnose", "plain", *TWO)
    found = harness("diagnose", "plain", *TWO, *more)

    assert found.code == 0
    assert "nothing to do" not in found.err


def test_json_is_one_document_with_every_checkpoint(stored, harness):
    found = harness("diagnose", "--all", *TWO, "--json")
    rows = found.json()

    assert found.code == 0
    assert [row["name"] for row in rows] == ["gated", "plain"]
    for row in rows:
        assert row["status"] == "ok"
        assert [one["diagnostic"] for one in row["diagnostics"]] == ["D10", "D11"]
        assert {one["examples"] for one in row["diagnostics"]} == {10}
        assert {one["state"] for one in row["diagnostics"]} <= {"green", "amber", "red"}
        assert isinstance(row["verdict"], str)


def test_what_was_found_is_part_of_the_row(stored, harness):
    harness("diagnose", "gated", *TWO)
    (row,) = harness("eval", "gated", "--adaptive", "--examples", 10, "--json").json()

    assert {"D10", "D11"} <= {one["diagnostic"] for one in row["diagnostics"]}


def test_the_verdict_is_of_everything_that_is_stored(stored, harness):
    (one,) = harness("diagnose", "gated", *TWO, "--json").json()
    (row,) = harness("eval", "gated", "--adaptive", "--examples", 10, "--json").json()

    assert len(row["diagnostics"]) == 4  # and D20, D21
    assert one["verdict"] == row["verdict"]


def test_quiet_prints_nothing(stored, harness):
    found = harness("diagnose", "plain", *TWO, "-q")

    assert (found.code, found.out, found.err) == (0, "", "")


@pytest.mark.slow
def test_two_workers_find_what_one_finds(stored, harness):
    one = harness("diagnose", "--all", *TWO, "--json").json()
    harness("diagnose", "--all", *TWO, "--seed", 1)
    again = harness("diagnose", "--all", *TWO[:-1], 2, "--json").json()

    assert again == one


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("plain", "--only", "D1O"), "no diagnostic named 'D1O'. Did you mean 'D"),
        (("plain", "--only", "I7"), "no diagnostic named 'I7'"),
        (("plain", "--only", ","), "--only names no diagnostic"),
        ((), "name the checkpoints"),
        (("plain", "--all"), "not both"),
        (("plian",), "Did you mean 'plain'"),
        (("plain", "--examples", 0), "0 is not in the range"),
        (("plain", "--epsilon", "much"), "is no epsilon"),
        (("plain", "--norm", "l2"), "needs its own --epsilon"),
        (("plain", "--dataset", "digts"), "Did you mean 'digits'"),
        (("plain", "--data-dir", "somewhere"), "digits needs no files"),
    ],
)
def test_what_cannot_be_run_is_a_sentence_and_nothing_runs(
    stored, harness, monkeypatch, arguments, sentence
):
    monkeypatch.setattr("harness.campaign.diagnosis.diagnose", None)
    found = harness("diagnose", *arguments)

    assert found.code == 2
    assert sentence in found.err
    assert not found.out


def test_a_model_that_fails_is_told_and_the_others_are_diagnosed(stored, add, harness):
    add("broken", "failing")
    found = harness("diagnose", "broken", "plain", *TWO, "--json")
    broken, plain = found.json()

    assert found.code == 1
    assert (broken["status"], broken["diagnostics"]) == ("raised", [])
    assert "out of order" in broken["message"]
    assert "broken failed (raised): the model raised RuntimeError: out of order" in found.err
    assert plain["status"] == "ok"
    assert len(plain["diagnostics"]) == 2


def test_a_failure_that_is_mended_is_forgotten(stored, harness):
    (stored / "checkpoints").rename(stored / "elsewhere")
    assert harness("diagnose", "plain", *TWO).code == 1
    assert [failure.attack for failure in _failures()] == ["diagnostics"]
    (stored / "elsewhere").rename(stored / "checkpoints")

    assert harness("diagnose", "plain", *TWO).code == 0
    assert _failures() == []
