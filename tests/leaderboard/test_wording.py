"""How numbers and names read, and that no name becomes a dangerous path, link or command."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_boards import rate, record, standing

from harness.identity import Capabilities
from leaderboard import wording


@given(st.text())
def test_a_slug_is_one_safe_file_name(name):
    slug = wording.slug(name)
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-~")
    assert 0 < len(slug) <= 80
    assert not slug.startswith((".", "-"))


@given(st.lists(st.text(alphabet="aAbB-_./~ é\\", max_size=6), unique=True, max_size=40))
def test_two_names_never_share_a_slug(names):
    assert len({wording.slug(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "pair",
    [
        ("A", "a"),
        ("a b", "a-b"),
        ("a/b", "a\\b"),
        ("", " "),
        ("x" * 90, "x" * 91),
        ("e\u0301", "é"),
    ],
)
def test_slugs_differ_where_file_systems_would_fold_names_together(pair):
    assert wording.slug(pair[0]) != wording.slug(pair[1])


def test_a_slug_cannot_be_taken_by_spelling_out_the_slug_of_another_name():
    assert wording.slug(wording.slug("A")) != wording.slug("A")


@pytest.mark.parametrize("name", ["con", "nul.txt", "com1", "..", ".", "-x", ".hidden"])
def test_names_that_a_system_reserves_are_not_file_names(name):
    assert "~" in wording.slug(name)


def test_plain_names_stay_readable_in_the_address():
    assert wording.slug("trades-digits-cnn-smoke-s0") == "trades-digits-cnn-smoke-s0"


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_the_command_survives_a_shell_whatever_the_name(name):
    words = shlex.split(wording.reproduce(standing(checkpoint=record(name))))
    assert words[:2] == ["harness", "eval"]
    assert words.count(name) >= 1
    assert not name.startswith("-") or words[words.index("--") + 1 :] == [name]


@pytest.mark.parametrize(
    ("count", "total", "percent", "interval"),
    [
        (105, 200, "52.5", "45.6–59.3"),
        (592, 1000, "59.2", "56.1–62.2"),
        (5199, 10000, "51.99", "51.01–52.97"),
        (0, 200, "0.0", "0.0–1.9"),
        (0, 0, "–", ""),
    ],
)
def test_rates_read_with_as_many_decimals_as_the_images_fill(count, total, percent, interval):
    one = rate(count, total)
    assert (wording.percent(one), wording.interval(one)) == (percent, interval)


@pytest.mark.parametrize(
    ("key", "text", "href"),
    [
        ("arxiv", "1901.08573", "https://arxiv.org/abs/1901.08573"),
        ("arxiv", "cs.LG/0701001", "https://arxiv.org/abs/cs.LG/0701001"),
        ("arxiv", "1901.08573/../../evil", ""),
        ("code", "https://example.org/a", "https://example.org/a"),
        ("code", "http://example.org/a", ""),
        ("code", "javascript:alert(1)", ""),
        ("code", " https://example.org", ""),
        ("title", "1901.08573", ""),
    ],
)
def test_only_arxiv_numbers_and_plain_https_become_links(key, text, href):
    assert wording.link(key, text) == href


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.25, "4.2 s"), (83.4, "1 min 23 s"), (3600, "1 h 00 min"), (34_000, "9 h 26 min")],
)
def test_durations_read_in_the_unit_a_person_would_use(seconds, text):
    assert wording.duration(seconds) == text


def test_a_model_that_shows_nothing_but_logits_is_not_said_to_be_attacked_everywhere() -> None:
    bare = standing(checkpoint=record(kind="added", capabilities=Capabilities(10)))
    assert wording.evidence(bare) == "adaptive on final logits, all that the model exposes"
    gated = standing(
        checkpoint=record(kind="added", capabilities=Capabilities(10, auxiliary=2, select=True))
    )
    assert wording.evidence(gated) == "adaptive"


@pytest.mark.parametrize(
    ("name", "suite", "words", "evidence"),
    [
        ("", "query", "the standard protocol is not complete", "no suite complete"),
        ("", "standard_quick", "the standard protocol is not complete", "reduced standard only"),
        ("", "adaptive_quick", "the standard protocol is not complete", "adaptive, but reduced"),
        ("E1", "standard", "standard only", "standard only"),
        ("E1", "adaptive", "adaptive too, but not all of E2", "adaptive"),
        (
            *("E2", "standard", "also queries, transfer and diagnostics"),
            "standard, queries and transfer",
        ),
        ("E3", "adaptive", "adaptive complete", "adaptive"),
        ("E4", "adaptive", "independent re-run", "adaptive"),
    ],
)
def test_a_level_in_words_never_contradicts_what_was_run(name, suite, words, evidence):
    row = standing(level=name, protocols=(f"{suite}-1",), is_adaptive=suite.startswith("adaptive"))
    assert (wording.level(row), wording.evidence(row)) == (words, evidence)


def test_a_row_that_is_unranked_for_being_random_still_asks_for_what_it_had() -> None:
    row = standing(rank=None, is_adaptive=False, protocols=("standard-1",))
    assert "--adaptive" not in wording.reproduce(row)
    assert "--adaptive" in wording.reproduce(replace(row, protocols=("query-1",)))
    reduced = wording.reproduce(replace(row, protocols=("standard_quick-1",)))
    assert "--protocol standard_quick" in reduced


def test_the_command_for_diagnostics_names_the_same_threat_model_and_dataset() -> None:
    row = standing("-rf", dataset="other")
    assert wording.diagnose(row) == (
        "harness diagnose --dataset other --norm linf --epsilon 1/5 -- -rf"
    )


def test_the_command_names_the_dataset_where_it_is_not_the_checkpoint_s_own() -> None:
    assert "--dataset" not in wording.reproduce(standing())
    assert "--dataset other" in wording.reproduce(standing(dataset="other"))


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.021, "+2.1"), (-0.021, "−2.1"), (0.0, "0.0"), (0.0001, "0.0"), (-0.0001, "0.0")],
)
def test_a_difference_has_its_sign_unless_it_reads_as_zero(difference, text):
    assert wording.signed_points(difference) == text


def test_the_command_names_the_precision_of_the_protocol_that_rules_the_row() -> None:
    row = standing()
    assert "--precision" not in wording.reproduce(row)
    assert "--precision folded" in wording.reproduce(replace(row, precision="folded"))
