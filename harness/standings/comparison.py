"""Defenses beside their baselines: the same images, seed, architecture and scale, paired."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.standings.derivation import rows_by_board
from harness.standings.row import Row
from harness.standings.values import Standing
from harness.statistics import holm, mcnemar
from harness.store.store import Store


@dataclass(frozen=True)
class Comparison:
    """One defense on one board, over its training seeds, with its baseline's row.

    Args:
        defense: name.
        baseline: name of what it was built on; empty where it is a baseline itself.
        standings: one per training seed, seed 0 first.
        baselines: the baseline's, seed by seed; shorter where one is missing.
        only_here: images that this defense holds and its baseline loses, over all common seeds.
        only_there: the other way round.
        p_adjusted: exact McNemar test over all common seeds, images counting once per seed, and
            corrected for all comparisons of its board (Holm); None without a baseline.
    """

    defense: str
    baseline: str
    standings: tuple[Standing, ...]
    baselines: tuple[Standing, ...]
    only_here: int = 0
    only_there: int = 0
    p_adjusted: float | None = None

    @property
    def images(self) -> int:
        """Paired image decisions, over all common seeds."""
        return sum(min(one.examples, other.examples) for one, other in self._pairs())

    @property
    def difference(self) -> float | None:
        """Robust accuracy minus the baseline's, in [-1, 1], over all common seeds."""
        return (self.only_here - self.only_there) / self.images if self.images else None

    def _pairs(self) -> Sequence[tuple[Standing, Standing]]:
        by_seed = {one.checkpoint.seed: one for one in self.baselines}
        return [
            (one, by_seed[one.checkpoint.seed])
            for one in self.standings
            if one.checkpoint.seed in by_seed
        ]


def comparisons(store: Store, baseline_of: Mapping[str, str]) -> Iterator[Comparison]:
    """As `compared`, of everything that the store has."""
    return compared(rows_by_board(store).values(), baseline_of)


def compared(
    boards: Iterable[Sequence[Row]], baseline_of: Mapping[str, str]
) -> Iterator[Comparison]:
    """Every trained defense beside its baseline, board by board.

    Only rows that an adaptive protocol covers are compared, on the images that both cover, and
    only where seed 0 is among them. Of two checkpoints of one defense, architecture, scale and
    seed the one whose name comes first counts.

    Args:
        boards: the rows of each, whose standings the comparisons hold.
        baseline_of: defense -> what it was built on; a defense without one is a baseline.
    """
    for rows in sorted(boards, key=_place):
        adaptive = [row for row in rows if row.standing.is_adaptive and _trained(row)]
        groups: dict[tuple[str, str, str], dict[int, Row]] = {}
        for row in sorted(adaptive, key=lambda row: row.standing.checkpoint.name):
            record = row.standing.checkpoint
            key = (record.architecture, record.scale, record.defense)
            groups.setdefault(key, {}).setdefault(record.seed, row)
        found = []
        for (architecture, scale, defense), mine in sorted(groups.items()):
            baseline = baseline_of.get(defense, "")
            theirs = groups.get((architecture, scale, baseline), {})
            if 0 in mine:
                found.append(_compared(defense, baseline, mine, theirs))
        yield from _adjusted(found)


def _place(rows: Sequence[Row]) -> str:
    standing = rows[0].standing
    return str((standing.dataset, standing.images, standing.threat))


def _adjusted(found: Sequence[Comparison]) -> Iterator[Comparison]:
    tested = [one for one in found if one.images]
    raw = [mcnemar(one.only_here, one.only_there) for one in tested]
    values = dict(zip(map(id, tested), holm(raw), strict=True))
    for one in found:
        yield replace(one, p_adjusted=float(values[id(one)])) if one.images else one


def _trained(row: Row) -> bool:
    return row.standing.checkpoint.kind == "trained"


def _compared(
    defense: str, baseline: str, mine: Mapping[int, Row], theirs: Mapping[int, Row]
) -> Comparison:
    here = there = 0
    for seed in mine.keys() & theirs.keys():
        count = min(len(mine[seed].robust), len(theirs[seed].robust))
        one, other = mine[seed].robust[:count], theirs[seed].robust[:count]
        here += int((one & ~other).sum())
        there += int((other & ~one).sum())
    return Comparison(
        defense,
        baseline,
        tuple(mine[seed].standing for seed in sorted(mine)),
        tuple(theirs[seed].standing for seed in sorted(theirs)),
        here,
        there,
    )
