"""Pictures of a whole board: what one row cannot show, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass

from harness.standings import Board
from leaderboard.material import Material
from leaderboard.pictures.attacks import attack_matrix
from leaderboard.pictures.matrix import Matrix
from leaderboard.pictures.naming import Names
from leaderboard.pictures.plane import Plane, plane
from leaderboard.pictures.significance import compared, significance_matrix
from leaderboard.pictures.sweeps import Sweeps, sweeps
from leaderboard.pictures.transfer import sources, transfer_matrix


@dataclass(frozen=True)
class Missing:
    """A picture that nothing is there for, and what would draw it."""

    title: str
    sentence: str


@dataclass(frozen=True)
class BoardPictures:
    """The pictures of one board, None for each that has no data; `missing` names those."""

    plane: Plane | None
    attacks: Matrix | None
    significance: Matrix | None
    transfer: Matrix | None
    sweeps: Sweeps | None
    missing: tuple[Missing, ...]

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Those that are coloured tables."""
        found = (self.attacks, self.significance, self.transfer)
        return tuple(one for one in found if one is not None)


_SENTENCES = {
    "plane": Missing(
        "Clean and robust accuracy",
        "No row is ranked yet: a complete protocol puts its checkpoint into this picture.",
    ),
    "attacks": Missing(
        "Attacks and checkpoints",
        "No attack was run on every correct image yet: harness eval runs the first stage.",
    ),
    "significance": Missing(
        "Differences and chance",
        "Fewer than two rows are ranked: the paired test needs two.",
    ),
    "transfer": Missing(
        "Transferred attacks",
        "No row has diagnostic D05 yet: harness diagnose runs it where other checkpoints of the "
        "dataset are stored.",
    ),
    "sweeps": Missing(
        "Accuracy against epsilon",
        "No row has diagnostic D08 yet: harness diagnose runs it, under L∞ alone.",
    ),
}


def board_pictures(material: Material, board: Board) -> BoardPictures:
    """Every picture that the rows of this board have data for."""
    names = Names.of(board, material.boards)
    found = {
        "plane": plane(board, names, material.texts),
        "attacks": attack_matrix(board, names),
        "significance": significance_matrix(compared(material, board), names),
        "transfer": transfer_matrix(board, names),
        "sweeps": sweeps(board, names, material.texts),
    }
    missing = tuple(_SENTENCES[key] for key, picture in found.items() if picture is None)
    return BoardPictures(**found, missing=missing)  # type: ignore[arg-type]


def picture_facts(material: Material, board: Board) -> object:
    """What the pictures follow from beside the board itself, as plain values."""
    names = Names.of(board, material.boards)
    return (compared(material, board), [names.source(one) for one in sources(board)])
