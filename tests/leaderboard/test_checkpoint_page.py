"""The page of a checkpoint: every part in place, every link to something, nothing drawn twice."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from page_reader import read
from synthetic_boards import attack, board, failed, record, standing
from synthetic_panels import MEASUREMENTS, Full, attacked_gallery, clean_gallery, detailed, full

from harness.identity import CORRECT, Capabilities
from leaderboard import addresses
from leaderboard.material import Empty, Material
from leaderboard.pages.checkpoint import checkpoint
from leaderboard.site import build, render

PAGE = addresses.checkpoint_page(detailed().checkpoint)
SHEET = addresses.sheet(detailed().checkpoint, 1)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A site with the page of which everything is known."""
    return render(full())


@pytest.fixture(scope="module")
def parsed(files):
    return read(files[PAGE])


def text_of(material: Material, path: str = PAGE) -> str:
    return " ".join(read(render(material)[path]).text.split())


def test_every_part_has_a_heading_and_stands_in_the_table_of_contents(parsed):
    anchors = [href[1:] for href in parsed.attributes("href", "a") if href.startswith("#")]
    ids = parsed.attributes("id")
    assert set(anchors) <= set(ids)
    parts = ("images", "progress", "surfaces", "heads", "epsilon", "classes", "transfer",
             "evidence", "diagnostics", "attacks", "again")  # fmt: skip
    assert {f"evaluation-1-{part}" for part in parts} <= set(anchors)
    assert {"corruptions-1", "features-1", "about", "curves", "provenance"} <= set(anchors)


def test_no_id_is_given_twice(parsed):
    ids = parsed.attributes("id")
    assert len(ids) == len(set(ids))
    wanted = [one for value in parsed.attributes("aria-labelledby") for one in value.split()]
    assert set(wanted) <= set(ids)


def test_headings_come_in_order(parsed):
    levels = [int(tag[1]) for tag in parsed.tags() if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert levels.count(1) == 1


def test_each_attack_links_to_its_page_and_the_row_to_its_board(parsed):
    links = parsed.attributes("href", "a")
    assert "../attacks/apgd_t.html" in links
    one = full().boards[0]
    assert f"../{addresses.board_page(one)}#{addresses.row_id(detailed().checkpoint)}" in links


def test_the_defense_links_to_its_family_and_a_new_combination_to_none(parsed):
    assert "../families/baseline.html" in parsed.attributes("href", "a")
    row = standing(checkpoint=record(defense="trades+awp+he"))
    page = read(render(Material(boards=[board(row)]))[addresses.checkpoint_page(row.checkpoint)])
    assert not [href for href in page.attributes("href", "a") if "/families/" in href]


def test_a_source_of_transfer_links_to_its_page(parsed):
    assert "../checkpoints/pgd_at-digits-cnn-smoke-s0.html" in parsed.attributes("href", "a")
    assert "surrogate(000000000000)" in parsed.text


def test_numbers_of_every_panel_are_on_the_page(parsed):
    text = " ".join(parsed.text.split())
    for said in (
        "−54 images apgd_ce@auxiliary(0):ce",
        "this board: 1/5",
        "that of class 3 (0.0 %)",
        "D13: more random starts",
        "Images that are wrong as they are but right on the last iterate of an attack.",
        "broken by 3 of 8 attacks: no. 1, 6–7",
        "gaussian noise",
        "Accuracy of the neighbours' vote.",
    ):
        assert said in text, said
    assert ["auxiliary(0)", "100.0", "99.5", "9.37", "0.841"] in parsed.rows


def test_corruptions_are_a_grid_of_severities(parsed):
    fog = next(row for row in parsed.rows if row and row[0].startswith("fog"))
    assert fog == ["fog weather", "72.5", "72.0", "71.5", "71.0", "70.5", "71.5"]


def test_what_is_not_there_is_a_quiet_sentence_with_its_command():
    bare = detailed(findings=(), checkpoint=record(detailed().checkpoint.name))
    text = text_of(full(boards=[board(bare)], archive=Empty(), corruptions=()))
    name = bare.checkpoint.name
    assert "No pictures are kept of this row. This keeps them" in text
    assert f"harness analyse {name}" in text
    assert "No analysis was run on this checkpoint" in text
    assert "nobody has asked yet how they agree" in text
    assert f"Not measured. harness diagnose {name}" in text
    plain = replace(bare, checkpoint=replace(bare.checkpoint, capabilities=Capabilities(10)))
    assert "neither auxiliary heads nor a gate" in text_of(
        full(boards=[board(plain)], archive=Empty())
    )


def test_a_row_that_failed_asks_the_archive_for_nothing():
    class Refusing(Empty):
        def insight(self, standing):
            raise AssertionError(standing)

        def gallery(self, standing):
            return None

    row = failed()
    files = render(Material(boards=[board(row)], archive=Refusing()))
    text = read(files[addresses.checkpoint_page(row.checkpoint)]).text
    assert "non_finite" in text
    assert "How the number fell" not in text


def test_the_sheet_is_there_exactly_where_pictures_are_kept(files, parsed):
    assert SHEET in files
    assert files[SHEET].startswith(b"\x89PNG")
    assert not [name for name in files if name.endswith(".png") and name != SHEET]
    shown = set(parsed.attributes("href", "image"))
    assert shown == {f"../{SHEET}"}


def test_the_same_material_gives_the_same_bytes(files):
    again = render(full())
    assert {name: again[name] for name in (PAGE, SHEET)} == {
        name: files[name] for name in (PAGE, SHEET)
    }


def drafts(material):
    return {draft.path: repr(draft.facts) for draft in checkpoint(material)}


def test_a_page_is_drawn_again_when_its_stamp_or_the_name_of_a_source_changes():
    before = drafts(full())
    digest = detailed().checkpoint.digest
    stamped = drafts(full(stamps={digest: "later"}))
    assert (stamped[PAGE] != before[PAGE], stamped[SHEET] != before[SHEET]) == (True, True)
    source = full().boards[0].standings[1]
    renamed = replace(source, checkpoint=replace(source.checkpoint, name="another"))
    assert drafts(full(boards=[board(detailed(), renamed)]))[PAGE] != before[PAGE]
    unrelated = replace(standing("stranger"), checkpoint=record("stranger", digest="ee" * 32))
    several = board(*full().boards[0].standings, unrelated)
    assert drafts(full(boards=[several]))[PAGE] == before[PAGE]


def test_what_is_on_disk_is_not_drawn_again(tmp_path):
    asked = []

    class Counting(Full):
        def measurements(self, record):
            asked.append(record.name)
            return super().measurements(record)

    material = full(archive=Counting(), stamps={detailed().checkpoint.digest: "one"})
    build(material, tmp_path)
    first = len(asked)
    build(material, tmp_path)
    assert first == 2
    assert len(asked) == first


def test_two_evaluations_have_fragments_and_sheets_of_their_own():
    row = detailed()
    other = replace(row, dataset="mnist", images="77" * 32)
    files = render(
        full(boards=[board(row), replace(board(other, dataset="mnist"), images="77" * 32)])
    )
    page = read(files[PAGE])
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {"evaluation-1-images", "evaluation-2-images"} <= set(ids)
    assert set(page.attributes("href", "image")) == {
        f"../{addresses.sheet(row.checkpoint, number)}" for number in (1, 2)
    }


def test_hostile_names_reach_the_page_as_text_alone():
    text = "<script>alert(1)</script>\"'>\u202e"
    row = detailed()
    classes = tuple(replace(one, name=text) for one in Full().insight(row).classes)
    found = replace(Full().insight(row), classes=classes, broken_by={0: (text,)})

    class Hostile(Full):
        def insight(self, _):
            return found

        def measurements(self, _):
            return [replace(one, on=text, note=text) for one in MEASUREMENTS]

        def gallery(self, _):
            clean = clean_gallery()
            return clean, replace(attacked_gallery(clean), attack=text)

    attacks = (replace(attack("x@logits:ce", CORRECT, 105, 105, 200), label=text, attack=text),)
    page = render(full(boards=[board(replace(row, attacks=attacks))], archive=Hostile()))[PAGE]
    assert b"<script>alert" not in page
    assert "\u202e".encode() not in page
    links = read(page).attributes("href", "a")
    attack_links = [href for href in links if href.startswith("../attacks/")]
    assert attack_links
    assert all(re.fullmatch(r"\.\./attacks/[a-z0-9~-]+\.html", href) for href in attack_links)


def test_a_page_of_120_attacks_and_everything_else_is_small_and_quick():
    many = tuple(
        attack(
            f"apgd_ce(steps={n})@auxiliary({n % 3}):ce", CORRECT, 192 - n // 2, 192 - n // 2, 200
        )
        for n in range(120)
    )
    material = full(boards=[board(detailed(attacks=many))])
    page = render(material)[PAGE]
    assert len(page) < 250_000
    draft = next(draft for draft in checkpoint(material) if draft.path == PAGE)
    took = []
    for _ in range(5):
        start = time.process_time()
        draft.make()
        took.append(time.process_time() - start)
    assert min(took) < 0.06
