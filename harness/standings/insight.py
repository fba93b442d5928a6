"""One row looked into: per class, what is taken for what, which attack lowered it when.

Derived from the bits behind a standing and the decisions stored beside them. The true class of an
image is stored nowhere: it follows from any checkpoint that is right on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np

from harness.identity import PICTURES
from harness.standings.decided import NOBODY, Classes, Decided, broken_of, classes_of, decided
from harness.standings.history import Drop, history, rate_of
from harness.standings.values import Rate, Standing
from harness.store.store import Store

__all__ = ["ClassStanding", "Drop", "Insight", "insight", "known_labels"]

MOST_CLASSES = 1000
"""A dataset or a checkpoint may claim any number of classes; images of further ones are unknown."""


@dataclass(frozen=True)
class ClassStanding:
    """One class of a standing.

    Args:
        name: as the dataset names it, else its number.
        clean: of its images, right as they are.
        robust: of its images, right and not broken by any attack.
    """

    name: str
    clean: Rate
    robust: Rate


@dataclass(frozen=True)
class Insight:
    """What a standing's numbers are made of, on the images that it counts.

    Args:
        classes: one per class, in the dataset's order; only of images whose class is known.
        confusion: [K][K], true class by decision in the worst case: that of the first attack in
            plan order that broke the image, else the clean one. The diagonal is `robust`.
        unknown: images that `confusion` leaves out, since nobody knows their class or the
            decision was not recorded.
        history: the clean accuracy, every date at which the union fell, and the last date.
        broken_by: for the first `PICTURES` images, labels of the attacks that broke each, in plan
            order; an image that is misclassified as it is, is absent.
    """

    classes: tuple[ClassStanding, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    unknown: int = 0
    history: tuple[Drop, ...] = ()
    broken_by: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def insight(store: Store, standing: Standing, labels: Mapping[int, int]) -> Insight:
    """Look into a standing; empty where it counts no images.

    Args:
        store: what it was derived from.
        standing: a checkpoint on a board.
        labels: image -> true class, as `known_labels` says.

    Raises:
        HarnessError: the store gives another number than the standing has, since somebody
            recorded something in between.
    """
    if standing.examples == 0:
        return Insight()
    found, names = decided(store, standing), _class_names(store, standing)
    truth = _truth(labels, standing.examples, len(names))
    table = _confusion(found, truth, len(names))
    return Insight(
        classes=_by_class(found, truth, names),
        confusion=tuple(map(tuple, table.tolist())),
        unknown=standing.examples - int(table.sum()),
        history=history(found.right, found.dates, found.losses, found.labels),
        broken_by=_broken_by(found),
    )


def known_labels(store: Store, dataset: str, images: str) -> dict[int, int]:
    """The true class of every image on which some checkpoint is right.

    An image for which two checkpoints that count as right say different classes is left out.

    Args:
        store: what was evaluated.
        dataset: name of the dataset.
        images: SHA-256 of its test images.
    """
    pieces = list(store.clean_decisions(dataset, images))
    length = max((one.piece.last for one in pieces), default=0)
    lowest = np.full(length, np.iinfo(np.int64).max)
    highest = np.full(length, NOBODY, dtype=np.int64)
    for one in pieces:
        window = slice(one.piece.first, one.piece.last)
        said = np.where(broken_of(one), NOBODY, classes_of(one))
        lowest[window] = np.where(said == NOBODY, lowest[window], np.minimum(lowest[window], said))
        highest[window] = np.maximum(highest[window], said)
    return {int(image): int(highest[image]) for image in np.flatnonzero(lowest == highest)}


def _class_names(store: Store, standing: Standing) -> tuple[str, ...]:
    named = (standing.dataset, standing.images)
    names = next((one.classes for one in store.datasets() if (one.name, one.sha256) == named), ())
    count = min(len(names) or standing.checkpoint.capabilities.classes, MOST_CLASSES)
    return names[:count] or tuple(map(str, range(count)))


def _truth(labels: Mapping[int, int], examples: int, classes: int) -> Classes:
    known = [labels.get(image, NOBODY) for image in range(examples)]
    return np.array([label if 0 <= label < classes else NOBODY for label in known], dtype=np.int64)


def _by_class(found: Decided, truth: Classes, names: Sequence[str]) -> tuple[ClassStanding, ...]:
    right, robust = found.right, found.right & ~found.lost.any(axis=0)
    members = [truth == number for number in range(len(names))]
    return tuple(
        ClassStanding(name, rate_of(right[mine]), rate_of(robust[mine]))
        for name, mine in zip(names, members, strict=True)
    )


def _confusion(found: Decided, truth: Classes, classes: int) -> Classes:
    """[K, K], images by true class and decision; a break says another class than the true one."""
    right, lost = found.right, found.lost
    is_broken = lost.any(axis=0)
    decision = np.where(right, truth, found.clean)
    if len(lost):
        first = lost.argmax(axis=0)
        decision[is_broken] = found.decided[first, np.arange(len(right))][is_broken]
    is_kept = (truth != NOBODY) & (decision >= 0) & (decision < classes)
    is_kept &= (decision == truth) == (right & ~is_broken)
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (truth[is_kept], decision[is_kept]), 1)
    return table


def _broken_by(found: Decided) -> dict[int, tuple[str, ...]]:
    lost = found.lost[:, :PICTURES].T
    return {
        image: tuple(dict.fromkeys(compress(found.labels, broke)))
        for image, broke in enumerate(lost)
        if found.right[image]
    }
