"""Write the static site: every file appears whole or not at all, and nothing foreign is touched."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.errors import HarnessError
from harness.files import replace_file
from harness.printable import printable
from harness.standings import Board
from harness.standings.corruptions import CorruptionStanding
from leaderboard.pages import CheckpointPage, IndexPage, address, group_by_checkpoint

MANIFEST = ".robust-harness-site.json"
"""Names the files that this program wrote into the folder: the only ones it replaces or removes."""

_HERE = Path(__file__).parent
_STATIC = ("style.css", "table.js")
# What a manifest may name. Anything else in it was not written here and is left alone.
_OURS = re.compile(r"index\.html|style\.css|table\.js|checkpoints/[a-z0-9._~-]+\.html")


def build(
    boards: Sequence[Board],
    folder: Path,
    *,
    corruptions: Sequence[CorruptionStanding] = (),
    generated: str = "",
) -> Path:
    """Render all boards into `folder` and return the path of its index page.

    The same boards give the same bytes. All pages are rendered before the first is written, the
    index comes last, and pages of an earlier build that are gone are removed.

    Args:
        boards: what `harness.standings` derived.
        folder: made if missing; foreign files in it stay.
        corruptions: shown on the pages of checkpoints that are on a board.
        generated: when and from what, as text for the footer; part of the bytes.

    Raises:
        HarnessError: the folder cannot be written, or holds a foreign file under a name of ours.
    """
    files = render(boards, corruptions=corruptions, generated=generated)
    try:
        _publish(files, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise HarnessError(
            f"cannot write the site to '{folder}': {reason}. Choose a folder that you may write to."
        ) from error
    return folder / "index.html"


def render(
    boards: Sequence[Board],
    *,
    corruptions: Sequence[CorruptionStanding] = (),
    generated: str = "",
) -> dict[str, bytes]:
    """Every file of the site by its path in the folder, index last."""
    environment = _environment()
    files = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC}
    template = environment.get_template("checkpoint.html")
    for path, standings in group_by_checkpoint(boards).items():
        corrupted = [one for one in corruptions if address(one.checkpoint) == path]
        page = CheckpointPage.from_standing(*standings, corruptions=corrupted, generated=generated)
        files[path] = template.render(page=page).encode()
    index = IndexPage.from_boards(boards, generated=generated)
    files["index.html"] = environment.get_template("index.html").render(page=index).encode()
    return files


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda shown: printable(shown) if type(shown) is str else shown,
    )


def _publish(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    earlier = _read_manifest(folder)
    foreign = [name for name in files if name not in earlier and os.path.lexists(folder / name)]
    if foreign:
        raise HarnessError(
            f"'{folder / foreign[0]}' is there already and was not written by this program. "
            "Choose another folder for the site, or move that file away."
        )
    # Named before they exist: a build that is killed half-way leaves nothing it would call foreign.
    _write_manifest(folder, earlier | files.keys())
    (folder / "checkpoints").mkdir(exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    for name in sorted(earlier - files.keys()):
        (folder / name).unlink(missing_ok=True)
    _write_manifest(folder, files.keys())


def _read_manifest(folder: Path) -> set[str]:
    try:
        names = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        return {name for name in names if isinstance(name, str) and _OURS.fullmatch(name)}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()


def _write_manifest(folder: Path, names: Collection[str]) -> None:
    text = json.dumps({"written by": "harness site", "files": sorted(names)}, indent=1)
    replace_file(folder / MANIFEST, f"{text}\n".encode())
