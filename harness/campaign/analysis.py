"""Analyse checkpoints and record what is measured; what is stored is not measured again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.analysis.analysis import ANALYSES
from harness.analysis.exhibit import CLEAN_IMAGES, PGD_20
from harness.attacks.attack import ATTACKS, with_settings
from harness.attacks.surface_text import DIGITS, split_surface
from harness.campaign.pieces import run_pieces
from harness.campaign.pool import others_of
from harness.campaign.request import Provenance, Report, Subjects
from harness.errors import HarnessError, unknown_name
from harness.evaluation.exhibition import Exhibited, Exhibition, WorstAttack, exhibit
from harness.identity import (
    PICTURES,
    AttackSpec,
    CheckpointRecord,
    Failure,
    Gallery,
    Measurement,
    Runtime,
)
from harness.store.bits import unpack
from harness.store.store import Store
from harness.threat import ThreatModel

Found = Mapping[str, Exhibited | Failure]
"""What came of each checkpoint that there was work for, by digest."""


def analyse_all(
    store: Store,
    subjects: Subjects,
    *,
    threat: ThreatModel,
    examples: int,
    runtime: Runtime,
    wanted: Sequence[str] = (),
    seed: int = 0,
    pictures: Path | None = None,
    provenance: Provenance | None = None,
    report: Report | None = None,
) -> Found:
    """Measure what is missing, one checkpoint per piece of work.

    Args:
        store: where measurements go.
        subjects: the checkpoints and their test split.
        threat: of the attacked images.
        examples: the first so many images.
        runtime: device and workers.
        wanted: names of analyses; all of them if empty.
        seed: run seed.
        pictures: folder for pictures of feature space, drawn every time; None for none.
        provenance: recorded with the run.
        report: told how far it is.

    Raises:
        HarnessError: a name that no analysis has.
    """
    chosen = check_analyses(wanted)
    count = min(examples, len(subjects.data))
    if any(ANALYSES[name].keeps_pairs for name in chosen):
        _record_gallery(store, subjects)
    work = list(_work(store, subjects, threat, count, chosen, seed, runtime, pictures))
    pieces = run_pieces(
        exhibit,
        work,
        store,
        subjects,
        runtime,
        kind="analysis",
        provenance=provenance,
        report=report,
    )
    found: dict[str, Exhibited | Failure] = {}
    for piece in pieces:
        found[piece.checkpoint] = piece
        if isinstance(piece, Exhibited):
            for measurement in piece.measurements:
                if measurement.values or not _is_measured(store, measurement):
                    store.record_measurement(measurement)
            for shown in piece.adversarial:
                store.record_adversarial(shown)
    return found


def _record_gallery(store: Store, subjects: Subjects) -> None:
    """Keep the first test images beside which adversarial ones are shown."""
    data = subjects.data
    pixels = data.images[:PICTURES]
    count, channels, height, width = pixels.shape
    shown = Gallery(
        dataset=subjects.label,
        images=data.identity,
        indices=tuple(range(count)),
        labels=tuple(data.labels[:count].tolist()),
        shape=(channels, height, width),
        pixels=pixels.cpu().contiguous().numpy().tobytes(),
    )
    if store.gallery(subjects.label, data.identity) != shown:
        store.record_gallery(shown)


def _is_measured(store: Store, one: Measurement) -> bool:
    """Whether numbers are stored already in whose place a reading would stand."""
    stored = store.measurements(checkpoint=one.checkpoint, images=one.images, threat=one.threat)
    return any(
        other.values and (other.analysis, other.on) == (one.analysis, one.on) for other in stored
    )


def check_analyses(wanted: Sequence[str]) -> tuple[str, ...]:
    """The analyses that were asked for, all of them if none.

    Raises:
        HarnessError: a name that no analysis has.
    """
    for name in wanted:
        if name not in ANALYSES:
            raise unknown_name("analysis", name, ANALYSES)
    return tuple(wanted) or tuple(ANALYSES)


def measurements_of(
    store: Store, subjects: Subjects, record: CheckpointRecord, threat: ThreatModel
) -> list[Measurement]:
    """What is stored about a checkpoint on these images, by analysis; clean images first.

    Why something could not be measured is left out where it has been measured since.
    """
    found = store.measurements(
        checkpoint=record.digest, images=subjects.data.identity, threat=threat
    )
    ours = [one for one in found if one.dataset == subjects.label]
    read = {(one.analysis, one.seed, one.examples) for one in ours if one.values}
    current = (
        one
        for one in ours
        if one.values
        or (one.analysis, one.seed, one.examples) not in read
        or (one.analysis in ANALYSES and ANALYSES[one.analysis].follows_attack)
    )
    return sorted(current, key=lambda one: (one.analysis, one.on != CLEAN_IMAGES, one.on))


def worst_attack(
    store: Store,
    subjects: Subjects,
    record: CheckpointRecord,
    threat: ThreatModel,
    examples: int,
) -> WorstAttack | None:
    """The stored attack that broke most of the first `examples` images, of every stage and seed.

    Attacks that cannot be run here (unknown, with other parameters than here, or from a checkpoint
    that is gone) are left out. Of two that broke as many, the one whose label, then seed comes
    first.
    """
    found: dict[tuple[str, int], set[int]] = {}
    slices = store.slices(checkpoint=record.digest, images=subjects.data.identity, threat=threat)
    for one in slices:
        if one.dataset == subjects.label and one.first < examples:
            broken = np.flatnonzero(unpack(one.broken, one.last - one.first)) + one.first
            inside = broken[broken < examples].tolist()
            found.setdefault((one.attack, one.seed), set()).update(inside)
    known = store.attacks()
    others = others_of(record, store.checkpoints(), subjects.folder)
    fitting = []
    for (attack, seed), places in found.items():
        spec = known[attack].spec
        if not _can_be_run(spec):
            continue
        surface, digest = split_surface(spec.surface)
        if surface != "surrogate" or digest in others:
            other = others.get(digest[:DIGITS]) if surface == "surrogate" else None
            fitting.append(WorstAttack(spec, seed, tuple(sorted(places)), other))
    return min(fitting, key=lambda w: (-len(w.broken), w.spec.label, w.seed), default=None)


def missing(
    stored: Sequence[Measurement],
    wanted: Sequence[str],
    *,
    seed: int,
    examples: int,
    attack: str,
    has_pairs: bool = False,
) -> tuple[str, ...]:
    """Which analyses are not stored for exactly so many images, clean and under this attack.

    Args:
        stored: what is known about the checkpoint.
        wanted: names of analyses.
        seed: run seed.
        examples: of how many images.
        attack: label of the worst attack that is stored now.
        has_pairs: whether the pictures that are kept are of this attack and so many images.
    """
    seen = {
        (one.analysis, one.on)
        for one in stored
        if one.values and one.seed == seed and one.examples == examples
    }
    done = {analysis for analysis, _ in seen}

    def is_done(name: str) -> bool:
        if not ANALYSES[name].follows_attack:
            return name in done
        if ANALYSES[name].keeps_pairs and not has_pairs:
            return False
        # clean is kept once: fewer images, another seed or a failure since took its place
        return {(name, CLEAN_IMAGES), (name, attack)} <= seen

    return tuple(name for name in wanted if not is_done(name))


def _has_pairs(
    store: Store,
    subjects: Subjects,
    record: CheckpointRecord,
    threat: ThreatModel,
    worst: WorstAttack,
    examples: int,
) -> bool:
    """Whether pictures of this very attack are kept, of as many images as there should be."""
    kept = store.adversarial(record.digest, images=subjects.data.identity, threat=threat)
    wanted = (subjects.label, worst.spec.label, worst.seed, min(PICTURES, examples))
    return wanted in {(one.dataset, one.attack, one.seed, len(one.indices)) for one in kept}


def _can_be_run(spec: AttackSpec) -> bool:
    """Whether somebody could ask for this very attack here, in words."""
    if spec.attack not in ATTACKS or not {"surface", "loss"}.isdisjoint(dict(spec.parameters)):
        return False
    try:
        return with_settings(spec).hash == spec.hash
    except HarnessError:
        return False


def _work(
    store: Store,
    subjects: Subjects,
    threat: ThreatModel,
    examples: int,
    wanted: tuple[str, ...],
    seed: int,
    runtime: Runtime,
    pictures: Path | None,
) -> Iterator[Exhibition]:
    for record in {one.digest: one for one in subjects.records}.values():
        worst = worst_attack(store, subjects, record, threat, examples)
        lacking = missing(
            measurements_of(store, subjects, record, threat),
            wanted,
            seed=seed,
            examples=examples,
            attack=PGD_20.label if worst is None else worst.label,
            has_pairs=worst is not None
            and _has_pairs(store, subjects, record, threat, worst, examples),
        )
        if lacking or pictures is not None:
            yield Exhibition(
                record=record,
                analyses=lacking,
                dataset=subjects.dataset.name,
                label=subjects.label,
                images=subjects.data.identity,
                threat=threat,
                seed=seed,
                examples=examples,
                folder=subjects.folder,
                data_dir=subjects.data_dir,
                device=runtime.device,
                worst=worst,
                pictures=pictures,
            )
