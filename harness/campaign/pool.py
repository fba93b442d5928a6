"""The fixed pool of surrogates that attacks are transferred from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.attacks.surface_text import DIGITS
from harness.identity import CheckpointRecord
from harness.store.store import weights_are_here

SURROGATES = ("standard", "pgd_at", "trades")
"""Defenses of the pool, plain networks all (`attacks.md` section 8; the stripped twin is a
surface of its own)."""


def pool_of(
    record: CheckpointRecord, stored: Iterable[CheckpointRecord], folder: Path
) -> dict[str, CheckpointRecord]:
    """One checkpoint of each defense of the pool, by the start of its digest.

    Args:
        record: what is attacked; never its own surrogate.
        stored: all checkpoints, by name. The first that fits is taken: same dataset, and same
            architecture where the record's own is known.
        folder: of the weights, which must be here.
    """
    fitting = [
        one
        for one in others_of(record, stored, folder).values()
        if record.architecture in {"", one.architecture}
    ]
    firsts = (next((o for o in fitting if o.defense == name), None) for name in SURROGATES)
    return {one.digest[:DIGITS]: one for one in firsts if one is not None}


def others_of(
    record: CheckpointRecord, stored: Iterable[CheckpointRecord], folder: Path
) -> dict[str, CheckpointRecord]:
    """Every checkpoint that attacks chosen by hand may transfer from, as in `pool_of`.

    Any architecture and defense on the same dataset whose weights are here, in the order stored.
    """
    found: dict[str, CheckpointRecord] = {}
    for one in stored:
        fits = one.dataset == record.dataset and one.digest != record.digest
        if fits and weights_are_here(one, folder):
            found.setdefault(one.digest[:DIGITS], one)
    return found
