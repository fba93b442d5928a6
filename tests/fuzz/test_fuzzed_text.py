"""Text that a person or a paper wrote: read to what it says, or refused in a sentence."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction

import pytest
import yaml
from fuzzing import VALUES, WORDS, damaged, efforts, fuzz, spliced
from hypothesis import strategies as st

from harness.attacks.attack import ATTACKS, parse_attack, parse_value
from harness.attacks.surface_text import SURFACES
from harness.cards import parse_card
from harness.claims.checks import problems
from harness.claims.table import COLUMNS, claims, parse, render
from harness.cli.options import parse_settings
from harness.errors import HarnessError
from harness.printable import printable
from harness.threat import NORMS, ThreatModel, format_fraction, parse_fraction

PARAMETERS = sorted({key for name in ATTACKS for key in ATTACKS[name].parameters})


@efforts(600)
def test_settings_mean_the_same_when_they_are_written_again(effort):
    def check(texts):
        found = parse_settings(texts)
        assert len(found) == len(texts)
        assert parse_settings([f"{key}={value}" for key, value in found.items()]) == found
        assert all(math.isfinite(v) for v in found.values() if not isinstance(v, str))
        assert all(key == key.strip() and key for key in found)

    setting = spliced("beta", "=", "6", "1.5", "true", "-", ".", "e5", "+", "1")
    fuzz(effort, check, texts=st.lists(setting, max_size=3))


@efforts(1500)
def test_an_attack_is_the_same_when_all_of_it_is_written_out(effort):
    def check(text):
        spec = parse_attack(text)
        said = {"surface": spec.surface, "loss": spec.loss, **dict(spec.parameters)}
        if spec.loss == "own":
            del said["loss"]
        pairs = ",".join(f"{key}={value}" for key, value in said.items())
        assert parse_attack(f"{spec.attack}({pairs})") == spec
        assert spec.attack in ATTACKS
        assert set(dict(spec.parameters)) - {"eot"} == set(ATTACKS[spec.attack].parameters)

    words = ("(", ")", ",", "=", "surface", "loss", *ATTACKS, *SURFACES, *PARAMETERS)
    values = ("1", "3", "0.5", "true", "ce", "margin", "dlr", "(0)", "eot")
    setting = st.tuples(
        st.sampled_from(("surface", "loss", "eot", *PARAMETERS)),
        st.one_of(st.sampled_from((*values, *SURFACES)), WORDS),
    ).map("=".join)
    call = st.tuples(st.sampled_from(list(ATTACKS)), st.lists(setting, max_size=3)).map(
        lambda parts: f"{parts[0]}({','.join(parts[1])})"
    )
    deep = st.integers(1, 3000).map(lambda depth: f"pgd(surface={'gate(' * depth}")
    fuzz(effort, check, text=st.one_of(call, call, spliced(*words, *values), deep))


@efforts(1500)
def test_a_fraction_is_exactly_what_was_written(effort):
    def check(text):
        found = parse_fraction(text)
        top, _, bottom = text.strip().partition("/")
        assert found == Fraction(top) / Fraction(bottom or 1)
        assert found >= 0
        assert parse_fraction(format_fraction(found)) == found
        assert text.isascii() or not text.strip().isascii() or text.strip() != text

    fuzz(effort, check, text=spliced("8", "/", "255", "0", ".", "031", "1", "-", "e", "9", most=8))


@efforts(500)
def test_a_threat_model_is_one_that_the_pixels_allow(effort):
    def check(norm, epsilon):
        found = ThreatModel.parse(norm, epsilon)
        assert found.norm in (*NORMS, "corruption")
        assert found.epsilon >= 0
        assert found.norm != "linf" or found.epsilon <= 1
        assert found.norm != "corruption" or found.epsilon in {1, 2, 3, 4, 5}
        assert ThreatModel.parse(*str(found).split()) == found

    norms = st.one_of(st.sampled_from(["linf", "l2", "corruption"]), WORDS)
    fuzz(effort, check, norm=norms, epsilon=spliced("8", "/", "255", "0", ".", "5", "1", most=5))


@efforts(300)
def test_claims_are_the_same_when_they_are_written_again(effort):
    lines = render(claims()[:2]).splitlines()
    cells = (*lines[1].split(","), ",", "\n", '"', '""', "\r", "1.5")

    def check(start, rest):
        text = f"{start}\n{rest}"
        found = parse(text)
        assert parse(render(found)) == found
        assert isinstance(problems(found), list)

    row = st.lists(WORDS, min_size=len(COLUMNS), max_size=len(COLUMNS)).map(",".join)
    body = st.one_of(row, spliced(*cells), st.just("\n".join(lines[1:])))
    fuzz(effort, check, start=st.one_of(st.just(lines[0]), WORDS), rest=body)


PAPER = ("title", "authors", "venue", "year", "arxiv", "url")


def check_card(content: bytes) -> None:
    found = parse_card(content)
    assert set(found) <= {*PAPER, "extra_data", "note"}
    assert all(type(text) is str and text and printable(text) == text for text in found.values())
    assert found.get("url", "http://").startswith(("http://", "https://"))
    assert 1950 <= int(found.get("year", "2000")) <= 2100
    assert sum(map(len, found.values())) < 8000
    card = {key: text for key, text in found.items() if key not in PAPER}
    card["paper"] = {key: text for key, text in found.items() if key in PAPER}
    if "year" in found:
        card["paper"]["year"] = int(found["year"])
    written = yaml.safe_dump(card, allow_unicode=True).encode()
    assert parse_card(written) == found


@efforts(500)
def test_a_card_says_the_same_when_it_is_written_again(effort):
    names = ("note: ", "extra_data: ", *(f"paper:\n  {key}: " for key in PAPER))
    marks = ("\n", "- ", ": ", "&a ", "*a", "!!python/name:os.system ", "? ", "<<: ", "---\n", "{")
    values = (
        "2019",
        "a title",
        "'x'",
        '"\\ud800"',
        "https://example.org/x",
        "1706.06083",
        "|\n  a",
    )
    line = st.tuples(
        st.sampled_from((*names, *names, *marks)), st.one_of(st.sampled_from(values), WORDS)
    ).map(lambda parts: f"{parts[0]}{parts[1]}\n")
    text = st.lists(line, max_size=4).map("".join)
    fuzz(effort, check_card, content=text.map(lambda one: one.encode("utf-8", "surrogatepass")))


@efforts(250)
def test_a_card_of_any_values_is_read_or_refused(effort):
    entry = st.one_of(VALUES, st.just("words"), st.just(2019), st.just("https://example.org"))
    paper = st.dictionaries(st.one_of(st.sampled_from(PAPER), WORDS), entry, max_size=4)
    keys = st.sampled_from(["note", "extra_data", "paper"])
    card = st.dictionaries(st.one_of(keys, WORDS), st.one_of(paper, entry), max_size=3)

    def check(value):
        with contextlib.suppress(yaml.YAMLError, UnicodeError, ValueError):
            check_card(yaml.dump(value).encode())

    fuzz(effort, check, value=card)


@efforts(400)
def test_a_damaged_card_is_read_or_refused(effort):
    whole = b"paper: {title: A title, year: 2019, url: 'https://example.org'}\nnote: |\n  Words.\n"
    fuzz(effort, check_card, content=st.one_of(damaged(whole), damaged(b"note: A note.")))


@pytest.mark.parametrize("text", ["1_000", "\uff11", "\u0663", "1" * 3000, "0x10", "1e", "."])
def test_what_only_looks_like_a_number_is_a_word(text):
    assert parse_value(text) == text


def test_text_beyond_every_use_is_refused_before_it_is_read():
    with pytest.raises(HarnessError, match="write at most 2000"):
        parse_attack(f"pgd(surface={'gate(' * 3000}")
    with pytest.raises(HarnessError, match="is no epsilon"):
        parse_fraction(f"{'1' * 31}/{'1' * 31}")
