"""Where everything lies on the site, relative to its folder: the only way from names to paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.identity import CheckpointRecord
from harness.standings import Board, Standing
from harness.threat import format_fraction
from leaderboard import wording

HOME = "index.html"
ATTACKS = "attacks.html"
FAMILIES = "families.html"
STUDIES = "studies.html"
CLAIMS = "claims.html"
MUSEUM = "museum.html"
READING = "reading.html"
RESULTS_CSV = "data/results.csv"
RESULTS_JSON = "data/results.json"
DATABASE = "data/results.db"


def board_slug(board: Board) -> str:
    """The name of a board in addresses; stable while other boards come and go."""
    epsilon = format_fraction(board.threat.epsilon).replace("/", "-")
    return wording.slug(f"{board.dataset}-{board.threat.norm}-{epsilon}-{board.images[:8]}")


def board_page(board: Board, suffix: str = "html") -> str:
    """The page of a board, or its file of numbers (`csv`, `json`)."""
    return f"boards/{board_slug(board)}.{suffix}"


def checkpoint_page(record: CheckpointRecord) -> str:
    """The page of a checkpoint."""
    return f"checkpoints/{wording.slug(record.name)}.html"


def row_id(record: CheckpointRecord) -> str:
    """The fragment of a board's page that a row has: its permanent link."""
    return f"row-{wording.slug(record.name)}"


def evaluation_id(number: int) -> str:
    """The fragment of a checkpoint's page that holds its `number`th evaluation, from 1."""
    return f"evaluation-{number}"


def attack_page(name: str) -> str:
    """The page of an attack, all its surfaces and losses together."""
    return f"attacks/{wording.slug(name)}.html"


def family_page(name: str) -> str:
    """The page of a family of defenses; families differ by more than capital letters."""
    return f"families/{wording.slug(name.lower())}.html"


def study_page(source: str, place: str) -> str:
    """The page of one table of a paper."""
    return f"studies/{wording.slug(f'{source}-{place}')}.html"


def root_of(path: str) -> str:
    """What leads from a page back to the site's folder: empty or `../`."""
    return "../" * path.count("/")


def by_checkpoint(boards: Iterable[Board]) -> dict[str, list[tuple[Board, Standing]]]:
    """All standings of each checkpoint, by the address of its page, in the order of the boards."""
    groups: dict[str, list[tuple[Board, Standing]]] = {}
    for board in boards:
        for standing in board.standings:
            found = groups.setdefault(checkpoint_page(standing.checkpoint), [])
            found.append((board, standing))
    return groups


def evaluation_links(boards: Sequence[Board]) -> Mapping[tuple[str, str], str]:
    """Where each standing is told in full, by (slug of its board, name of its checkpoint)."""
    links = {}
    for page, found in by_checkpoint(boards).items():
        for number, (board, standing) in enumerate(found, start=1):
            fragment = f"#{evaluation_id(number)}" if number > 1 else ""
            links[board_slug(board), standing.checkpoint.name] = f"{page}{fragment}"
    return links


def sheet(record: CheckpointRecord, number: int) -> str:
    """The pictures of a checkpoint's `number`th evaluation, all in one file."""
    return f"checkpoints/{wording.slug(record.name)}-{number}.png"
