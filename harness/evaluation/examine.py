"""Run diagnostics on one checkpoint: a piece of work as plain values, findings as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from harness.attacks.search import Guides, is_right
from harness.attacks.surface_text import DIGITS
from harness.data import dataset, is_here
from harness.diagnostics.diagnostic import DIAGNOSTICS, NOT_RUN, Diagnostic, Reading
from harness.diagnostics.examination import Examination, RowFacts
from harness.errors import HarnessError, ModelError
from harness.evaluation.exact import compute_exactly
from harness.evaluation.subject import Subject, load_subject
from harness.evaluation.work import guides, test_split
from harness.identity import DIAGNOSED, CheckpointRecord, Failure, Finding
from harness.threat import ThreatModel

CORRECT_IMAGES = 500
"""Clean-correct images of the diagnostic subset; every misclassified one is added."""


@dataclass(frozen=True)
class Diagnosis:
    """Diagnostics to run on a checkpoint, with everything that this takes.

    Args:
        record: the checkpoint.
        diagnostics: their ids.
        dataset: registered name of the test images.
        label: as rows name them.
        images: SHA-256 of the test split.
        threat: norm and epsilon.
        seed: run seed.
        examples: the subset is taken from the first so many images.
        folder: of the weights.
        data_dir: of the images, None for the cache.
        device: where to run.
        surrogates: checkpoints to transfer from.
        row: what standings say.
    """

    record: CheckpointRecord
    diagnostics: tuple[str, ...]
    dataset: str
    label: str
    images: str
    threat: ThreatModel
    seed: int
    examples: int
    folder: Path
    data_dir: Path | None
    device: str = "cpu"
    surrogates: tuple[CheckpointRecord, ...] = ()
    row: RowFacts = field(default_factory=RowFacts)


def diagnose(work: Diagnosis) -> list[Finding] | Failure:
    """Run them in the order given. A model that cannot be loaded or judged gives a failure."""
    try:
        examination = examine(work)
        return [
            _finding(work, examination, entry, entry.read(examination))
            for entry in (DIAGNOSTICS[identity] for identity in work.diagnostics)
        ]
    except ModelError as error:
        return _failure(work, error.status, str(error))
    except HarnessError as error:
        return _failure(work, "not_loaded", str(error))
    except torch.OutOfMemoryError:
        return _failure(
            work, "out_of_memory", "the device ran out of memory: use fewer --examples."
        )


def examine(work: Diagnosis) -> Examination:
    """The examination of a checkpoint on its diagnostic subset."""
    subject = _load(work, work.record)
    compute_exactly()
    data = test_split(work.dataset, work.data_dir)
    count = min(work.examples, len(data))
    images = data.batch(0, count).to(work.device)
    labels = data.labels[:count].to(work.device)
    chosen = subset(right(subject, images, labels).cpu())
    return Examination(
        model=subject.model,
        module=subject.model.module,
        images=images[chosen],
        labels=labels[chosen],
        indices=chosen.tolist(),
        threat=work.threat,
        capabilities=subject.capabilities,
        training_loss=subject.training_loss,
        surrogates={one.digest[:DIGITS]: _load(work, one).model for one in work.surrogates},
        guides=_guides(work),
        row=work.row,
        seed=work.seed,
    )


def subset(right: Tensor, most: int = CORRECT_IMAGES) -> Tensor:
    """Positions of the first `most` right images and of every wrong one, in order."""
    kept = ~right | (right.cumsum(0) <= most)
    return kept.nonzero()[:, 0]


def missing(
    stored: Sequence[Finding],
    wanted: Sequence[str],
    *,
    seed: int,
    examples: int,
    is_adaptive: bool,
    has_surrogates: bool = False,
) -> tuple[str, ...]:
    """Which diagnostics are not stored yet for so many images, or lack what is there now.

    Args:
        stored: what is known about the checkpoint.
        wanted: ids.
        seed: run seed.
        examples: of how many images; findings on more of them are good enough.
        is_adaptive: whether the adaptive union is complete now.
        has_surrogates: whether there are any now.
    """
    known = {
        one.diagnostic
        for one in stored
        if one.seed == seed
        and one.examples >= examples
        and one.is_adaptive >= is_adaptive
        and not (has_surrogates and one.state == NOT_RUN and _needs_surrogates(one.diagnostic))
    }
    return tuple(identity for identity in wanted if identity not in known)


def _needs_surrogates(identity: str) -> bool:
    return identity in DIAGNOSTICS and DIAGNOSTICS[identity].needs == "surrogates"


def _guides(work: Diagnosis) -> Guides | None:
    """Training images; diagnostics whose attacks draw from them are "not run" without any."""
    if not is_here(work.dataset, "train", data_dir=work.data_dir):
        return None
    return guides(work.dataset, work.data_dir)


def right(subject: Subject, images: Tensor, labels: Tensor, size: int = 250) -> Tensor:
    """[N] bool, on the device of the labels: which images are right as they are."""
    with torch.no_grad():
        logits = [subject.model(batch).logits for batch in torch.split(images, size)]
    return is_right(torch.cat(logits), labels)


def _load(work: Diagnosis, record: CheckpointRecord) -> Subject:
    return load_subject(record, work.folder, dataset(work.dataset), device=work.device)


def _finding(
    work: Diagnosis, examination: Examination, entry: Diagnostic, reading: Reading
) -> Finding:
    proof: tuple[int, ...] = ()
    if reading.proof is not None:
        positions = reading.proof.nonzero()[:, 0].tolist()
        proof = tuple(int(examination.indices[position]) for position in positions)
    value = reading.value
    return Finding(
        checkpoint=work.record.digest,
        dataset=work.label,
        images=work.images,
        threat=work.threat,
        seed=work.seed,
        examples=work.examples,
        diagnostic=entry.id,
        state=reading.state,
        value=float(value) if value is not None and math.isfinite(value) else None,
        threshold=entry.threshold,
        proof=proof,
        note=reading.note,
        is_adaptive=work.row.is_adaptive,
        details=_plain(reading.details),
    )


def _plain(details: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(float(value) for value in values) for name, values in details.items()}


def _failure(work: Diagnosis, status: str, message: str) -> Failure:
    return Failure(
        checkpoint=work.record.digest,
        dataset=work.label,
        images=work.images,
        threat=work.threat,
        attack=DIAGNOSED,
        status=status,
        message=message[:1000],
    )
