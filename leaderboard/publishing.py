"""Put files into the site's folder: whole or not at all, nothing foreign touched, no work twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.files import lock_file, replace_file

MANIFEST = ".robust-harness-site.json"
"""Names the files that this program wrote into the folder: the only ones it replaces or removes."""

_LOCK = ".robust-harness-site.lock"
# What a manifest may name. Anything else in it was not written here and is left alone.
_OURS = re.compile(r"(?:[a-z]+/)?[a-z0-9~][a-z0-9._~-]*\.(?:html|css|js|png|csv|json|db)")


@dataclass(frozen=True)
class Written:
    """What the manifest knows of a file: what it was made from, and its SHA-256.

    Without a SHA-256 those facts gave no file: they need not be asked again.
    """

    facts: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a site, and the board that it was cut down to."""

    files: Mapping[str, Written] = field(default_factory=dict)
    only: str = ""


def read_manifest(folder: Path) -> Manifest:
    """What was written there; an empty one where nothing was, or where it cannot be believed."""
    try:
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
        files = {
            name: Written(str(one["facts"]), str(one["sha256"]))
            for name, one in found["files"].items()
            if _OURS.fullmatch(name)
        }
        return Manifest(files, str(found["only"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Manifest()


def is_unchanged(folder: Path, name: str, known: Written | None, facts: str) -> bool:
    """Whether a file was made from the same facts and is still as it was written, or not there."""
    if known is None or known.facts != facts:
        return False
    if not known.sha256:
        return True
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == known.sha256


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and keep other builds out of it.

    Raises:
        HarnessError: another build is writing there.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = lock_file(folder / _LOCK, wait=False)
    except BlockingIOError:
        raise HarnessError(
            f"another build is writing to '{folder}': wait for it, or choose another --out."
        ) from None
    try:
        yield
    finally:
        if file is not None:
            (folder / _LOCK).unlink(missing_ok=True)
            file.close()


def publish(
    folder: Path,
    earlier: Manifest,
    made: Mapping[str, bytes | None],
    facts: Mapping[str, str],
    only: str,
) -> Manifest:
    """Write new files, the last of them last, and remove those of earlier builds that are gone.

    Args:
        folder: held.
        earlier: its manifest.
        made: the content of what was made now; None for what turned out to be no file.
        facts: of everything that the site has when this is done, also of what stays.
        only: the board that the site was cut down to.

    Returns:
        The manifest as it is now.

    Raises:
        HarnessError: a foreign file lies under a name of ours, or a folder is a link.
        OSError: the folder cannot be written or the disk is full.
    """
    ours = {name for name, known in earlier.files.items() if known.sha256}
    files = {name: content for name, content in made.items() if content is not None}
    foreign = [name for name in files if name not in ours and os.path.lexists(folder / name)]
    if foreign:
        raise HarnessError(
            f"'{folder / foreign[0]}' is there already and was not written by this program. "
            "Choose another folder for the site, or move that file away."
        )
    _check_folders(folder, {*files, *ours})
    written = {name: Written(facts[name], _sha256(files.get(name))) for name in made}
    # Named before they exist: a build that is killed half-way leaves nothing it would call foreign.
    kept = {name: written[name] for name in files}
    _write_manifest(folder, Manifest({**earlier.files, **kept}, only))
    for below in sorted({Path(name).parent for name in files}):
        (folder / below).mkdir(exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    for name in sorted(ours - (facts.keys() - (made.keys() - files.keys()))):
        (folder / name).unlink(missing_ok=True)
    stay = {name: known for name, known in earlier.files.items() if name in facts}
    manifest = Manifest({**stay, **written}, only)
    _write_manifest(folder, manifest)
    return manifest


def _check_folders(folder: Path, names: Iterable[str]) -> None:
    """Nothing is written or removed through a link to elsewhere."""
    for below in sorted({Path(name).parent for name in names}):
        if (folder / below).is_symlink() and below != Path():
            raise HarnessError(
                f"'{folder / below}' is a link to elsewhere: remove it, or choose another folder "
                "for the site."
            )


def _sha256(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    files = {
        name: {"facts": one.facts, "sha256": one.sha256}
        for name, one in sorted(manifest.files.items())
    }
    said = {"written by": "harness site", "only": manifest.only, "files": files}
    replace_file(folder / MANIFEST, f"{json.dumps(said, indent=1)}\n".encode())
