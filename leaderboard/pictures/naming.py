"""Which rows a picture shows, and names short enough to stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.identity import CheckpointRecord
from harness.standings import Board, Standing
from leaderboard import addresses

ROWS = 40
"""Rows of a matrix: the best of a board, beyond which nobody reads one."""

_ROOT = addresses.root_of("boards/any.html")
_SURROGATE = "surrogate("


@dataclass(frozen=True)
class Heading:
    """A row or a column of a matrix: short text, in full, and a page; `small` stands below."""

    text: str
    full: str = ""
    href: str = ""
    small: str = ""


@dataclass(frozen=True)
class Names:
    """How the checkpoints of a board are called in its pictures, and where they are told of.

    Args:
        short: checkpoint -> its name without what all on the board have in common.
        pages: checkpoint -> where this board's standing is told, from a board's page.
        digests: digest -> name, of the checkpoints of every board.
    """

    short: Mapping[str, str]
    pages: Mapping[str, str]
    digests: Mapping[str, str]

    @classmethod
    def of(cls, board: Board, boards: Sequence[Board]) -> Names:
        """The names for one of the boards."""
        every = [*boards] if board in boards else [*boards, board]
        slug = addresses.board_slug(board)
        pages = {
            name: f"{_ROOT}{page}"
            for (where, name), page in addresses.evaluation_links(every).items()
            if where == slug
        }
        records = [row.checkpoint for one in every for row in one.standings]
        for record in records:
            pages.setdefault(record.name, f"{_ROOT}{addresses.checkpoint_page(record)}")
        digests = {record.digest: record.name for record in reversed(records)}
        return cls(short_names(row.checkpoint.name for row in board.standings), pages, digests)

    def heading(self, record: CheckpointRecord, prefix: str = "") -> Heading:
        """The heading of a row of the board."""
        return self.named(record.name, prefix)

    def named(self, name: str, prefix: str = "") -> Heading:
        """The heading for a checkpoint by its name."""
        short = self.short.get(name, name)
        return Heading(f"{prefix}{short}", name, self.pages.get(name, ""))

    def source(self, surface: str) -> Heading:
        """The heading for a surface of another model, such as `surrogate(18eac4a286d9)`."""
        if not surface.startswith(_SURROGATE):
            return Heading("same weights", surface, small="without the defense's module")
        digits = surface.removeprefix(_SURROGATE).removesuffix(")")
        fitting = sorted(n for digest, n in self.digests.items() if digest.startswith(digits))
        if not digits or len(fitting) != 1:
            return Heading(surface, surface, small="not among these checkpoints")
        return self.named(fitting[0])


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without the parts between hyphens that all have; whole where that would merge two.

    `trades-digits-cnn-s0` beside `mart-digits-cnn-s1` is `trades-s0`.
    """
    parts = {name: name.split("-") for name in names}
    if len(parts) < 2:
        return {name: name for name in parts}
    common = set.intersection(*(set(each) for each in parts.values()))
    short = {
        name: "-".join(part for part in each if part not in common) for name, each in parts.items()
    }
    is_clear = len(set(short.values())) == len(short) and all(short.values())
    return short if is_clear else {name: name for name in parts}


def ordered(board: Board) -> list[Standing]:
    """The rows in the order of the board's table: the ranked ones first."""
    return sorted(board.standings, key=lambda row: row.rank is None)
