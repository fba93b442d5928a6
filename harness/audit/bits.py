"""Counts and intervals from packed bits, written a second time to judge the first."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.identity import CLEAN, CORRECT, Plan
from harness.store.rows import RecordedAttack, Slice

Bits = NDArray[np.bool_]

_NONE: Bits = np.zeros(0, dtype=np.bool_)
_QUANTILE = 1.959963984540054
_KINDS = (
    "adaptive",
    "standard",
    "adaptive_gradient",
    "standard_gradient",
    "adaptive_quick",
    "standard_quick",
)
"""Protocols by which a row may count images, the one that decides first."""


class Owner(NamedTuple):
    """What a row is about, as the store's slices spell it."""

    checkpoint: str
    dataset: str
    images: str
    norm: str
    epsilon: str


class Attack(NamedTuple):
    """An attack of a row: hash and population, whatever its seeds."""

    hash: str
    population: str


@dataclass(frozen=True)
class Part:
    """What one attack did on the images of a row.

    Args:
        attacked: images that it attacked.
        broken: right images that it broke.
        alone: right images that it left; None where it did not attack all right ones.
        sole: right images that nothing else broke; None like `alone`.
    """

    attacked: int
    broken: int
    alone: int | None
    sole: int | None
    left: Bits


Key = tuple[str, str, int, str]
"""A search of a row: hash and population of the attack, seed, precision."""


@dataclass
class Found:
    """Everything stored about one row: per search, one bool per image as far as it goes."""

    covered: dict[Key, Bits] = field(default_factory=dict)
    attacked: dict[Key, Bits] = field(default_factory=dict)
    broken: dict[Key, Bits] = field(default_factory=dict)

    def add(self, piece: Slice) -> None:
        """Take in one slice.

        Raises:
            ValueError: its bits are not those of so many images.
        """
        key = piece.attack, piece.population, piece.seed, piece.precision
        length = piece.last - piece.first
        for where, images in (
            (self.covered, range(length)),
            (self.attacked, ones(piece.attacked, length)),
            (self.broken, ones(piece.broken, length)),
        ):
            longer = _cut(where.get(key, _NONE), max(piece.last, len(where.get(key, _NONE))))
            longer[[piece.first + place for place in images]] = True
            where[key] = longer

    def right(self, examples: int) -> Bits:
        """[examples], decided rightly as they are."""
        known = _union(self._clean(self.covered), examples)
        return known & ~_union(self._clean(self.broken), examples)

    def prefix(self, key: Key) -> int:
        """How many of the first images this search covers without a gap."""
        return _prefix(self.covered.get(key, _NONE))

    def clean_prefix(self) -> int:
        """How many of the first images have a clean decision, without a gap."""
        known = self._clean(self.covered)
        return _prefix(_union(known, max(map(len, known), default=0)))

    def attacks(self) -> list[Attack]:
        """The attacks, each once; the clean images are none."""
        return list(dict.fromkeys(Attack(*k[:2]) for k in self.covered if k[0] != CLEAN.hash))

    def part(self, attack: Attack, examples: int) -> Part:
        """What one attack did on the first images."""
        right = self.right(examples)
        attacked = self._of(self.attacked, attack, examples)
        broken = right & self._of(self.broken, attack, examples)
        others = np.zeros(examples, dtype=np.bool_)
        for other in self.attacks():
            if other != attack:
                others |= self._of(self.broken, other, examples)
        is_whole = not (right & ~attacked).any()
        return Part(
            attacked=int(attacked.sum()),
            broken=int(broken.sum()),
            alone=int((right & ~broken).sum()) if is_whole else None,
            sole=int((broken & ~others).sum()) if is_whole else None,
            left=right & ~broken,
        )

    def _of(self, where: Mapping[Key, Bits], attack: Attack, examples: int) -> Bits:
        return _union([bits for key, bits in where.items() if key[:2] == attack], examples)

    def _clean(self, where: Mapping[Key, Bits]) -> list[Bits]:
        return [bits for key, bits in where.items() if key[0] == CLEAN.hash]


def gathered(slices: Iterable[Slice]) -> dict[Owner, Found]:
    """Everything stored, by row."""
    found: dict[Owner, Found] = defaultdict(Found)
    for piece in slices:
        owner = Owner(piece.checkpoint, piece.dataset, piece.images, piece.norm, piece.epsilon)
        found[owner].add(piece)
    return dict(found)


def ruling(found: Found, plans: Sequence[Plan]) -> tuple[Plan | None, int]:
    """The plan that says which images a row counts, and how many of the first these are."""
    for kind in _KINDS:
        best: tuple[int, Plan | None] = (0, None)
        for plan in plans:
            reach = _reach(found, plan)
            if plan.protocol.rpartition("-")[0] == kind and reach > best[0]:
                best = reach, plan
        if best[1] is not None:
            return best[1], best[0]
    longest = max((found.prefix(key) for key in found.covered if key[0] != CLEAN.hash), default=0)
    return None, min(longest, found.clean_prefix())


def standard_left(
    found: Found, plan: Plan | None, attacks: Mapping[str, RecordedAttack], examples: int
) -> int | None:
    """Right images that the standard attacks left: those on the logits, of the first stage."""
    suite = None if plan is None else set(plan.attacks)
    parts = [
        found.part(attack, examples)
        for attack in found.attacks()
        if attacks[attack.hash].spec.surface == "logits"
        and attack.population == CORRECT
        and (suite is None or tuple(attack) in suite)
    ]
    if all(part.alone is None for part in parts):
        return None
    left = found.right(examples)
    for part in parts:
        left &= part.left
    return int(left.sum())


def kind_of(attack: RecordedAttack) -> str:
    """Which union an attack belongs to, empty for none."""
    if attack.spec.surface.startswith(("surrogate(", "stripped")):
        return "transfer"
    knowledge = attack.description.get("knowledge", "")
    return "query" if knowledge in {"query", "decision", "none"} else knowledge


def interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % score interval: the two fractions that a test would just not reject.

    They solve (count / total - p)^2 = z^2 p (1 - p) / total.
    """
    share, z2 = count / total, _QUANTILE**2 / total
    a, b, c = 1 + z2, -(2 * share + z2), share**2
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return max(0.0, (-b - root) / (2 * a)), min(1.0, (-b + root) / (2 * a))


def ones(packed: bytes, count: int) -> list[int]:
    """Positions of the bits that are set, the first in the highest bit of the first byte.

    Raises:
        ValueError: the bytes are not those of so many bits.
    """
    if len(packed) != (count + 7) // 8:
        raise ValueError(f"{len(packed)} bytes for {count} images")
    text = f"{int.from_bytes(packed, 'big'):0{8 * len(packed)}b}"
    if "1" in text[count:]:
        raise ValueError(f"bits beyond the last of {count} images")
    return [place for place, bit in enumerate(text[:count]) if bit == "1"]


def _reach(found: Found, plan: Plan) -> int:
    keys = [
        (attack, population, plan.seed, plan.precision)
        for attack, population in plan.attacks
        if attack != CLEAN.hash
    ]
    return min([found.clean_prefix(), *(found.prefix(key) for key in keys)]) if keys else 0


def _prefix(covered: Bits) -> int:
    gaps = np.flatnonzero(~covered)
    return int(gaps[0]) if len(gaps) else len(covered)


def _union(several: Sequence[Bits], examples: int) -> Bits:
    found = np.zeros(examples, dtype=np.bool_)
    for bits in several:
        found |= _cut(bits, examples)
    return found


def _cut(bits: Bits, examples: int) -> Bits:
    """The first so many, False where there are none."""
    found = np.zeros(examples, dtype=np.bool_)
    found[: len(bits)] = bits[:examples]
    return found
