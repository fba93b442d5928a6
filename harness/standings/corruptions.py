"""Accuracy on corrupted test images, from stored bits: cells, means and their intervals.

`attacks.md` section 11. Higher is better throughout; the mean corruption error, which divides by
AlexNet's, is defined for ImageNet-C alone and is never computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from harness.corruptions import (
    CORRUPTIONS,
    FAMILIES,
    MAIN,
    Corruption,
    corruption_named,
    severity_threat,
)
from harness.errors import HarnessError
from harness.identity import AttackSpec, CheckpointRecord, Failure
from harness.standings.values import Rate
from harness.statistics import cluster_bootstrap, wilson
from harness.store.bits import Bits
from harness.store.evidence import gather
from harness.store.store import Store
from harness.threat import SEVERITIES

RESAMPLES = 10_000
SEED = 0
"""Of the bootstrap; fixed, so that the same bits always give the same interval."""


class Cell(NamedTuple):
    """One corruption at one severity."""

    corruption: str
    severity: int


@dataclass(frozen=True)
class Mean:
    """An unweighted mean of accuracies of several cells on the same images.

    Args:
        fraction: in [0, 1].
        low, high: 95 % interval, images drawn with all their variants (cluster bootstrap).
        cells: how many accuracies are averaged.
        examples: on how many of the first images.
    """

    fraction: float
    low: float
    high: float
    cells: int
    examples: int


@dataclass(frozen=True)
class CorruptionStanding:
    """What is known of one checkpoint on the corrupted images of one origin.

    A mean is there only where every cell of it is: no mean of a part passes for the whole.

    Args:
        checkpoint: its record.
        dataset: name of the dataset.
        images: SHA-256 of the clean test images.
        pixels: `files` or `generated`.
        made_by: the layout of the files, or the library and its version.
        cells: right of all images looked at, with a Wilson interval; the extra corruptions too.
        mean: over the 15 main corruptions and five severities, mCA; None while one is missing.
        severities: per severity, over the 15 main corruptions.
        families: per family, over its main corruptions and five severities.
        corruptions: per corruption, over five severities; the extra ones too.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        failures: why jobs ended without an outcome.
    """

    checkpoint: CheckpointRecord
    dataset: str
    images: str
    pixels: str
    made_by: str
    cells: Mapping[Cell, Rate]
    mean: Mean | None
    severities: Mapping[int, Mean | None]
    families: Mapping[str, Mean | None]
    corruptions: Mapping[str, Mean | None]
    seed: int = SEED
    resamples: int = RESAMPLES
    failures: tuple[Failure, ...] = ()


class Origin(NamedTuple):
    """What cells must share to be averaged; `checkpoint` is a digest."""

    checkpoint: str
    dataset: str
    images: str
    pixels: str
    made_by: str


def corruption_standings(
    store: Store, checkpoint: CheckpointRecord | None = None
) -> tuple[CorruptionStanding, ...]:
    """All that is stored about corruptions, of one checkpoint or of all, by dataset and name."""
    with store.snapshot():
        records = [checkpoint] if checkpoint else store.checkpoints()
        found = _found(store, checkpoint)
        failures = _failures(store, checkpoint)
    standings = [
        summary(record, origin, cells, failures.get(origin[:3], ()))
        for origin, cells in found.items()
        for record in records
        if record.digest == origin.checkpoint
    ]
    return tuple(sorted(standings, key=_order))


def measure_corruptions(
    store: Store,
    checkpoint: CheckpointRecord,
    *,
    dataset: str,
    images: str,
    attacks: Mapping[Cell, AttackSpec],
    examples: int,
) -> CorruptionStanding:
    """The standing on exactly these corruptions and the first images.

    Raises:
        HarnessError: one of them does not cover the images yet.
    """
    with store.snapshot():
        found = _found(store, checkpoint, {spec.hash for spec in attacks.values()})
    first = dict(next(iter(attacks.values())).parameters)
    origin = Origin(checkpoint.digest, dataset, images, str(first["pixels"]), str(first["made_by"]))
    there = found.get(origin, {})
    lacking = [cell for cell in attacks if len(there.get(cell, ())) < examples]
    if lacking:
        raise HarnessError(
            f"'{checkpoint.name}' is not finished on the first {examples} corrupted images of "
            f"{dataset}: {len(lacking)} of {len(attacks)} are missing, such as "
            f"{lacking[0].corruption} at severity {lacking[0].severity}. Repeat the command: it "
            "does only what is missing."
        )
    return summary(checkpoint, origin, {cell: there[cell][:examples] for cell in attacks})


def summary(
    checkpoint: CheckpointRecord,
    origin: Origin,
    right: Mapping[Cell, Bits],
    failures: Iterable[Failure] = (),
) -> CorruptionStanding:
    """Cells and means of one checkpoint.

    Args:
        checkpoint: its record.
        origin: of the images.
        right: per cell, [n] which of the first n corrupted images are decided rightly.
        failures: of the same jobs.
    """
    ordered = {cell: right[cell] for cell in _cells(CORRUPTIONS) if cell in right}
    return CorruptionStanding(
        checkpoint=checkpoint,
        dataset=origin.dataset,
        images=origin.images,
        pixels=origin.pixels,
        made_by=origin.made_by,
        cells={cell: _rate(bits) for cell, bits in ordered.items()},
        mean=_mean(right, _cells(MAIN)),
        severities={level: _mean(right, _cells(MAIN, (level,))) for level in SEVERITIES},
        families={
            family: _mean(right, _cells(one for one in MAIN if one.family == family))
            for family in FAMILIES
        },
        corruptions={one.name: _mean(right, _cells([one])) for one in CORRUPTIONS},
        failures=tuple(failures),
    )


def corruption_json(standing: CorruptionStanding) -> dict[str, Any]:
    """One standing as a plain value; what is unknown is null."""
    return {
        "checkpoint": standing.checkpoint.name,
        "scale": standing.checkpoint.scale_mark,
        "digest": standing.checkpoint.digest,
        "dataset": standing.dataset,
        "images": standing.images,
        "pixels": standing.pixels,
        "made_by": standing.made_by,
        "mean_corruption_accuracy": _mean_json(standing.mean),
        "severities": {str(level): _mean_json(m) for level, m in standing.severities.items()},
        "families": {family: _mean_json(mean) for family, mean in standing.families.items()},
        "corruptions": {name: _mean_json(mean) for name, mean in standing.corruptions.items()},
        "cells": [
            {
                "corruption": cell.corruption,
                "family": corruption_named(cell.corruption).family,
                "is_main": corruption_named(cell.corruption).is_main,
                "severity": cell.severity,
                "accuracy": rate.fraction,
                "count": rate.count,
                "examples": rate.total,
                "interval": [rate.low, rate.high],
            }
            for cell, rate in standing.cells.items()
        ],
        "bootstrap": {"seed": standing.seed, "resamples": standing.resamples},
        "failures": [
            {"attack": failure.attack, "status": failure.status, "message": failure.message}
            for failure in standing.failures
        ],
    }


def _mean_json(mean: Mean | None) -> dict[str, Any] | None:
    if mean is None:
        return None
    return {
        "accuracy": mean.fraction,
        "interval": [mean.low, mean.high],
        "cells": mean.cells,
        "examples": mean.examples,
    }


def _cells(corruptions: Iterable[Corruption], severities: Sequence[int] = SEVERITIES) -> list[Cell]:
    return [Cell(one.name, severity) for one in corruptions for severity in severities]


def _mean(right: Mapping[Cell, Bits], cells: Sequence[Cell]) -> Mean | None:
    """On the images that all cells cover; None where a cell is missing."""
    if any(cell not in right for cell in cells):
        return None
    examples = min(len(right[cell]) for cell in cells)
    stacked = np.stack([right[cell][:examples] for cell in cells])
    low, high = cluster_bootstrap(stacked, seed=SEED, resamples=RESAMPLES)
    return Mean(float(stacked.mean()), low, high, len(cells), examples)


def _rate(bits: Bits) -> Rate:
    count, total = int(bits.sum()), len(bits)
    return Rate(count, total, *wilson(count, total))


def _found(
    store: Store, checkpoint: CheckpointRecord | None, hashes: set[str] | None = None
) -> dict[Origin, dict[Cell, Bits]]:
    """Per origin and cell, [n] right on the first n images.

    Where one cell was found twice (the library drew other pixels elsewhere), the longer one.
    """
    found: dict[Origin, dict[Cell, Bits]] = defaultdict(dict)
    for origin, cell, right in _tracks(store, checkpoint, hashes):
        if len(right) > len(found[origin].get(cell, ())):
            found[origin][cell] = right
    return {origin: cells for origin, cells in found.items() if cells}


def _tracks(
    store: Store, checkpoint: CheckpointRecord | None, hashes: set[str] | None
) -> Iterator[tuple[Origin, Cell, Bits]]:
    specs = {key: attack.spec for key, attack in store.attacks().items()}
    known = {corruption.name for corruption in CORRUPTIONS}
    digest = None if checkpoint is None else checkpoint.digest
    for severity in SEVERITIES:
        for evidence in gather(store.slices(checkpoint=digest, threat=severity_threat(severity))):
            owner = evidence.checkpoint, evidence.dataset, evidence.images
            for search in sorted(evidence.tracks):
                spec = specs[search.attack]
                if spec.attack not in known or (hashes is not None and spec.hash not in hashes):
                    continue
                said = dict(spec.parameters)
                origin = Origin(*owner, str(said.get("pixels", "")), str(said.get("made_by", "")))
                right = ~evidence.tracks[search].broken[: evidence.prefix(search)]
                yield origin, Cell(spec.attack, severity), right


def _failures(
    store: Store, checkpoint: CheckpointRecord | None
) -> dict[tuple[str, ...], list[Failure]]:
    found: dict[tuple[str, ...], list[Failure]] = defaultdict(list)
    for failure in store.failures(None if checkpoint is None else checkpoint.digest):
        if not failure.threat.is_ball:
            found[failure.checkpoint, failure.dataset, failure.images].append(failure)
    return found


def _order(standing: CorruptionStanding) -> tuple[str, str, str, float, str]:
    mean = -1.0 if standing.mean is None else standing.mean.fraction
    return standing.dataset, standing.images, standing.made_by, -mean, standing.checkpoint.name
