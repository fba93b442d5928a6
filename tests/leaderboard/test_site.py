"""The site on disk: whole files, nothing foreign touched, hostile text harmless, small, fast."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import read
from synthetic_boards import attack, board, corrupted, failed, finding, rate, record, standing

from harness.errors import HarnessError
from harness.standings import Board, Standing
from leaderboard import addresses, publishing
from leaderboard import site as site_module
from leaderboard.material import Material
from leaderboard.pages import all_drafts
from leaderboard.publishing import MANIFEST
from leaderboard.site import build, render

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "../../etc/passwd",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title></table><base href=//evil.example>",
    "&lt;&amp;\x00\x1b[31m\u202e",
    "-rf --adaptive",
)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pages(folder: Path) -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in sorted(folder.rglob("*.html"))}


def hostile_board(text: str) -> Board:
    """A board on which everything that a person or a paper may write is `text`."""
    attacked = replace(attack("pgd@logits:ce", "correct", 120, 120, 200), label=text)
    attacked = replace(attacked, population=text, parameters={text: text}, knowledge=text)
    seen = finding("D01", "red", note=text, threshold=text)
    checkpoint = record(
        text,
        defense=text,
        architecture=text,
        scale=text,
        composition={text: text},
        settings={text: text},
        recipe={text: text},
        training={text: text},
        paper={"arxiv": text, "url": text, text: text},
        curves={text: (1.0, 0.5)},
        weights=text,
        model=text,
        created=text,
    )
    row = standing(
        checkpoint=checkpoint,
        dataset=text,
        attacks=(attacked,),
        protocols=(text,),
        last_lowered_by=text,
        lacking=(text,),
        findings=(seen, replace(seen, diagnostic=text)),
    )
    return board(row, failed(f"{text}!", message=text), dataset=text)


def render_with_corruptions(one: Board) -> dict[str, bytes]:
    """The site with everything that a person may write about corrupted images, too."""
    row, failing = one.standings
    about = replace(
        corrupted(row.checkpoint),
        dataset=row.dataset,
        made_by=row.dataset,
        failures=failing.failures,
    )
    return render(Material(boards=[one], corruptions=[about]))


def test_the_same_boards_give_the_same_bytes_in_any_folder(material, tmp_path):
    for name in ("one", "two", "two"):
        build(material, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_bytes_do_not_depend_on_hash_seeds(boards):
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]);"
        "from synthetic_boards import every_kind; from leaderboard.site import render;"
        "from leaderboard.material import Material;"
        "files = render(Material(boards=every_kind()));"
        "print(hashlib.sha256(repr(files).encode()).hexdigest())"
    )
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    run = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={**os.environ, "PYTHONHASHSEED": other},
        check=True,
        capture_output=True,
        text=True,
    )
    files = render(Material(boards=boards))
    here = hashlib.sha256(repr(files).encode()).hexdigest()
    assert run.stdout.strip() == here


def test_the_index_is_returned_and_every_checkpoint_has_a_page(material, tmp_path):
    index = build(material, tmp_path / "deep" / "site").index
    assert index == tmp_path / "deep" / "site" / "index.html"
    written = sorted(path.name for path in (index.parent / "checkpoints").glob("*.html"))
    assert len(written) == 8
    assert "trades_ancra-digits-cnn-smoke-s0.html" in written


def test_every_link_resolves_to_a_file_of_the_site_and_never_leaves_it(site):
    ids = {path: read(page).attributes("id") for path, page in pages(site).items()}
    assert ids
    for path, page in pages(site).items():
        parsed = read(page)
        local = [
            link
            for link in parsed.attributes("href") + parsed.attributes("src")
            if not link.startswith(("https://", "data:"))
        ]
        assert local
        for link in local:
            assert ":" not in link
            target, _, fragment = link.partition("#")
            resolved = (path.parent / target).resolve() if target else path
            assert resolved.is_relative_to(site.resolve())
            assert resolved.is_file()
            assert not fragment or fragment in ids[resolved]


def test_no_page_loads_anything_but_files_of_the_site(site):
    ours = {path.name for path in (Path(site_module.__file__).parent / "static").iterdir()}
    for page in pages(site).values():
        parsed = read(page)
        loaded = parsed.attributes("src") + parsed.attributes("href", "link", "script", "base")
        assert {link.rpartition("/")[2] for link in loaded if not link.startswith("data:")} <= ours
        assert all(link.endswith(".png") for link in parsed.attributes("href", "image"))
        for tag, attributes in parsed.elements:
            assert tag not in {"base", "iframe", "object", "embed", "form", "style", "img"}
            if (attributes.get("href") or "").startswith("https:"):
                assert tag == "a"
                assert "noopener" in (attributes["rel"] or "")
    for name in ours:
        text = (site / name).read_text("utf-8")
        assert not {"url(", "@import", "http://", "https://"} & {
            *re.findall(r"url\(|@import|https?://", text)
        }


def test_the_content_security_policy_comes_first_and_no_page_needs_anything_it_forbids(site):
    for page in pages(site).values():
        elements = read(page).elements
        (place,) = [
            number
            for number, (_, attributes) in enumerate(elements)
            if attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        policy = elements[place][1]["content"] or ""
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert "unsafe" not in policy
        assert not {"link", "script"} & {tag for tag, _ in elements[:place]}
        for _, attributes in elements:
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
        assert re.findall(r"<script(?! src=)", page) == []


def test_pages_are_whole_documents_with_landmarks_one_title_and_ordered_headings(site):
    for page in pages(site).values():
        assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
        tags = read(page).tags()
        for once in ("h1", "main", "header", "footer"):
            assert tags.count(once) == 1
        assert page.partition("</head>")[0].count("<title>") == 1
        levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        ids = read(page).attributes("id")
        assert len(ids) == len(set(ids))
        assert tags.count("table") == tags.count("caption")


def structures(files: dict[str, bytes]) -> list[list[str]]:
    """The elements of every page, whatever the pages are called."""
    found = (
        (name.partition("/")[0] if "/" in name else name, page) for name, page in files.items()
    )
    return sorted(
        [folder, *read(page).tags()] for folder, page in found if page[:9] == b"<!DOCTYPE"
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text_and_adds_no_element(text):
    harmless, files = (render_with_corruptions(hostile_board(t)) for t in ("harmless", text))
    assert len(files) == len(harmless)
    for name in files:
        assert re.fullmatch(r"([a-z]+/)?[a-z0-9._~-]+", name)
        assert "/../" not in f"/{name}"
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    assert structures(files) == structures(harmless)
    for folder in ("index.html", "boards/", "checkpoints/"):
        for page in (page for name, page in files.items() if name.startswith(folder)):
            if page[:9] == b"<!DOCTYPE":
                parsed = read(page)
                assert shown.split()[0] in parsed.text
                assert "\u202e" not in parsed.text
                assert not [link for link in parsed.attributes("href") if "javascript" in link[:12]]


def pages_of_rows(material: Material) -> dict[str, bytes]:
    """Every page that rows can change."""
    same = ("reading", "museum", "claims", "studies")
    drafts = [draft for draft in all_drafts(material) if not draft.path.startswith(same)]
    return {name: page for name, page in site_module._render(drafts).items() if page is not None}


@given(text=st.text(min_size=1, max_size=40))
@settings(max_examples=15)
def test_no_text_at_all_changes_the_structure_of_a_page(text):
    row, other = (standing(checkpoint=record(f"n{t}", defense=f"d{t}")) for t in (text, ""))
    found, plain = (pages_of_rows(Material(boards=[board(one)])) for one in (row, other))
    assert structures(found) == structures(plain)


def test_rebuilding_removes_only_pages_that_the_site_wrote(boards, site):
    notes = site / "notes.txt"
    notes.write_text("mine")
    (site / "checkpoints" / "mine.html").write_text("mine too")
    build(Material(boards=boards[1:]), site)
    left = {path.name for path in (site / "checkpoints").glob("*.html")}
    assert left == {"mine.html", "trades-cifar10-resnet18-reduced-s0.html"}
    assert notes.read_text() == "mine"


def test_a_foreign_file_under_a_name_of_ours_is_refused_and_kept(boards, tmp_path):
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(HarnessError, match=r"index\.html' is there already"):
        build(Material(boards=boards), tmp_path)
    assert contents(tmp_path) == {"index.html": b"my home page"}


@pytest.mark.parametrize(
    "manifest",
    [
        '{"files": ["../precious", "/etc/passwd", "checkpoints/../../precious", "precious", 7]}',
        '{"only": "", "files": {"../precious": {"facts": "", "sha256": "a"}, '
        '"precious": {"facts": "", "sha256": "a"}, '
        '"a/../../precious": {"facts": "", "sha256": "a"}, '
        '"checkpoints/../../precious": {"facts": "", "sha256": "a"}}}',
        '{"only": "", "files": {"index.html": {"facts": "", "sha256": []}}}',
        '{"files": 7}',
        "[]",
        "not json",
        "\x00\xff",
    ],
)
def test_a_manipulated_manifest_removes_nothing(boards, tmp_path, manifest):
    (tmp_path / "precious").write_text("keep")
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "precious").write_text("keep")
    (folder / MANIFEST).write_text(manifest, encoding="latin-1")
    build(Material(boards=boards), folder)
    assert (tmp_path / "precious").read_text() == (folder / "precious").read_text() == "keep"
    files = json.loads((folder / MANIFEST).read_text())["files"]
    listed = {name for name, known in files.items() if known["sha256"]}
    assert listed == set(contents(folder)) - {MANIFEST, "precious"}


@pytest.mark.parametrize("survived", range(1, 6))
def test_a_killed_build_leaves_whole_files_and_the_next_one_finishes(
    boards, tmp_path, monkeypatch, survived
):
    folder = tmp_path / "site"
    complete = render(Material(boards=boards))
    writes, real = [], publishing.replace_file

    def write(path, content):
        if len(writes) == survived:
            raise KeyboardInterrupt
        writes.append(path)
        real(path, content)

    monkeypatch.setattr(publishing, "replace_file", write)
    with pytest.raises(KeyboardInterrupt):
        build(Material(boards=boards), folder)
    for name, content in contents(folder).items():
        assert name == MANIFEST or content == complete[name]
    assert not (folder / "index.html").exists()
    monkeypatch.undo()
    build(Material(boards=boards), folder)
    assert {k: v for k, v in contents(folder).items() if k != MANIFEST} == complete


def test_a_full_disk_keeps_the_earlier_site_and_leaves_no_scraps(boards, site, monkeypatch):
    before = contents(site)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HarnessError, match="No space left on device"):
        build(Material(boards=boards[1:]), site)
    assert contents(site) == before


def test_a_folder_that_cannot_be_written_is_a_sentence(boards, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for folder in (blocked, blocked / "below"):
        with pytest.raises(HarnessError, match=r"cannot write the site to .*file"):
            build(Material(boards=boards), folder)
    assert blocked.read_text() == "no folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_sentence(boards, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(HarnessError, match="Permission denied"):
        build(Material(boards=boards), tmp_path / "site")


def test_files_are_readable_for_a_web_server(site):
    umask = os.umask(0)
    os.umask(umask)
    assert (site / "index.html").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("boards", [[], [board()]])
def test_an_empty_database_gives_a_page_that_says_what_to_run(boards, tmp_path):
    parsed = read(build(Material(boards=boards), tmp_path).index.read_bytes())
    assert "table" not in parsed.tags()
    for command in ("harness demo", "harness eval --adaptive --all", "harness site"):
        assert command in parsed.text


def many_rows(count: int) -> list[Standing]:
    total = 1000
    rows = []
    for place in range(count):
        name = f"trades_ancra-cifar10-resnet18-full-s{place:03d}"
        checkpoint = record(
            name, defense="trades_ancra", architecture="resnet18", parameters=11_173_962
        )
        places = (place // 3 * 3 + 1, place // 3 * 3 + 3)
        robust = rate(500 - place // 2, total)
        rows.append(standing(checkpoint=checkpoint, examples=total, robust=robust, rank=places))
    return rows


def drawn(material: Material, path: str) -> bytes:
    """One file alone."""
    (draft,) = (draft for draft in all_drafts(material) if draft.path == path)
    content = site_module._render([draft])[path]
    assert content is not None
    return content


def test_five_hundred_rows_stay_small_and_are_drawn_fast():
    one = board(*many_rows(500))
    started = time.perf_counter()
    page = drawn(Material(boards=[one]), addresses.board_page(one))
    assert time.perf_counter() - started < 20
    assert len(page) < 1_000_000
    assert len([row for row in read(page).rows if row[0].startswith(("1–3", "499–501"))]) == 5


@pytest.mark.parametrize("boards_count", [1, 40])
def test_the_front_page_stays_small_however_many_boards_and_rows_there_are(boards_count):
    rows = many_rows(30)
    many = [board(*rows, dataset=f"set{number}") for number in range(boards_count)]
    page = drawn(Material(boards=many), addresses.HOME)
    assert len(page) < 300_000
    shown = [row for row in read(page).rows if row[0] == "1–3"]
    assert len(shown) == 3 * boards_count


def test_the_site_needs_neither_torch_nor_matplotlib():
    code = "import sys, leaderboard.site; print(*{'torch', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == ""


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_pair_of_text_and_background_has_the_contrast_of_wcag_aa(scheme):
    sheet = (Path(site_module.__file__).parent / "static" / "style.css").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    pairs = [(text, back) for text in ("ink", "quiet", "accent") for back in ("paper", "raised")]
    pairs += [("ink", "sunk"), ("quiet", "sunk"), ("accent", "sunk"), ("red", "raised")]
    pairs += [
        ("green", "green-pale"),
        ("red", "red-pale"),
        ("amber", "amber-pale"),
        ("amber", "raised"),
        ("red", "sunk"),
        ("ink", "pale"),  # the row that an address names
        ("quiet", "pale"),
        ("accent", "pale"),
        ("red", "pale"),
        ("amber", "pale"),
    ]
    for text, back in pairs:
        light, dark = sorted((_luminance(colours[text]), _luminance(colours[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, back)


@pytest.mark.parametrize("below", ["checkpoints", "boards"])
def test_nothing_is_written_or_removed_through_a_link_out_of_the_folder(material, tmp_path, below):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "site"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "report.html").write_text("mine")
    (folder / below).symlink_to(elsewhere)
    named = {f"{below}/report.html": {"facts": "", "sha256": "0" * 64}}
    (folder / MANIFEST).write_text(json.dumps({"files": named, "only": ""}))
    with pytest.raises(HarnessError, match=f"{below}' is a link to elsewhere"):
        build(material, folder)
    assert contents(elsewhere) == {"report.html": b"mine"}
    assert not (folder / "index.html").exists()
