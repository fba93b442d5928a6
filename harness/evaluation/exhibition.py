"""Analyse one checkpoint: a piece of work as plain values, measurements as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from harness.analysis.analysis import ANALYSES, Pairs, Reading
from harness.analysis.exhibit import Exhibit, Learnt, NotRun, View
from harness.analysis.pictures import pictures
from harness.attacks.attack import ATTACKS, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.search import Search
from harness.attacks.streams import Streams
from harness.attacks.surface_text import DIGITS, surface_named
from harness.data import dataset, is_here, load
from harness.errors import HarnessError, ModelError
from harness.evaluation.exact import compute_exactly
from harness.evaluation.examine import right
from harness.evaluation.handle import Handle
from harness.evaluation.kept import rounded_inside
from harness.evaluation.searching import NO_AIDS, Aids
from harness.evaluation.subject import Subject, load_subject, subject_of
from harness.evaluation.work import guides, test_split
from harness.identity import (
    SHARD,
    AdversarialGallery,
    AttackSpec,
    CheckpointRecord,
    Failure,
    Measurement,
)
from harness.models.network import Network
from harness.models.weights import write_whole
from harness.rebuilding import composed, load_network
from harness.threat import ThreatModel
from harness.verification import VerificationError, check_inside, fresh_decision


@dataclass(frozen=True)
class WorstAttack:
    """The stored attack that broke most of a checkpoint's images.

    Args:
        spec: what it was.
        seed: of its random streams.
        broken: indices of the test images that it broke.
        surrogate: checkpoint that it transfers from, if it does.
    """

    spec: AttackSpec
    seed: int
    broken: tuple[int, ...]
    surrogate: CheckpointRecord | None = None

    @property
    def label(self) -> str:
        """What a reading under it is on: the attack's, with its seed where that is not 0."""
        return f"{self.spec.label}, seed {self.seed}" if self.seed else self.spec.label


@dataclass(frozen=True)
class Exhibition:
    """Analyses of a checkpoint, with everything that they take.

    Args:
        record: the checkpoint.
        analyses: their names; none where only pictures are wanted.
        dataset: registered name of the test images.
        label: as rows name them.
        images: SHA-256 of the test split.
        threat: norm and epsilon.
        seed: run seed.
        examples: the first so many images.
        folder: of the weights.
        data_dir: of the images, None for the cache.
        device: where to run.
        worst: the attack under which the images are looked at too; PGD-20 if None.
        pictures: folder for pictures of feature space, None for no pictures.
    """

    record: CheckpointRecord
    analyses: tuple[str, ...]
    dataset: str
    label: str
    images: str
    threat: ThreatModel
    seed: int
    examples: int
    folder: Path
    data_dir: Path | None
    device: str = "cpu"
    worst: WorstAttack | None = None
    pictures: Path | None = None


@dataclass(frozen=True)
class Exhibited:
    """What came of it.

    Args:
        checkpoint: digest.
        measurements: one per analysis and form of the images.
        adversarial: pictures under the worst attack, of an analysis that keeps some.
        drawn: files that were written.
        undrawn: why no picture could be drawn, or empty.
    """

    checkpoint: str
    measurements: tuple[Measurement, ...]
    adversarial: tuple[AdversarialGallery, ...] = ()
    drawn: tuple[Path, ...] = ()
    undrawn: str = ""


def exhibit(work: Exhibition) -> Exhibited | Failure:
    """Do it. A checkpoint that cannot be loaded or attacked gives a failure."""
    try:
        shown = _exhibit(work)
        found = [
            (name, reading) for name in work.analyses for reading in ANALYSES[name].read(shown)
        ]
        drawn, undrawn = _draw(work, shown)
        return Exhibited(
            work.record.digest,
            tuple(_measurement(work, name, reading) for name, reading in found),
            tuple(_kept(work, reading.pairs) for _, reading in found if reading.pairs),
            drawn,
            undrawn,
        )
    except ModelError as error:
        return _failure(work, error.status, str(error))
    except HarnessError as error:
        return _failure(work, "not_loaded", str(error))
    except VerificationError as error:
        return _failure(work, "violation", str(error))
    except torch.OutOfMemoryError:
        return _failure(
            work, "out_of_memory", "the device ran out of memory: use fewer --examples."
        )


def _exhibit(work: Exhibition) -> Exhibit:
    subject = _load(work, work.record)
    compute_exactly()
    data = test_split(work.dataset, work.data_dir)
    count = min(work.examples, len(data))
    images, labels = data.batch(0, count).to(work.device), data.labels[:count].to(work.device)
    module, is_ours = subject.model.module, work.record.kind == "trained"
    return Exhibit(
        record=work.record,
        model=subject.model,
        images=images,
        labels=labels,
        indices=range(count),
        threat=work.threat,
        worst=_worst(work, subject, images, labels),
        training=_training(work),
        network=module if isinstance(module, Network) else None,
        defense=composed(work.record) if is_ours else None,
        best=_best(work),
        seed=work.seed,
    )


def _worst(work: Exhibition, subject: Subject, images: Tensor, labels: Tensor) -> View | None:
    """The images of the worst stored attack, made again where somebody looks at them.

    A random model is not looked at.
    """
    worst = work.worst
    is_looked_at = work.pictures is not None or any(
        ANALYSES[name].follows_attack for name in work.analyses
    )
    if worst is None or not is_looked_at or subject.capabilities.is_random:
        return None
    surrogate = worst.surrogate
    aids = Aids(
        {} if surrogate is None else {surrogate.digest[:DIGITS]: _load(work, surrogate).model},
        guides(work.dataset, work.data_dir) if ATTACKS[worst.spec.attack].needs_guides else None,
    )
    return again(worst, subject, images, labels, work.threat, aids)


def again(
    worst: WorstAttack,
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    aids: Aids = NO_AIDS,
) -> View:
    """Run a stored attack once more and keep its images.

    Same code, streams and slices as when it was stored, so on the CPU it breaks the same images.
    What is wrong without an attack stays as it is; where nothing breaks, the point of the highest
    value is kept. Every image is verified, and judged by a pass of its own.

    Args:
        worst: the attack.
        subject: the loaded checkpoint.
        images: [N, C, H, W], the first of the test split.
        labels: [N].
        threat: norm and epsilon.
        aids: what it uses besides the model.

    Raises:
        VerificationError: it returned an image that is not allowed.
        ModelError: the model misbehaved.
    """
    attackable = right(subject, images, labels)
    adversarial = images.clone()
    broken: set[int] = set()
    for first in range(0, len(labels), SHARD):  # some attacks couple the images of a slice
        places = first + attackable[first : first + SHARD].nonzero()[:, 0]
        if len(places) == 0:
            continue
        search = Search(
            surface_named(
                worst.spec.surface,
                subject.model,
                subject.capabilities,
                subject.training_loss,
                aids.surrogates,
            ),
            Ball.around(images[places], threat),
            labels[places],
            Streams(worst.seed, worst.spec.hash, places.tolist()),
            guides=aids.guides,
        )
        run_attack(worst.spec, search)
        check_inside(images[places], search.adversarial, threat)
        decided, _ = fresh_decision(
            lambda x: subject.model(x).logits, search.adversarial, labels[places]
        )
        adversarial[places] = search.adversarial
        broken |= set(places[search.broken & (decided != labels[places])].tolist())
    note = _note(worst, broken, int(attackable.sum()))
    return View(worst.label, adversarial, note, rounded_inside(images, adversarial, threat))


def _note(worst: WorstAttack, broken: set[int], attacked: int) -> str:
    stored = set(worst.broken)
    text = f"Seed {worst.seed}: broke {len(broken)} of {attacked} images that were right"
    lost = len(stored - broken)
    return f"{text}; {lost} that it broke when stored held this time." if lost else f"{text}."


def _training(work: Exhibition) -> Callable[[], Learnt] | None:
    if not is_here(work.dataset, "train", data_dir=work.data_dir):
        return None
    return partial(_learnt, work.dataset, work.data_dir)


def _learnt(name: str, data_dir: Path | None) -> Learnt:
    split = load(name, "train", data_dir=data_dir, download=False)
    return Learnt(split.images, split.labels)


def _best(work: Exhibition) -> Callable[[], Handle] | None:
    return partial(_load_best, work) if work.record.training.get("best_weights") else None


def _load_best(work: Exhibition) -> Handle:
    record, sha256 = work.record, str(work.record.training["best_weights"])
    file = f"{sha256}.safetensors"
    if not (work.folder / file).is_file():
        raise NotRun(
            f"the weights of the best epoch of '{record.name}' are not here ({sha256[:20]}...): "
            "they stayed on another machine."
        )
    network = load_network(record, work.folder, dataset(work.dataset), weights=(file, sha256))
    return subject_of(network.to(work.device), record.capabilities, None).model


def _draw(work: Exhibition, shown: Exhibit) -> tuple[tuple[Path, ...], str]:
    if work.pictures is None:
        return (), ""
    try:
        found = pictures(shown)
    except NotRun as reason:
        return (), str(reason)
    written = []
    for name, content in found.items():
        path = work.pictures / f"{work.record.name}-{name}.svg"
        write_whole(path, content)
        written.append(path)
    return tuple(written), ""


def _load(work: Exhibition, record: CheckpointRecord) -> Subject:
    return load_subject(record, work.folder, dataset(work.dataset), device=work.device)


def _measurement(work: Exhibition, name: str, reading: Reading) -> Measurement:
    return Measurement(
        checkpoint=work.record.digest,
        dataset=work.label,
        images=work.images,
        threat=work.threat,
        seed=work.seed,
        examples=work.examples,
        analysis=name,
        on=reading.on,
        values={key: tuple(map(float, numbers)) for key, numbers in reading.values.items()},
        note=reading.note,
    )


def _kept(work: Exhibition, pairs: Pairs) -> AdversarialGallery:
    worst = work.worst
    if worst is None:
        raise ValueError("pictures of no attack")
    _, channels, height, width = pairs.pixels.shape
    return AdversarialGallery(
        checkpoint=work.record.digest,
        dataset=work.label,
        images=work.images,
        threat=work.threat,
        attack=worst.spec.label,
        seed=worst.seed,
        indices=pairs.indices,
        broken=pairs.broken,
        predicted=pairs.predicted,
        shape=(channels, height, width),
        pixels=pairs.pixels.contiguous().numpy().tobytes(),
    )


def _failure(work: Exhibition, status: str, message: str) -> Failure:
    return Failure(
        checkpoint=work.record.digest,
        dataset=work.label,
        images=work.images,
        threat=work.threat,
        attack="analysis",
        status=status,
        message=message[:1000],
    )
