"""What the site says of defenses, attacks and diagnostics is what their registries say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.attacks.attack import ATTACKS
from harness.attacks.losses import LOSSES
from harness.attacks.surface_text import SURFACES
from harness.catalogue import DEFENSES, QUOTED
from harness.claims import claims
from harness.cli.site_texts import site_texts
from harness.diagnostics.diagnostic import DIAGNOSTICS
from harness.museum.exhibit import EXHIBITS
from harness.standings.levels import TITLES
from leaderboard.texts import FILE, published, texts, without_codes


def test_the_file_is_what_the_registries_give_byte_for_byte():
    assert FILE.read_text("utf-8") == site_texts(), "run `make reference`"


def test_nothing_that_is_registered_is_left_out():
    said = texts()
    assert set(said.defenses) == {*DEFENSES, *QUOTED}
    assert set(said.attacks) == set(ATTACKS)
    assert set(said.diagnostics) == set(DIAGNOSTICS)
    assert set(said.exhibits) == set(EXHIBITS)
    assert set(said.surfaces) == set(SURFACES)
    assert set(said.losses) == set(LOSSES)


def test_every_entry_says_something():
    said = texts()
    entries = (*said.defenses.values(), *said.attacks.values(), *said.exhibits.values())
    assert [one.name for one in entries if not one.description.strip()] == []
    assert [name for name, text in said.surfaces.items() if not text.strip()] == []
    assert [name for name, text in said.losses.items() if not text.strip()] == []


def test_diagnostics_are_called_the_same_here_and_in_the_standings():
    assert {one.id: one.title for one in texts().diagnostics.values()} == TITLES


def test_a_baseline_is_built_on_a_defense_that_exists():
    said = texts()
    assert {base for base in said.baselines.values() if base not in said.defenses} == set()


def test_exhibits_name_diagnostics_that_exist():
    named = {identity for one in texts().exhibits.values() for identity in one.catches}
    assert named <= set(texts().diagnostics)


def test_every_defense_of_a_published_figure_has_a_text():
    assert {claim.defense for claim in claims()} - set(texts().defenses) == set()


def test_reading_the_file_imports_no_torch():
    code = "import sys, leaderboard.texts as t; t.texts(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_field_that_the_loader_does_not_know_is_an_error_and_not_ignored():
    entry = json.loads(FILE.read_text("utf-8"))["attacks"][0]
    with pytest.raises(TypeError, match="colour"):
        type(texts().attacks[entry["name"]])(**entry, colour="red")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("final logits as deployed (A0)", "final logits as deployed"),
        ("soft one backward (A4, A11)", "soft one backward"),
        ("as one vector of logits (RA-S9)", "as one vector of logits"),
        ("by 12 digits of its digest (transfer)", "by 12 digits of its digest (transfer)"),
        ("a gate (A4) in the middle", "a gate (A4) in the middle"),
    ],
)
def test_codes_at_the_end_of_a_description_are_dropped(text, words):
    assert without_codes(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("protocol.md section 5", ""),
        ("Pintor et al., 2022; protocol.md section 5", "Pintor et al., 2022"),
        ("attacks.md 9.1; Wu et al., 2020, section 2", "Wu et al., 2020, section 2"),
        ("Croce and Hein, 2020, section 5", "Croce and Hein, 2020, section 5"),
    ],
)
def test_only_sources_that_a_reader_can_open_are_shown(text, words):
    assert published(text) == words


def test_no_text_of_the_pages_refers_to_an_internal_document():
    said = texts()
    meanings = [*said.surfaces.values(), *said.losses.values(), *said.protocols.values()]
    sources = [one.source for one in (*said.attacks.values(), *said.diagnostics.values())]
    described = (*said.defenses.values(), *said.diagnostics.values(), *said.exhibits.values())
    words = [*meanings, *sources, *(one.description for one in described)]
    assert [text for text in words if ".md" in text or without_codes(text) != text] == []
