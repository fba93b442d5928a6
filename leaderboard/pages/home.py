"""The front page: every board in short, the other rooms, or what to run when there is nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from harness.identity import CheckpointRecord
from harness.standings import Board, Standing
from leaderboard import addresses, wording
from leaderboard.frame import Frame
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.pages.board import BoardTable
from leaderboard.pages.downloads import Downloads, links

SHOWN = 10
"""Rows of each board on the front page, at most."""

EVERYTHING = "harness eval --adaptive --all"

SHOWN_IN_ALL = 150
"""Rows of all boards together, about: many boards are shown shorter."""


@page
def home(material: Material) -> Iterator[Draft]:
    """One page, always."""
    whole = [one for one in material.boards if one.standings]
    rows = max(1, min(SHOWN, SHOWN_IN_ALL // max(1, len(whole))))
    shown = [(len(one.standings), replace(one, standings=_best(one, rows))) for one in whole]
    named = {
        (addresses.board_slug(one), row.checkpoint.name)
        for _, one in shown
        for row in one.standings
    }
    hrefs = addresses.evaluation_links(material.boards)
    mine = {key: href for key, href in hrefs.items() if key in named}
    waiting = Waiting.of(material.waiting)
    facts = (shown, mine, links(material), waiting, material.generated)
    yield Draft(addresses.HOME, facts, partial(HomePage.of, material, shown, mine), "home.html")


def _best(one: Board, rows: int) -> tuple[Standing, ...]:
    ranked = sorted(one.standings, key=lambda row: row.rank is None)
    return tuple(ranked[:rows])


@dataclass(frozen=True)
class Room:
    """Another part of the site, and what is there."""

    name: str
    href: str
    about: str


_ROOMS = (
    Room(
        "Families",
        addresses.FAMILIES,
        "A baseline beside everything that was built on it, with the paired gain.",
    ),
    Room(
        "Attacks",
        addresses.ATTACKS,
        "What each attack may look at, where it ran, and what nothing else broke.",
    ),
    Room(
        "Studies",
        addresses.STUDIES,
        "The tables of the papers as printed, our numbers beside them.",
    ),
    Room(
        "Claims",
        addresses.CLAIMS,
        "Every published figure, to search. Those that cannot be are marked.",
    ),
    Room(
        "Museum",
        addresses.MUSEUM,
        "Models that are masked on purpose, and the diagnostic that catches each.",
    ),
    Room(
        "How to read this",
        addresses.READING,
        "What is claimed here and what is not, in plain words.",
    ),
)


@dataclass(frozen=True)
class Waiting:
    """Checkpoints that nothing has attacked yet: the first of them, and what attacks them all."""

    says: str
    names: tuple[str, ...]
    command: str

    @classmethod
    def of(cls, records: Sequence[CheckpointRecord]) -> Waiting | None:
        """None where none waits."""
        if not records:
            return None
        names = tuple(record.name for record in records[:SHOWN])
        rest = len(records) - len(names)
        return cls(
            says=f"{wording.plural(len(records), 'checkpoint')} stored, not attacked yet",
            names=(*names, f"and {wording.count(rest)} more") if rest else names,
            command=wording.evaluate(records[0]) if len(records) == 1 else EVERYTHING,
        )


@dataclass(frozen=True)
class BoardInShort:
    """The first rows of a board and where the rest is."""

    table: BoardTable
    href: str
    rows: str
    is_whole: bool


@dataclass(frozen=True)
class HomePage:
    """Every board in short."""

    boards: tuple[BoardInShort, ...]
    rooms: tuple[Room, ...]
    downloads: Downloads
    waiting: Waiting | None
    has_boards: bool
    has_many_boards: bool
    frame: Frame

    @classmethod
    def of(
        cls,
        material: Material,
        shown: Sequence[tuple[int, Board]],
        hrefs: Mapping[tuple[str, str], str],
    ) -> HomePage:
        """The boards in the order given, cut down to their first rows, with their whole length."""
        boards = tuple(
            BoardInShort(
                table=BoardTable.of(short, hrefs, "", whole=length),
                href=addresses.board_page(short),
                rows=wording.count(length),
                is_whole=len(short.standings) == length,
            )
            for length, short in shown
        )
        frame = Frame.of(addresses.HOME, generated=material.generated)
        return cls(
            boards=boards,
            rooms=_ROOMS,
            downloads=links(material),
            waiting=Waiting.of(material.waiting),
            has_boards=bool(boards),
            has_many_boards=len(boards) > 1,
            frame=frame,
        )
