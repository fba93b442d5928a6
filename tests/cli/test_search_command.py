"""`harness search`: hunts on training images, runs what wins, stores it like any attack."""

from __future__ import annotations

import pytest

from harness.evaluation import attack_search
from harness.store.store import Store

QUICK = ("--budget", 300, "--examples", 10, "--workers", 1)


@pytest.fixture(autouse=True)
def few_held_images(monkeypatch):
    monkeypatch.setattr(attack_search, "HELD", 20)
    monkeypatch.setattr(attack_search, "MOST_STEPS", 6)


def _plans(name: str) -> list:
    with Store.open(read_only=True) as store:
        return store.plans(store.checkpoint(name).digest)


def _winner(monkeypatch, *texts: str, held: int = 3) -> None:
    """A hunt that has found these attacks, each with one image of its own."""
    from harness.attacks.attack import parse_attack

    specs = tuple(parse_attack(text) for text in texts)
    tried = tuple(attack_search.Tried(spec, 2, 1, 100) for spec in specs)
    catch = attack_search.Catch(specs, tried, 20, held, 200, 24)
    monkeypatch.setattr(attack_search, "hunt", lambda _: catch)


def test_a_search_is_a_document_with_what_was_spent_and_found(stored, harness):
    found = harness("search", "plain", "gated", *QUICK, "--json")
    rows = {row["name"]: row for row in found.json()}

    assert found.code == 0
    assert rows.keys() == {"plain", "gated"}
    assert rows["gated"]["candidates"] > rows["plain"]["candidates"]
    for row in rows.values():
        assert (row["status"], row["examples"]) == ("ok", 10)
        assert 0 < row["passes"] <= 300
        assert row["held_standing"] <= row["held"] <= 20
        assert row["robust_accuracy"] <= row["standard_accuracy"]
        kept = [one for one in row["tried"] if one["alone"]]
        assert len(kept) == len(row["winners"])


def test_what_wins_is_run_on_survivors_and_counts_in_the_row(stored, harness, monkeypatch):
    _winner(monkeypatch, "mim(steps=6,surface=label_gate)")
    (row,) = harness("search", "gated", *QUICK, "--json").json()
    (plan,) = [plan for plan in _plans("gated") if plan.protocol == "search-1"]

    assert row["winners"][0]["attack"] == "mim(steps=6,surface=label_gate,loss=ce)"
    assert row["winners"][0]["held_alone"] == 1
    assert [population for _, population in plan.attacks] == [
        *["correct"] * 5,
        "survivors:standard-2",
    ]
    assert row["winners"][0]["hash"] == plan.attacks[-1][0]
    assert row["winners"][0]["label"] in harness("show", "gated").out


def test_a_second_search_runs_nothing_again(stored, harness, monkeypatch):
    first = harness("search", "plain", *QUICK, "--json").json()
    monkeypatch.setattr("harness.campaign.campaign.do", None)
    again = harness("search", "plain", *QUICK, "--json")

    assert (again.code, again.json()) == (0, first)


def test_a_person_reads_what_was_searched_and_how_to_run_it_again(stored, harness, monkeypatch):
    _winner(monkeypatch, "pgd(steps=6,loss=margin)")
    found = harness("search", "plain", *QUICK)

    assert "plain: 24 candidates on 20 training images, 3 of which" in found.out
    assert "200 passes each" in found.out
    assert "On 10 test images: standard " in found.out
    assert "pgd(steps=6,surface=logits,loss=margin)" in found.out
    _winner(monkeypatch)
    assert "Nothing broke an image" in harness("search", "plain", *QUICK).out
    quiet = harness("search", "plain", *QUICK, "-q")
    assert (quiet.out, quiet.err) == ("", "")


def test_what_is_printed_is_what_eval_takes(stored, harness, monkeypatch):
    _winner(monkeypatch, "pgd(steps=6,random_start=false,surface=auxiliary(1),loss=margin)")
    (row,) = harness("search", "gated", *QUICK, "--json").json()
    text = row["winners"][0]["attack"]
    (again,) = harness(
        "eval", "gated", "--attack", text, "--examples", 10, "--workers", 1, "--json"
    ).json()

    assert again["attacks"][0]["label"] == row["winners"][0]["label"]


def test_a_hunt_that_fails_leaves_no_plan_and_the_others_are_done(stored, add, harness):
    add("broken", "failing")
    found = harness("search", "broken", "plain", *QUICK, "--json")
    broken, plain = found.json()

    assert found.code == 1
    assert (broken["name"], broken["status"]) == ("broken", "raised")
    assert "out of order" in broken["message"]
    assert plain["status"] == "ok"
    assert _plans("broken") == []
    read = harness("search", "broken", *QUICK)
    assert (read.code, read.out) == (1, "")
    assert "broken failed (raised)" in read.err


def test_the_protocol_search_asks_for_its_command(stored, harness):
    found = harness("eval", "plain", "--protocol", "search")

    assert found.code == 2
    assert "harness search NAME --budget N" in found.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name the checkpoints"),
        (("plain", "--all"), "not both"),
        (("plian",), "Did you mean 'plain'"),
        (("plain", "--budget", 99), "99 is not in the range"),
        (("plain", "--epsilon", "much"), "is no epsilon"),
        (("plain", "--data-dir", "somewhere"), "digits needs no files"),
    ],
)
def test_what_cannot_be_searched_is_a_sentence_and_nothing_runs(
    stored, harness, monkeypatch, arguments, sentence
):
    monkeypatch.setattr(attack_search, "hunt", None)
    found = harness("search", *arguments)

    assert found.code == 2
    assert sentence in found.err
    assert not found.out
