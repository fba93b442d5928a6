"""Model cards: what a person says of a model, read without building what YAML may ask for."""

from __future__ import annotations

import time

import pytest
import yaml

from harness import cards
from harness.cards import DEEPEST, LARGEST_FILE, MOST_NODES, parse_card, read_card
from harness.errors import HarnessError

WHOLE = """
paper:
  title: "Robust: a title"
  authors: Ann Author and Bob Writer
  venue: ICML
  year: 2024
  arxiv: "2401.01234"
  url: https://example.org/paper?id=1
extra_data: 1M generated images
note: |
  Two lines,
  as they are.
"""


def test_a_card_is_flat_text_for_the_record(tmp_path):
    (tmp_path / "card.yaml").write_text(WHOLE)
    assert read_card(tmp_path / "card.yaml") == {
        "title": "Robust: a title",
        "authors": "Ann Author and Bob Writer",
        "venue": "ICML",
        "year": "2024",
        "arxiv": "2401.01234",
        "url": "https://example.org/paper?id=1",
        "extra_data": "1M generated images",
        "note": "Two lines,\nas they are.",
    }


def test_json_is_a_card_too():
    assert parse_card(b'{"paper": {"title": "A", "year": 2020}, "note": "b"}') == {
        "title": "A",
        "year": "2020",
        "note": "b",
    }


def laughs():
    lines = ['a: &a0 ["lol", "lol"]']
    lines += [f"b{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (laughs(), "an anchor or an alias"),
        ("note: &a x", "an anchor or an alias"),
        ("note: *a", "an anchor or an alias|no YAML"),
        ("note: !!python/object/apply:os.system ['touch owned']", "it has a tag"),
        ("!!python/name:os.system x", "it has a tag"),
        ("note: !!str x", "it has a tag"),
        ("note: ! x", "it has a tag"),
        ("note: !include /etc/passwd", "it has a tag"),
        ("note: a\nnote: b", "it has 'note' twice"),
        ("paper: {title: a, title: b}", "it has 'title' twice"),
        ("<<: {note: a}", "no text"),
        ("1: a", "no text"),
        ("? [a]\n: b", "no text"),
        ("notes: a", "no entry of a card named 'notes'. Did you mean 'note'"),
        ("paper: {titel: a}", "no entry of a paper named 'titel'. Did you mean 'title'"),
        ("paper: a", "entries by name: title, authors"),
        ("- a", "entries by name: paper"),
        ("", "entries by name"),
        ("paper:", "entries by name"),
        ("note: 5", "note must be text"),
        ("note: yes", "note must be text"),
        ("note: 2020-01-01", "note must be text"),
        ("note: [a]", "note must be text"),
        ("note: ''", "note has 0 characters"),
        (f"note: {'x' * 5001}", "note has 5001 characters"),
        (f"extra_data: {'x' * 501}", "extra_data has 501"),
        ('paper: {title: "a\\nb"}', "cannot be shown on one line"),
        ('note: "a\\e[2J"', "cannot be shown"),
        ('note: "\\u202egnp"', "cannot be shown"),
        ('note: "\\ud800"', "cannot be shown"),
        ("paper: {year: '2020'}", "year must be a whole number"),
        ("paper: {year: 20.5}", "year must be a whole number"),
        ("paper: {year: 12345678901}", "year must be a whole number"),
        ("paper: {year: 1949}", "year must be a whole number"),
        ("paper: {url: 'javascript:alert(1)'}", "an address like https"),
        ("paper: {url: 'data:text/html,x'}", "an address like https"),
        ("paper: {url: 'ftp://example.org'}", "an address like https"),
        ("paper: {url: 'https://user@example.org/'}", "an address like https"),
        ("paper: {url: 'https://example.org/\"><script>'}", "an address like https"),
        ("paper: {url: 'https://ex\u0430mple.org/'}", "an address like https"),
        ("paper: {arxiv: 'https://arxiv.org/abs/1'}", "its id alone"),
        ("note: a\n---\nnote: b", "no YAML"),
        ("note: [", "no YAML"),
        ("note: \x00", "no YAML"),
        ("{a: " * 9, f"over {DEEPEST} deep"),
        ("- a\n" * MOST_NODES, f"over {MOST_NODES} entries"),
        ("[" * 60_000, f"over {DEEPEST} deep"),
    ],
)
def test_what_is_no_card_is_refused_in_a_sentence(text, reason):
    began = time.monotonic()
    with pytest.raises(HarnessError, match=reason):
        parse_card(text.encode())
    assert time.monotonic() - began < 20


def test_bytes_that_are_no_text_are_refused():
    for content in (b"note: \xff", "note: a".encode("utf-16")):
        with pytest.raises(HarnessError, match="no YAML"):
            parse_card(content)


def test_a_large_file_is_not_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "card.yaml"
    with path.open("wb") as file:
        file.truncate(2**33)
    monkeypatch.setattr(yaml, "parse", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(HarnessError, match="above 64 KiB"):
        read_card(path)
    assert LARGEST_FILE == 64 * 1024


def test_a_card_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(HarnessError, match=r"the card .*missing cannot be read"):
        read_card(tmp_path / "missing")
    with pytest.raises(HarnessError, match="cannot be read"):
        read_card(tmp_path)


def test_nothing_is_built_before_the_events_are_judged(monkeypatch):
    monkeypatch.setattr(cards.yaml, "compose", lambda *_: pytest.fail("it was built"))
    with pytest.raises(HarnessError, match="alias"):
        parse_card(laughs().encode())
