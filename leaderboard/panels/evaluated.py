"""One evaluation of a checkpoint with all its panels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.identity import Measurement
from harness.standings import Board, Standing
from leaderboard import addresses, wording
from leaderboard.evaluations import AttackRow, Evaluation, Fact
from leaderboard.material import Material
from leaderboard.panels.classes import Classes
from leaderboard.panels.diagnosed import DefinedRow, behind_diagnostics
from leaderboard.panels.epsilon import security_curve
from leaderboard.panels.figures import Figure
from leaderboard.panels.heads import Heads, has_heads
from leaderboard.panels.images import Images
from leaderboard.panels.progress import Progress
from leaderboard.panels.surfaces import Surfaces
from leaderboard.panels.transfer import Transfer


@dataclass(frozen=True)
class Known:
    """What all evaluations of a checkpoint share.

    Args:
        material: whose archive is read now.
        measurements: of the checkpoint.
        sources: name and address of other checkpoints by the first digits of their digests.
    """

    material: Material
    measurements: Sequence[Measurement]
    sources: Mapping[str, Fact]


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint on one board. A panel that has nothing to show is None.

    Args:
        evaluation: the headline, the attacks, the evidence.
        row: the permanent link of its row on the board.
        attacks: every attack, and the page about it.
        diagnose: what runs the diagnostics; empty where an evaluation has to come first.
        analyse: what makes pictures and measures features.
        has_heads: whether the model exposes heads or a gate.
    """

    evaluation: Evaluation
    row: Fact
    attacks: tuple[tuple[AttackRow, str], ...]
    diagnostics: tuple[DefinedRow, ...]
    curves: tuple[Figure, ...]
    epsilon: Figure | None
    surfaces: Surfaces | None
    heads: Heads | None
    has_heads: bool
    progress: Progress | None
    classes: Classes | None
    images: Images | None
    transfer: Transfer | None
    diagnose: str
    analyse: str

    @classmethod
    def of(cls, known: Known, number: int, board: Board, standing: Standing) -> Evaluated:
        """The `number`th evaluation of a page, from 1."""
        record, texts, archive = standing.checkpoint, known.material.texts, known.material.archive
        root = addresses.root_of(addresses.checkpoint_page(record))
        evaluation = Evaluation.of(number, standing)
        is_shown = not evaluation.row.failure
        found = archive.insight(standing) if is_shown else None
        galleries = archive.gallery(standing) if is_shown else None
        return cls(
            evaluation=evaluation,
            row=Fact(
                f"{standing.dataset}, {wording.threat(standing.threat)}",
                "Its row on the board",
                f"{root}{addresses.board_page(board)}#{addresses.row_id(record)}",
            ),
            attacks=tuple(_attacks(standing, evaluation, root)),
            diagnostics=tuple(
                DefinedRow.of(row, texts.diagnostics.get(row.id))
                for row in evaluation.evidence.diagnostics
            ),
            curves=behind_diagnostics(standing),
            epsilon=security_curve(standing),
            surfaces=Surfaces.of(standing, texts.surfaces) if is_shown else None,
            heads=Heads.of(standing, known.measurements),
            has_heads=has_heads(standing),
            progress=Progress.of(found),
            classes=Classes.of(found),
            images=Images.of(standing, galleries, found, root + addresses.sheet(record, number)),
            transfer=Transfer.of(standing, known.sources),
            diagnose=wording.diagnose(standing),
            analyse=wording.analyse(standing),
        )

    @property
    def rooms(self) -> tuple[tuple[str, str], ...]:
        """What it consists of, as fragments and names: those parts that have something to show."""
        anchor = self.evaluation.anchor
        parts = (
            ("images", "Images", self.images),
            ("progress", "How the number fell", self.progress),
            ("surfaces", "Surfaces", self.surfaces),
            ("heads", "Heads and gate", self.heads),
            ("epsilon", "Accuracy against epsilon", self.epsilon),
            ("classes", "Classes", self.classes),
            ("transfer", "Transfer", self.transfer),
            ("evidence", "Evidence", self.evaluation.evidence),
            ("diagnostics", "Diagnostics", self.diagnostics),
            ("attacks", "Every attack", self.attacks),
            ("again", "Run it again", self.evaluation.command),
        )
        return tuple((f"{anchor}-{part}", name) for part, name, shown in parts if shown)


def _attacks(
    standing: Standing, evaluation: Evaluation, root: str
) -> Iterator[tuple[AttackRow, str]]:
    """The rows of the table, each with the page of its attack."""
    for row, attack in zip(evaluation.attacks, standing.attacks, strict=True):
        yield row, root + addresses.attack_page(attack.attack)
