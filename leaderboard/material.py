"""Everything that pages may show: what is cheap is read at once, the rest where it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from harness.errors import HarnessError, unknown_name
from harness.identity import CheckpointRecord, Claim, Measurement
from harness.standings import Board, Standing
from harness.standings.comparison import Comparison
from harness.standings.corruptions import CorruptionStanding
from leaderboard.addresses import board_slug
from leaderboard.texts import Texts, texts

if TYPE_CHECKING:
    from harness.identity import AdversarialGallery, Gallery
    from harness.standings.insight import Insight
    from harness.standings.significance import Significance


class Archive(Protocol):
    """What is read only for a page that is drawn anew, and what is cheap enough to ask for all."""

    def insight(self, standing: Standing) -> Insight | None:
        """Classes, confusion, history: what is derived from the bits of one row."""

    def known(self, standing: Standing) -> str:
        """What changes with the known classes of a row's images: other checkpoints tell them."""

    def measurements(self, record: CheckpointRecord) -> Sequence[Measurement]:
        """What analyses measured on a checkpoint."""

    def gallery(self, standing: Standing) -> tuple[Gallery, AdversarialGallery] | None:
        """The fixed images of a row's test split, clean and attacked; None where none are kept."""

    def download(self) -> bytes | None:
        """The whole database as one SQLite file; None where it has no such file."""

    def download_size(self) -> int | None:
        """About how many bytes `download` gives; None where it gives nothing."""


class Empty:
    """An archive of nothing."""

    def insight(self, standing: Standing) -> None:
        """Nothing."""

    def known(self, standing: Standing) -> str:  # noqa: ARG002
        """Nothing."""
        return ""

    def measurements(self, record: CheckpointRecord) -> tuple[Measurement, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    def gallery(self, standing: Standing) -> None:
        """Nothing."""

    def download(self) -> None:
        """Nothing."""

    def download_size(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Material:
    """What a site is made of.

    Args:
        boards: in the order shown.
        corruptions: of the checkpoints on them.
        claims: published figures.
        comparisons: defenses beside their baselines.
        significances: paired tests, by slug of the board.
        stamps: by digest of a function, a text that changes when anything stored about it does.
        texts: what the harness says of its defenses, attacks and diagnostics.
        archive: reads what is heavy.
        waiting: checkpoints that are on no board: nothing attacked them yet.
        generated: when and from what, as text for the footer; part of the bytes.
        only: slug of the board that everything was cut down to; empty for the whole.
    """

    boards: Sequence[Board] = ()
    corruptions: Sequence[CorruptionStanding] = ()
    claims: Sequence[Claim] = ()
    comparisons: Sequence[Comparison] = ()
    significances: Mapping[str, Significance] = field(default_factory=dict)
    stamps: Mapping[str, str] = field(default_factory=dict)
    texts: Texts = field(default_factory=texts)
    archive: Archive = field(default_factory=Empty)
    waiting: Sequence[CheckpointRecord] = ()
    generated: str = ""
    only: str = ""

    def slug_of(self, text: str) -> str:
        """The slug of the board that somebody means: its slug, or its dataset if that has one.

        Raises:
            HarnessError: no board or several are meant.
        """
        slugs = {board_slug(board): board.dataset for board in self.boards}
        wanted = text.strip().lower()
        fitting = [s for s, dataset in slugs.items() if wanted in {s, dataset.lower()}]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise HarnessError(
                f"'{text}' has {len(fitting)} boards: choose one of {', '.join(sorted(fitting))}."
            )
        raise unknown_name("board", text, {*slugs, *slugs.values()})

    def cut_down_to(self, slug: str) -> Material:
        """The part of it that one board needs."""
        kept = [board for board in self.boards if board_slug(board) == slug]
        names = {row.checkpoint.name for board in kept for row in board.standings}
        return replace(
            self,
            boards=kept,
            corruptions=[one for one in self.corruptions if one.checkpoint.name in names],
            comparisons=[
                one
                for one in self.comparisons
                if any(row in board.standings for board in kept for row in one.standings)
            ],
            waiting=(),
            only=slug,
        )
