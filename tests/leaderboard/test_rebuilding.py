"""Nothing is drawn twice, nothing stale stays, and nobody builds over somebody else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from synthetic_boards import CIFAR, IMAGES, board, corrupted, finding, rate, record, standing

from harness.errors import HarnessError
from harness.identity import Claim
from leaderboard import addresses
from leaderboard import site as site_module
from leaderboard.material import Material
from leaderboard.pages import Draft
from leaderboard.publishing import MANIFEST, held
from leaderboard.site import build, render


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def stamps(folder: Path) -> dict[str, int]:
    """Which file each is: a file that is written again is another one."""
    return {
        str(path.relative_to(folder)): path.stat().st_ino
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def test_a_second_build_draws_nothing(material, tmp_path):
    first = build(material, tmp_path)
    assert first.drawn == first.files == len(contents(tmp_path))
    before = stamps(tmp_path)
    again = build(material, tmp_path)
    assert (again.drawn, again.files) == (0, first.files)
    assert stamps(tmp_path) == before


def test_a_changed_row_leaves_the_files_of_other_boards_and_checkpoints_alone(boards, tmp_path):
    build(Material(boards=boards), tmp_path)
    before = stamps(tmp_path)
    (cifar,) = boards[1].standings
    changed = replace(boards[1], standings=(replace(cifar, robust=rate(90, 200)),))
    built = build(Material(boards=[boards[0], changed]), tmp_path)
    rewritten = {name for name, one in stamps(tmp_path).items() if before.get(name) != one}
    assert built.drawn == len(rewritten)
    assert {
        addresses.HOME,
        addresses.board_page(changed),
        addresses.board_page(changed, "csv"),
        addresses.board_page(changed, "json"),
        addresses.checkpoint_page(cifar.checkpoint),
    } <= rewritten
    others = {addresses.board_page(boards[0], suffix) for suffix in ("html", "csv", "json")}
    others |= {addresses.checkpoint_page(row.checkpoint) for row in boards[0].standings}
    others |= {"style.css", "board.js", addresses.READING, addresses.MUSEUM}
    assert not others & rewritten


CLAIM = Claim(
    *("ancra_iclr", "table_1", "digits", "digits_resnet", "trades", "robust_accuracy"),
    *("pgd", "40", "white_box", "", "1/5", "linf", "61.50", "percent"),
)


@pytest.mark.parametrize(
    "change",
    ["number", "name", "finding", "corruption", "claim", "another row", "footer", "attack"],
)
def test_no_file_of_an_earlier_build_is_stale(boards, tmp_path, change):
    """What is built over an older site is what is built into an empty folder."""
    first, *rest = boards[0].standings
    rows = {
        "number": replace(first, clean=rate(77, 200)),
        "name": replace(first, checkpoint=replace(first.checkpoint, name="renamed")),
        "finding": replace(first, findings=(finding("D02", "red"),)),
        "attack": replace(first, attacks=first.attacks[:-1]),
    }
    standings = (rows.get(change, first), *rest)
    if change == "another row":
        standings = (*standings, standing("one-more", rank=(6, 6)))
    material = Material(
        boards=[replace(boards[0], standings=standings), boards[1]],
        corruptions=[corrupted(first.checkpoint)] if change == "corruption" else [],
        claims=[CLAIM] if change == "claim" else [],
        generated="later" if change == "footer" else "",
    )
    build(Material(boards=boards), tmp_path)
    assert build(material, tmp_path).drawn > 0
    assert contents(tmp_path) == render(material)


@pytest.mark.parametrize("name", ["index.html", "board.js", "style.css"])
@pytest.mark.parametrize("damage", ["deleted", "changed", "emptied"])
def test_a_damaged_or_deleted_file_is_drawn_again_and_only_that(material, tmp_path, name, damage):
    build(material, tmp_path)
    whole = contents(tmp_path)
    if damage == "deleted":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(b"" if damage == "emptied" else whole[name] + b" ")
    assert build(material, tmp_path).drawn == 1
    assert contents(tmp_path) == whole


def test_a_manifest_that_is_gone_makes_every_file_foreign(material, tmp_path):
    build(material, tmp_path)
    (tmp_path / MANIFEST).unlink()
    before = stamps(tmp_path)
    with pytest.raises(HarnessError, match="was not written by this program"):
        build(material, tmp_path)
    assert stamps(tmp_path) == before


@pytest.mark.parametrize("name", ["日本", "---", "ÅÄÖ", "../x", "a" * 300])
def test_a_checkpoint_of_any_name_is_known_as_ours_in_the_next_build(tmp_path, name):
    material = Material(boards=[board(standing(checkpoint=record(name)))])
    first = build(material, tmp_path)
    again = build(material, tmp_path)
    assert (again.drawn, again.files) == (0, first.files)
    build(Material(), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_two_builds_at_once_are_refused_and_the_first_is_not_harmed(material, tmp_path):
    build(material, tmp_path)
    before = stamps(tmp_path)
    with held(tmp_path), pytest.raises(HarnessError, match="another build is writing to"):
        build(Material(), tmp_path)
    assert stamps(tmp_path) == before
    assert build(material, tmp_path).drawn == 0


def test_a_build_of_another_process_that_died_does_not_lock_the_folder(material, tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from leaderboard.publishing import held\n"
        "with held(Path(sys.argv[1])): os._exit(1)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert run.returncode == 1
    assert build(material, tmp_path).index.is_file()


# what a draft may turn out to be


@dataclass
class Drawer:
    """A draft that counts how often it is asked, and gives no file at first."""

    asked: int = 0
    content: bytes | None = None

    def make(self) -> bytes | None:
        self.asked += 1
        return self.content


def with_draft(monkeypatch: pytest.MonkeyPatch, drawer: Drawer, facts: str) -> None:
    home = Draft(addresses.HOME, "", lambda: b"home")
    drafts = [home, Draft("checkpoints/sheet.png", facts, drawer.make)]
    monkeypatch.setattr(site_module, "all_drafts", lambda material: drafts)


def test_what_turned_out_to_be_no_file_is_not_asked_for_again(monkeypatch, tmp_path):
    drawer = Drawer()
    with_draft(monkeypatch, drawer, "nothing yet")
    first = build(Material(), tmp_path)
    assert build(Material(), tmp_path).files == first.files
    assert drawer.asked == 1
    drawer.content = b"now"
    with_draft(monkeypatch, drawer, "a gallery")
    built = build(Material(), tmp_path)
    assert (built.drawn, built.files) == (1, first.files + 1)
    assert (tmp_path / "checkpoints" / "sheet.png").read_bytes() == b"now"
    drawer.content = None
    with_draft(monkeypatch, drawer, "gone")
    assert build(Material(), tmp_path).files == first.files
    assert not (tmp_path / "checkpoints" / "sheet.png").exists()


def test_a_foreign_file_where_there_was_none_of_ours_is_kept(monkeypatch, tmp_path):
    drawer = Drawer()
    with_draft(monkeypatch, drawer, "nothing yet")
    build(Material(), tmp_path)
    sheet = tmp_path / "checkpoints" / "sheet.png"
    sheet.parent.mkdir()
    sheet.write_text("mine")
    drawer.content = b"now"
    with_draft(monkeypatch, drawer, "a gallery")
    with pytest.raises(HarnessError, match="was not written by this program"):
        build(Material(), tmp_path)
    assert sheet.read_text() == "mine"


def test_a_template_that_is_missing_is_a_bug_and_not_blamed_on_the_folder(monkeypatch, tmp_path):
    draft = Draft(addresses.HOME, "", object, "nowhere.html")
    monkeypatch.setattr(site_module, "all_drafts", lambda material: [draft])
    with pytest.raises(Exception, match=r"nowhere\.html") as raised:
        build(Material(), tmp_path)
    assert not isinstance(raised.value, HarnessError)


# code and templates


@pytest.mark.parametrize("name", ["pages/board.py", "templates/page.html", "static/style.css"])
def test_other_code_and_other_templates_draw_every_page_anew(monkeypatch, tmp_path, name):
    names = ("pages/board.py", "templates/page.html", "static/style.css", "cache.pyc")
    copy = dict.fromkeys(names, b"one")
    before = digest_of(monkeypatch, tmp_path / "before", copy)
    assert digest_of(monkeypatch, tmp_path / "same", copy) == before
    assert digest_of(monkeypatch, tmp_path / "after", {**copy, name: b"two"}) != before
    assert digest_of(monkeypatch, tmp_path / "cache", {**copy, "cache.pyc": b"two"}) == before


def digest_of(monkeypatch: pytest.MonkeyPatch, folder: Path, files: Mapping[str, bytes]) -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    monkeypatch.setattr(site_module, "_CODE", (folder,))
    return site_module.code_digest.__wrapped__()


def test_the_digest_of_the_code_covers_pages_templates_and_standings():
    covered = {
        path
        for folder in site_module._CODE
        for path in folder.rglob("*")
        if path.suffix in {".py", ".html", ".css", ".js", ".json"}
    }
    names = {f"{path.parent.name}/{path.name}" for path in covered}
    assert {"leaderboard/wording.py", "leaderboard/texts.json"} <= names
    assert {"templates/board.html", "static/board.js", "standings/row.py"} <= names
    assert {"harness/printable.py", "harness/statistics.py", "harness/corruptions.py"} <= names


def test_another_digest_of_the_code_draws_every_file_again(monkeypatch, material, tmp_path):
    first = build(material, tmp_path)
    monkeypatch.setattr(site_module, "code_digest", lambda: "another version")
    assert build(material, tmp_path).drawn == first.files


# one board alone


def test_one_board_alone_has_its_checkpoints_and_no_others(boards, material, tmp_path):
    slug = material.slug_of("cifar10")
    only = material.cut_down_to(slug)
    folder = build(only, tmp_path).index.parent
    assert slug == addresses.board_slug(boards[1])
    assert {path.stem for path in (folder / "boards").glob("*.html")} == {slug}
    assert {path.stem for path in (folder / "checkpoints").glob("*.html")} == {
        "trades-cifar10-resnet18-reduced-s0"
    }
    assert build(only, tmp_path).drawn == 0


def test_one_board_alone_is_not_built_over_the_whole_site(material, tmp_path):
    build(material, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(HarnessError, match=r"holds a site of every board.*choose another --out"):
        build(material.cut_down_to(material.slug_of("digits")), tmp_path)
    assert contents(tmp_path) == before


def test_one_board_is_not_built_over_another_but_the_whole_over_one(material, tmp_path):
    build(material.cut_down_to(material.slug_of("digits")), tmp_path)
    with pytest.raises(HarnessError, match="holds a site of the board 'digits"):
        build(material.cut_down_to(material.slug_of("cifar10")), tmp_path)
    build(material, tmp_path)
    assert contents(tmp_path) == render(material)


def test_a_board_is_named_by_its_slug_or_by_a_dataset_that_has_one_only(boards):
    l2 = board(standing(threat=CIFAR), threat=CIFAR)
    material = Material(boards=[*boards, l2])
    assert material.slug_of(addresses.board_slug(l2)) == addresses.board_slug(l2)
    with pytest.raises(HarnessError, match="'digits' has 2 boards: choose one of digits-"):
        material.slug_of("digits")
    with pytest.raises(HarnessError, match="no board named 'cifar'"):
        material.slug_of("cifar")


def test_boards_of_other_images_have_other_addresses():
    ours, others = board(standing()), replace(board(standing()), images="7" * 64)
    assert addresses.board_slug(ours) == f"digits-linf-1-5-{IMAGES[:8]}"
    assert addresses.board_slug(others) != addresses.board_slug(ours)


def test_a_name_that_two_records_share_by_case_has_two_pages():
    rows = (standing(checkpoint=record("A")), standing(checkpoint=record("a")))
    files = render(Material(boards=[board(*rows)]))
    assert len([name for name in files if name.startswith("checkpoints/")]) == 2
