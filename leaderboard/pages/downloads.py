"""What may be taken away: every board as CSV and JSON, and the whole store as one SQLite file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harness.standings import Board, as_csv, as_json
from leaderboard import addresses
from leaderboard.material import Material
from leaderboard.pages import Draft, page

LARGEST = 200_000_000
"""Bytes of a database that a site still carries."""


@dataclass(frozen=True)
class Downloads:
    """Paths in the site's folder.

    Args:
        csv: every board together.
        json: the same with every attack, which for one board alone is that board's own file.
        database: empty where the site has no copy of the store.
        says: the size of that copy, or why there is none.
    """

    csv: str
    json: str
    database: str
    says: str


@page
def downloads(material: Material) -> Iterator[Draft]:
    """The database anew with any stamp or claim, the tables with any board."""
    boards = tuple(material.boards)
    yield Draft(addresses.RESULTS_CSV, boards, partial(_csv, boards))
    if _json_path(material) == addresses.RESULTS_JSON:
        yield Draft(addresses.RESULTS_JSON, boards, partial(_json, boards))
    if links(material).database:
        facts = (sorted(material.stamps.items()), list(material.claims))
        yield Draft(addresses.DATABASE, facts, material.archive.download)


def links(material: Material) -> Downloads:
    """What a page can link to; cheap."""
    size = None if material.only else material.archive.download_size()
    has_database = size is not None and size <= LARGEST
    return Downloads(
        csv=addresses.RESULTS_CSV,
        json=_json_path(material),
        database=addresses.DATABASE if has_database else "",
        says=_said(material, size),
    )


def _json_path(material: Material) -> str:
    """Megabytes of attacks are not written twice."""
    match material.boards:
        case [one]:
            return addresses.board_page(one, "json")
    return addresses.RESULTS_JSON


def _said(material: Material, size: int | None) -> str:
    if material.only:
        return "a site of one board has no copy of the whole database"
    if size is None:
        return "this site was built without a database"
    if size > LARGEST:
        return f"the whole database has {_megabytes(size)}, too much for a site"
    return f"everything stored, {_megabytes(size)}"


def _megabytes(size: int) -> str:
    """Two digits at most: what was not compacted yet is known no better."""
    millions = size / 1e6
    return "less than 1 MB" if millions < 1 else f"about {float(f'{millions:.2g}'):g} MB"


def _csv(boards: Sequence[Board]) -> bytes:
    return as_csv(boards).encode()


def _json(boards: Sequence[Board]) -> bytes:
    return as_json(boards).encode(errors="replace")
