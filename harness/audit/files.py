"""Digests against the files that are here: weights, test images, claims, kept images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from harness.claims import claims
from harness.claims.table import key
from harness.data import DATASETS, is_here, load
from harness.errors import HarnessError
from harness.identity import CheckpointRecord, Claim
from harness.store.kept import kept_folder
from harness.store.store import Store


def file_problems(store: Store, folder: Path, data_dir: Path | None = None) -> list[str]:
    """One sentence per file that is not what the database says; what is not here is no problem.

    Args:
        store: the digests.
        folder: of the weights.
        data_dir: of test images, None for the cache.
    """
    problems = []
    for record in store.checkpoints():
        problems += [f"checkpoint {record.name}: {said}" for said in _weights(record, folder)]
    problems += _kept(folder)
    problems += _images(store, data_dir)
    return problems + list(_claims(store.claims()))


def _weights(record: CheckpointRecord, folder: Path) -> Iterator[str]:
    best = str(record.training.get("best_weights", ""))
    expected = {record.weights: record.weights_sha256}
    if best:
        expected[f"{best}.safetensors"] = best
    for name, sha256 in expected.items():
        file = folder / name
        if file.is_file() and (found := _sha256(file)) != sha256:
            yield f"its weights {name[:20]}... have SHA-256 {found[:12]}, recorded is {sha256[:12]}"


def _kept(folder: Path) -> Iterator[str]:
    for file in sorted(kept_folder(folder).glob("*.npy")):
        if _sha256(file) != file.stem:
            yield f"kept images {file.name[:20]}...: their SHA-256 is not their name"


def _images(store: Store, data_dir: Path | None) -> Iterator[str]:
    for stored in store.datasets():
        if stored.name not in DATASETS or not is_here(stored.name, "test", data_dir=data_dir):
            continue
        try:
            data = load(stored.name, "test", data_dir=data_dir, download=False)
        except HarnessError as error:
            yield f"images of {stored.name}: {error}"
            continue
        if data.is_exact is False:
            continue  # rows about these pixels have another name
        if data.identity != stored.sha256:
            yield (
                f"images of {stored.name}: recorded SHA-256 is {stored.sha256[:12]}, that of the "
                f"images here {data.identity[:12]}"
            )
        elif stored.size not in {0, len(data)}:
            yield f"images of {stored.name}: recorded are {stored.size}, here are {len(data)}"


def _claims(stored: list[Claim]) -> Iterator[str]:
    """Claims of the texts that this package knows are word for word its own."""
    packaged = {key(claim): claim for claim in claims()}
    sources = {claim.source for claim in claims()}
    for claim in stored:
        known = packaged.get(key(claim))
        where = f"claim {claim.source} {claim.place}, {claim.defense}, {claim.metric}"
        if known is None and claim.source in sources:
            yield f"{where}: the package knows no such figure of this text"
        elif known is not None and known != claim:
            yield f"{where}: it says {claim.printed}, the package {known.printed}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
