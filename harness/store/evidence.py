"""Stored slices put together: per attack and image, attacked or not, broken or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np

from harness.identity import CLEAN
from harness.store.bits import Bits, unpack
from harness.store.rows import Slice, threat_of
from harness.threat import ThreatModel


class Search(NamedTuple):
    """What tells the attacks on one function and board apart; `attack` is a hash."""

    attack: str
    population: str
    seed: int
    precision: str


class Member(NamedTuple):
    """An attack of a protocol, as plans name it: its hash and its population."""

    attack: str
    population: str


@dataclass(frozen=True)
class Track:
    """One search, its slices side by side; every array has one bool per image.

    Where slices overlap, an image counts as broken if any of them broke it.
    """

    covered: Bits
    attacked: Bits
    broken: Bits
    slices: tuple[Slice, ...]

    def totals(self, examples: int) -> Totals:
        """Cost of the first images, each counted once; of a slice cut short, its share."""
        found, reached = Totals(), 0
        for piece in sorted(self.slices, key=lambda piece: (piece.first, -piece.last)):
            new = min(piece.last, examples) - max(piece.first, reached)
            if new > 0:
                found += Totals.of(piece, new / (piece.last - piece.first))
                reached = piece.last
        return found


@dataclass(frozen=True)
class Totals:
    """What attacking cost."""

    forwards: int = 0
    backwards: int = 0
    queries: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, piece: Slice, share: float) -> Totals:
        """A share of what a slice cost."""
        return cls(
            round(share * piece.forwards),
            round(share * piece.backwards),
            round(share * piece.queries),
            share * piece.seconds,
        )

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.forwards + other.forwards,
            self.backwards + other.backwards,
            self.queries + other.queries,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Evidence:
    """Everything stored about one deployed function under one threat model, in index order.

    Args:
        checkpoint: digest of the function.
        dataset: name of the dataset.
        images: SHA-256 of its images.
        threat: norm and epsilon.
        tracks: arrays of `length` images each, the clean images among them.
        length: index after the last image that anything covers.
    """

    checkpoint: str
    dataset: str
    images: str
    threat: ThreatModel
    tracks: Mapping[Search, Track]
    length: int

    @cached_property
    def looked_at(self) -> Bits:
        """Images whose clean decision is known."""
        return self._any("covered", self._clean)

    @cached_property
    def right(self) -> Bits:
        """Images decided rightly as they are."""
        return self.looked_at & ~self._any("broken", self._clean)

    @cached_property
    def searches(self) -> dict[Member, list[Search]]:
        """The searches of each attack (several seeds, say), those of the clean images left out."""
        found: dict[Member, list[Search]] = {}
        for key in self.tracks:
            if key.attack != CLEAN.hash:
                found.setdefault(Member(key.attack, key.population), []).append(key)
        return found

    def attacked(self, member: Member) -> Bits:
        """Images that any search of this attack attacked."""
        return self._any("attacked", self.searches[member])

    def broken(self, member: Member) -> Bits:
        """Images that any search of this attack broke."""
        return self._any("broken", self.searches[member])

    def totals(self, member: Member, examples: int) -> Totals:
        """Cost of all searches of this attack on the first images."""
        costs = (self.tracks[key].totals(examples) for key in self.searches[member])
        return sum(costs, start=Totals())

    def prefix(self, search: Search) -> int:
        """How many of the first images this search covers without a gap."""
        track = self.tracks.get(search)
        return 0 if track is None else _prefix(track.covered)

    @cached_property
    def clean_prefix(self) -> int:
        """How many of the first images have a known clean decision, without a gap."""
        return _prefix(self.looked_at)

    def only(self, searches: Iterable[Search]) -> Evidence:
        """The same without the other attacks; the clean images stay."""
        kept = {*searches, *self._clean}
        return replace(self, tracks={key: self.tracks[key] for key in self.tracks if key in kept})

    @property
    def _clean(self) -> list[Search]:
        return [key for key in self.tracks if key.attack == CLEAN.hash]

    def _any(self, what: str, keys: Iterable[Search]) -> Bits:
        found = np.zeros(self.length, dtype=np.bool_)
        for key in keys:
            found |= getattr(self.tracks[key], what)
        return found


def gather(slices: Iterable[Slice]) -> Iterator[Evidence]:
    """Evidence per function and board, from slices in the order in which the store reads them."""
    for _, group in groupby(slices, key=_owner):
        pieces = list(group)
        first = pieces[0]
        length = max(piece.last for piece in pieces)
        searches: dict[Search, list[Slice]] = {}
        for piece in pieces:
            key = Search(piece.attack, piece.population, piece.seed, piece.precision)
            searches.setdefault(key, []).append(piece)
        yield Evidence(
            checkpoint=first.checkpoint,
            dataset=first.dataset,
            images=first.images,
            threat=threat_of(first._asdict()),
            tracks={key: _track(found, length) for key, found in searches.items()},
            length=length,
        )


def _track(pieces: list[Slice], length: int) -> Track:
    covered, attacked, broken = np.zeros((3, length), dtype=np.bool_)
    for piece in pieces:
        where, count = slice(piece.first, piece.last), piece.last - piece.first
        covered[where] = True
        attacked[where] |= unpack(piece.attacked, count)
        broken[where] |= unpack(piece.broken, count)
    return Track(covered, attacked, broken, tuple(pieces))


def _owner(piece: Slice) -> tuple[str, str, str, str, str]:
    return piece.dataset, piece.images, piece.norm, piece.epsilon, piece.checkpoint


def _prefix(covered: Bits) -> int:
    return len(covered) if covered.all() else int(np.argmin(covered))
