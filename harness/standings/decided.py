"""What each attack of a standing broke, and what was decided instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.identity import CLEAN, AttackSpec
from harness.standings.history import Loss
from harness.standings.values import Standing
from harness.store.bits import Bits, unpack
from harness.store.evidence import Member
from harness.store.store import DecidedSlice, Store

Classes = NDArray[np.int64]
"""A class per image; `NOBODY` where it is not known."""

NOBODY = -1


@dataclass
class Decided:
    """The attacks of a standing in plan order, on the N images that it counts.

    Args:
        labels: of the A attacks.
        looked_at: [N], images whose clean decision is known.
        wrong: [N], misclassified as they are.
        clean: [N], what misclassified images are taken for.
        broken: [A, N], broken by each attack, misclassified images included.
        decided: [A, N], what the attack's images are taken for; known only where it broke one.
        dates: of every outcome.
        losses: of every outcome of an attack.
    """

    labels: Sequence[str]
    looked_at: Bits
    wrong: Bits
    clean: Classes
    broken: Bits
    decided: Classes
    dates: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    @property
    def right(self) -> Bits:
        """[N], right as they are."""
        return self.looked_at & ~self.wrong

    @property
    def lost(self) -> Bits:
        """[A, N], right as they are and broken."""
        return self.broken & self.right


def decided(store: Store, standing: Standing) -> Decided:
    """Everything behind a standing, which counts at least one image.

    Raises:
        HarnessError: the store gives another number than the standing has, since somebody
            recorded something in between.
    """
    found = _empty(standing)
    members = {_member_of(standing, place): place for place in range(len(standing.attacks))}
    for one in store.decisions(
        standing.checkpoint.digest, images=standing.images, threat=standing.threat
    ):
        piece = one.piece
        if piece.dataset != standing.dataset or piece.first >= standing.examples:
            continue
        place = members.get(Member(piece.attack, piece.population))
        if piece.attack == CLEAN.hash:
            _add_clean(found, one)
        elif place is not None and piece.seed in standing.attacks[place].seeds:
            _add_attack(found, one, place)
    _check(found, standing)
    return found


def classes_of(one: DecidedSlice) -> Classes:
    """[last - first], the class decided on each image."""
    count = one.piece.last - one.piece.first
    if one.predicted is None:
        return np.full(count, NOBODY, dtype=np.int64)
    is_class = (one.predicted >= 0) & (one.predicted < np.iinfo(np.int32).max)  # NaN is neither
    return np.where(is_class, one.predicted, NOBODY).astype(np.int64)


def broken_of(one: DecidedSlice) -> Bits:
    """[last - first], whether each image is decided wrongly."""
    return unpack(one.piece.broken, one.piece.last - one.piece.first)


def _empty(standing: Standing) -> Decided:
    shape = (len(standing.attacks), standing.examples)
    return Decided(
        labels=[line.label for line in standing.attacks],
        looked_at=np.zeros(standing.examples, dtype=np.bool_),
        wrong=np.zeros(standing.examples, dtype=np.bool_),
        clean=np.full(standing.examples, NOBODY, dtype=np.int64),
        broken=np.zeros(shape, dtype=np.bool_),
        decided=np.full(shape, NOBODY, dtype=np.int64),
    )


def _member_of(standing: Standing, place: int) -> Member:
    line = standing.attacks[place]
    parameters = tuple(line.parameters.items())
    spec = AttackSpec(line.attack, line.surface, line.loss, parameters)
    return Member(spec.hash, line.population)


def _add_clean(found: Decided, one: DecidedSlice) -> None:
    window = slice(one.piece.first, one.piece.last)
    found.dates.append(one.created)
    found.looked_at[window] = True
    _note(found.wrong[window], found.clean[window], one)


def _add_attack(found: Decided, one: DecidedSlice, place: int) -> None:
    window = slice(one.piece.first, one.piece.last)
    found.dates.append(one.created)
    broken = _note(found.broken[place, window], found.decided[place, window], one)
    found.losses.append(Loss(one.created, place, one.piece.first, broken))


def _note(broken: Bits, instead: Classes, one: DecidedSlice) -> Bits:
    """Enter what a slice broke into the window of two arrays; where slices overlap, all count."""
    new, said = broken_of(one)[: len(broken)], classes_of(one)[: len(broken)]
    first = new & (instead == NOBODY)
    instead[first] = said[first]
    broken |= new
    return new


def _check(found: Decided, standing: Standing) -> None:
    left = int((found.right & ~found.lost.any(axis=0)).sum())
    if (int(found.right.sum()), left) != (standing.clean.count, standing.robust.count):
        raise HarnessError(
            f"the outcomes of '{standing.checkpoint.name}' changed while they were read: repeat "
            "this, on a copy of the database if something else writes to it."
        )
