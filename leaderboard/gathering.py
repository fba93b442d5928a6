"""From a store to the material of a site."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.identity import CheckpointRecord, Measurement
from harness.standings import Standing
from harness.standings.comparison import compared
from harness.standings.corruptions import corruption_standings
from harness.standings.derivation import read_boards
from harness.standings.insight import Insight, insight, known_labels
from harness.standings.significance import significance
from harness.store.store import Store
from leaderboard.addresses import board_slug
from leaderboard.material import Material
from leaderboard.texts import texts

if TYPE_CHECKING:
    from harness.identity import AdversarialGallery, Gallery


class StoreArchive:
    """Reads what is heavy from a store, which stays open as long as the site is built."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._labels: dict[tuple[str, str], dict[int, int]] = {}

    def insight(self, standing: Standing) -> Insight | None:
        """Derived from the bits and decisions of one row.

        None where nothing was counted, or where the store gives another number than the row has:
        somebody edited it, which `harness results verify` names and which stops no other page.
        """
        if not standing.examples:
            return None
        try:
            return insight(self._store, standing, self._labels_of(standing))
        except HarnessError:
            return None

    def known(self, standing: Standing) -> str:
        """A digest of the known classes of the images that the row counts."""
        labels = self._labels_of(standing)
        said = [labels.get(image) for image in range(standing.examples)]
        return hashlib.sha256(repr(said).encode()).hexdigest()

    def _labels_of(self, standing: Standing) -> Mapping[int, int]:
        key = (standing.dataset, standing.images)
        if key not in self._labels:
            self._labels[key] = known_labels(self._store, *key)
        return self._labels[key]

    def measurements(self, record: CheckpointRecord) -> Sequence[Measurement]:
        """What analyses measured on a checkpoint."""
        return self._store.measurements(checkpoint=record.digest)

    def gallery(self, standing: Standing) -> tuple[Gallery, AdversarialGallery] | None:
        """The fixed images of the row's test split, clean and attacked."""
        clean = self._store.gallery(standing.dataset, standing.images)
        found = self._store.adversarial(
            standing.checkpoint.digest, images=standing.images, threat=standing.threat
        )
        return None if clean is None or not found else (clean, found[0])

    def download(self) -> bytes:
        """Everything stored as one finished SQLite file."""
        return self._store.whole_file()

    def download_size(self) -> int:
        """About how many bytes that is."""
        return self._store.whole_size()


def gather(store: Store, *, generated: str = "") -> Material:
    """Everything that a site of this store shows."""
    said = texts()
    found = read_boards(store)
    shown = {row.checkpoint.name for one in found for row in one.board.standings}
    return Material(
        boards=tuple(one.board for one in found),
        corruptions=corruption_standings(store),
        claims=store.claims(),
        comparisons=tuple(compared((one.rows for one in found), said.baselines)),
        significances={board_slug(one.board): significance(one.rows) for one in found},
        stamps=store.stamps(),
        texts=said,
        archive=StoreArchive(store),
        waiting=tuple(one for one in store.checkpoints() if one.name not in shown),
        generated=generated,
    )
