"""Build the static site: drafts in, files out; what did not change is not drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

import harness
from harness.errors import HarnessError
from harness.printable import printable
from leaderboard import addresses
from leaderboard.material import Material
from leaderboard.pages import Draft, all_drafts
from leaderboard.publishing import Manifest, held, is_unchanged, publish, read_manifest

_HERE = Path(__file__).parent
_CODE = (_HERE, Path(harness.__file__).parent)


@dataclass(frozen=True)
class Built:
    """What a build did: the front page, and how many files were drawn of how many."""

    index: Path
    drawn: int
    files: int


def build(material: Material, folder: Path) -> Built:
    """Draw what changed since the last build into `folder`.

    The same material gives the same bytes. All pages are rendered before the first is written, the
    front page comes last, and pages of an earlier build that are gone are removed.

    Args:
        material: what is shown.
        folder: made if missing; foreign files in it stay.

    Raises:
        HarnessError: the folder cannot be written, is written by another build, holds a foreign
            file under a name of ours, or a site of more boards than `material.only`.
    """
    drafts = [*_static(), *_ordered(all_drafts(material))]
    try:
        with held(folder):
            earlier = read_manifest(folder)
            _check_extent(folder, earlier, material)
            facts = {draft.path: _digest(draft) for draft in drafts}
            changed = [
                draft
                for draft in drafts
                if not is_unchanged(
                    folder, draft.path, earlier.files.get(draft.path), facts[draft.path]
                )
            ]
            made = _render(changed)
            manifest = publish(folder, earlier, made, facts, material.only)
    except TemplateError:
        raise  # a template that is not there is an OSError too, but nobody's folder
    except OSError as error:
        reason = error.strerror or str(error)
        raise HarnessError(
            f"cannot write the site to '{folder}': {reason}. Choose a folder that you may write to."
        ) from error
    return Built(
        index=folder / addresses.HOME,
        drawn=sum(content is not None for content in made.values()),
        files=sum(known.sha256 != "" for known in manifest.files.values()),
    )


def render(material: Material) -> dict[str, bytes]:
    """Every file of the site by its path in the folder, the front page last."""
    made = _render([*_static(), *_ordered(all_drafts(material))])
    return {path: content for path, content in made.items() if content is not None}


def differing(material: Material, folder: Path) -> list[str]:
    """Files of a written site that are not what the material gives when it is drawn again.

    A site of one board is compared with what that board gives. The copy of the database is left
    out: whoever asks has the rows.

    Raises:
        HarnessError: the site was cut down to a board that the material does not have.
    """
    only = read_manifest(folder).only
    if only:
        material = material.cut_down_to(material.slug_of(only))
    drafts = [draft for draft in all_drafts(material) if draft.path != addresses.DATABASE]
    made = _render([*_static(), *_ordered(drafts)])
    return [path for path, content in made.items() if _read(folder / path) != content]


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _render(drafts: Iterable[Draft]) -> dict[str, bytes | None]:
    """What the drafts give; None for one that turns out to be no file."""
    environment = _environment()
    made: dict[str, bytes | None] = {}
    for draft in drafts:
        one = draft.make()
        if one is None or isinstance(one, bytes):
            made[draft.path] = one
        else:
            template = environment.get_template(draft.template)
            made[draft.path] = template.render(page=one).encode()
    return made


def _static() -> list[Draft]:
    def reader(name: str) -> Callable[[], bytes]:
        return (_HERE / "static" / name).read_bytes

    names = sorted(path.name for path in (_HERE / "static").iterdir())
    return [Draft(name, "", reader(name)) for name in names]


def _ordered(drafts: Iterable[Draft]) -> list[Draft]:
    """The front page last: until it is there, nobody is sent to pages that are missing."""
    return sorted(drafts, key=lambda draft: (draft.path == addresses.HOME, draft.path))


def _digest(draft: Draft) -> str:
    text = f"{code_digest()}\0{draft.template}\0{draft.facts!r}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@cache
def code_digest() -> str:
    """Of all code: numbers pass through many modules, and another version draws every page anew."""
    found = hashlib.sha256()
    for folder in _CODE:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in {".py", ".html", ".css", ".js", ".json"}:
                content = hashlib.sha256(path.read_bytes()).digest()
                found.update(path.relative_to(folder).as_posix().encode() + content)
    return found.hexdigest()


def _check_extent(folder: Path, earlier: Manifest, material: Material) -> None:
    """A site of one board must not remove the pages of all the others."""
    if earlier.files and material.only not in {"", earlier.only}:
        what = f"the board '{earlier.only}' alone" if earlier.only else "every board"
        raise HarnessError(
            f"'{folder}' holds a site of {what}; with --only its other pages would be removed: "
            "choose another --out."
        )


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
