"""`make screenshots`: the pictures in the README, taken of the site of `results.db`."""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import sync_playwright

from harness.store.store import Store
from leaderboard import addresses
from leaderboard.gathering import gather
from leaderboard.material import Material
from leaderboard.site import build

LARGEST = 300_000
"""Bytes of one picture."""

_COLOURS = (256, 128, 64, 32, 16)


class Shot(NamedTuple):
    """One picture: its name, the page, the size of the window in pixels, and where it looks."""

    name: str
    page: str
    width: int
    height: int
    fragment: str = ""


def shots(material: Material) -> list[Shot]:
    """The largest board, and of its best founded rows the one whose standard attacks hid most."""
    board = max(material.boards, key=lambda one: len(one.standings))
    best = max(board.standings, key=lambda row: (row.level, row.adaptive_gap or 0.0))
    page = addresses.board_page(board)
    return [
        Shot("board", page, 1440, 1000),
        Shot("pictures", page, 1440, 1000, "#clean-and-robust"),
        Shot("checkpoint", addresses.checkpoint_page(best.checkpoint), 1440, 1000),
        Shot("phone", page, 390, 844),
    ]


def take(site: Path, wanted: Iterable[Shot], out: Path, chromium: str) -> None:
    """Open each page in its window, in the light scheme, and keep what is seen."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for shot in wanted:
            window = {"width": shot.width, "height": shot.height}
            page = browser.new_page(viewport=window, color_scheme="light")
            page.goto(f"{(site / shot.page).as_uri()}{shot.fragment}")
            page.wait_for_load_state()
            content = small(page.screenshot())
            (out / f"{shot.name}.png").write_bytes(content)
            print(f"{out / shot.name}.png: {len(content):,} bytes")
            page.close()
        browser.close()


def small(png: bytes) -> bytes:
    """The same picture with as many colours as fit into `LARGEST` bytes.

    Raises:
        ValueError: not even the fewest do.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in _COLOURS:
        written = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(written, "png", optimize=True)
        if written.tell() <= LARGEST:
            return written.getvalue()
    raise ValueError(f"a picture has {written.tell():,} bytes with {colours} colours")


def main() -> None:
    """Build the site in a scratch folder and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=Path, default=Path("results.db"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium: install it, such as apt install chromium")
    with (
        TemporaryDirectory(prefix="robust-harness-") as folder,
        Store.open(asked.db, create=False, read_only=True) as store,
        store.snapshot(),
    ):
        material = gather(store)
        if not material.boards:
            sys.exit(f"{store.where} holds no board to take pictures of.")
        build(material, Path(folder))
        take(Path(folder), shots(material), asked.out, chromium)


if __name__ == "__main__":
    main()
