"""A page per board: everything that may be compared, one row per checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.standings import Board, Standing, as_csv, as_json
from harness.standings.corruptions import CorruptionStanding
from leaderboard import addresses, wording
from leaderboard.frame import Frame
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.pages.downloads import Downloads, links
from leaderboard.pictures import BoardPictures, board_pictures, picture_facts
from leaderboard.rows import Row


@page
def board(material: Material) -> Iterator[Draft]:
    """The page, and its numbers as CSV and JSON."""
    hrefs = addresses.evaluation_links(material.boards)
    whole = links(material)
    for one in material.boards:
        path = addresses.board_page(one)
        mine = {key: href for key, href in hrefs.items() if key[0] == addresses.board_slug(one)}
        corrupted = corruptions_of(one, material.corruptions)
        facts = (one, mine, corrupted, picture_facts(material, one), whole, material.generated)
        make = partial(BoardPage.of, material, one, mine, corrupted, whole)
        yield Draft(path, facts, make, "board.html")
        yield Draft(addresses.board_page(one, "csv"), one, partial(_csv, one))
        yield Draft(addresses.board_page(one, "json"), one, partial(_json, one))


def _csv(one: Board) -> bytes:
    return as_csv([one]).encode()


def _json(one: Board) -> bytes:
    return as_json([one]).encode(errors="replace")


def corruptions_of(
    one: Board, corruptions: Sequence[CorruptionStanding]
) -> dict[str, CorruptionStanding]:
    """By digest of the checkpoint, what is known of it on corruptions of the board's own images.

    Published files come before generated images, a whole mean before a part.
    """
    found = [
        each for each in corruptions if (each.dataset, each.images) == (one.dataset, one.images)
    ]
    found.sort(key=lambda each: (each.mean is not None, each.pixels == "files"))
    return {each.checkpoint.digest: each for each in found}


@dataclass(frozen=True)
class BoardTable:
    """One board: a heading, what it compares, its rows in the order given, the unranked last."""

    slug: str
    dataset: str
    threat: str
    summary: str
    images: str
    rows: tuple[Row, ...]

    @classmethod
    def of(
        cls,
        one: Board,
        hrefs: Mapping[tuple[str, str], str],
        root: str,
        corrupted: Mapping[str, CorruptionStanding] | None = None,
        whole: int = 0,
    ) -> BoardTable:
        """Its rows, linked from a page with that root; `whole` says how many it has elsewhere."""
        slug = addresses.board_slug(one)
        about = corrupted or {}
        ordered = sorted(one.standings, key=lambda row: row.rank is None)

        def line(row: Standing) -> Row:
            href = f"{root}{hrefs[slug, row.checkpoint.name]}"
            return Row.of(row, href, about.get(row.checkpoint.digest))

        return cls(
            slug=slug,
            dataset=one.dataset,
            threat=wording.threat(one.threat),
            summary=_summary(ordered, whole),
            images=one.images[:12],
            rows=tuple(line(row) for row in ordered),
        )


def _summary(rows: Sequence[Standing], whole: int) -> str:
    """How many checkpoints of how many, and how many of them have a rank where not all do."""
    if whole > len(rows):
        return f"the first {wording.count(len(rows))} of {wording.plural(whole, 'checkpoint')}"
    ranked = sum(row.rank is not None for row in rows)
    summary = wording.plural(len(rows), "checkpoint")
    return f"{summary}, {wording.count(ranked)} of them ranked," if ranked < len(rows) else summary


@dataclass(frozen=True)
class BoardPage:
    """One board in full.

    `database` is empty where the site has no file of the whole store; `database_says` says why.
    """

    table: BoardTable
    csv: str
    json: str
    database: str
    database_says: str
    pictures: BoardPictures
    frame: Frame

    @classmethod
    def of(
        cls,
        material: Material,
        one: Board,
        hrefs: Mapping[tuple[str, str], str],
        corrupted: Mapping[str, CorruptionStanding],
        whole: Downloads,
    ) -> BoardPage:
        """The page of a board."""
        path = addresses.board_page(one)
        frame = Frame.of(path, ("Boards", addresses.HOME), generated=material.generated)
        return cls(
            table=BoardTable.of(one, hrefs, frame.root, corrupted),
            csv=frame.root + addresses.board_page(one, "csv"),
            json=frame.root + addresses.board_page(one, "json"),
            database=frame.root + whole.database if whole.database else "",
            database_says=whole.says,
            pictures=board_pictures(material, one),
            frame=frame,
        )
