"""Who belongs to a family of defenses, what is compared of it, and what is not measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.standings import Board, Standing
from harness.standings.comparison import Comparison
from leaderboard import addresses, wording
from leaderboard.frame import Link
from leaderboard.material import Material
from leaderboard.texts import DefenseText

OTHER = "other"
"""The family of what has no text: compositions that nobody published, and defenses of others."""

Key = tuple[str, str, str, str, str]
"""Dataset, images, threat model, architecture, scale: what a comparison shares."""


def kin(material: Material) -> Mapping[str, Sequence[DefenseText]]:
    """Defenses by family, baselines first and what is only quoted last."""
    found: dict[str, list[DefenseText]] = {"baseline": []}
    for text in material.texts.defenses.values():
        found.setdefault(text.family, []).append(text)
    if any(family_of(material, one.defense) == OTHER for one in material.comparisons):
        found[OTHER] = []
    last = {OTHER: 1, "quoted": 2}
    names = sorted(found, key=lambda name: (name != "baseline", last.get(name, 0), name))
    return {name: found[name] for name in names}


def family_of(material: Material, defense: str) -> str:
    """The family of a defense."""
    text = material.texts.defenses.get(defense)
    return text.family if text else OTHER


def group_key(one: Comparison) -> Key:
    """What the rows of one table share."""
    first = one.standings[0]
    record = first.checkpoint
    return first.dataset, first.images, str(first.threat), record.architecture, record.scale


@dataclass(frozen=True)
class Kin:
    """What the page of a family is made of.

    Args:
        material: all of it, for baselines and for rows that are not compared.
        links: where rows are told in full.
        members: the defenses of the family.
        comparisons: theirs.
    """

    material: Material
    links: Mapping[tuple[str, str], str]
    members: tuple[DefenseText, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def facts(self) -> object:
        """Everything that its page follows from."""
        defenses = {one.name for one in self.members}
        for one in self.comparisons:
            defenses |= {one.defense, one.baseline}
        rows = [row for row in self.rows() if row.checkpoint.defense in defenses]
        links = [self.link(row, "") for row in rows]
        return self.members, list(map(told, self._shown())), [*map(_told_of, rows)], links

    def rows(self) -> Iterator[Standing]:
        """Every row of every board."""
        for board in self.material.boards:
            yield from board.standings

    def link(self, row: Standing, root: str) -> Link:
        """To where a row is told; to nowhere if its board is not on this site."""
        slug = addresses.board_slug(Board(row.dataset, row.images, row.threat, ()))
        path = self.links.get((slug, row.checkpoint.name), "")
        return Link(row.checkpoint.name, f"{root}{path}" if path else "")

    def _shown(self) -> Iterator[Comparison]:
        wanted = {one.baseline for one in self.comparisons}
        yield from self.comparisons
        yield from (one for one in self.material.comparisons if one.defense in wanted)


def told(one: Comparison) -> object:
    """What pages say of a comparison, without the attacks of its rows."""
    rows = [[_told_of(row) for row in side] for side in (one.standings, one.baselines)]
    return one.defense, one.baseline, one.only_here, one.only_there, one.p_adjusted, rows


def _told_of(row: Standing) -> object:
    record = row.checkpoint
    return (
        *(record.name, record.defense, record.seed, record.architecture, record.scale_mark),
        *(record.kind, record.training.get("collapsed_at"), row.dataset, row.images, row.threat),
        *(row.examples, row.clean, row.robust, row.adaptive_gap, row.is_adaptive),
        wording.evidence(row),
    )


@dataclass(frozen=True)
class Absent:
    """A defense of the family that is compared nowhere, and why."""

    name: str
    reason: str


def absent(found: Kin) -> Iterator[Absent]:
    """Every defense of the family without a comparison."""
    compared = {one.defense for one in found.comparisons}
    for text in found.members:
        if text.name not in compared:
            yield Absent(text.name, _reason(found, text))


def _reason(found: Kin, text: DefenseText) -> str:
    rows = [row for row in found.rows() if row.checkpoint.defense == text.name]
    if text.status == "quoted":
        return text.description
    if not rows:
        return "never evaluated here"
    if not any(row.is_adaptive for row in rows):
        return "evaluated, but no adaptive protocol is complete"
    return "no row of training seed 0 under a complete adaptive protocol"
