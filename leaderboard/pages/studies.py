"""A page per table of the papers: as printed, with what was measured here beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.identity import Claim
from harness.standings.studies import Match, Study
from harness.standings.studies import studies as every_study
from leaderboard import addresses, wording
from leaderboard.beside import Beside, Remarks
from leaderboard.frame import Frame
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.printed import Doubts, attack, doubts, knowledge, place, plain, source, variant


@page
def studies(material: Material) -> Iterator[Draft]:
    """The list of tables, and one page each."""
    found = every_study(material.claims, material.boards)
    reasons = doubts(material.claims)
    everything = [(one, _doubted(one, reasons)) for one in found]
    links = _checkpoints(material)
    facts = (everything, material.generated)
    make = partial(StudiesPage.of, material, everything)
    yield Draft(addresses.STUDIES, facts, make, "studies.html")
    for one, doubted in everything:
        mine = {match.checkpoint: links.get(match.checkpoint, "") for match in _matches(one)}
        facts_of_one = (one, doubted, sorted(mine.items()), material.generated)
        draw = partial(StudyPage.of, material, one, doubted, mine)
        path = addresses.study_page(one.source, one.place)
        yield Draft(path, facts_of_one, draw, "study.html")


Key = tuple[str, ...]
"""What tells a figure of a table from every other."""


def _doubted(one: Study, reasons: Doubts) -> Mapping[Key, tuple[str, ...]]:
    return {
        _key(claim): why
        for claim, why in reasons.items()
        if (claim.source, claim.place) == (one.source, one.place)
    }


def _key(claim: Claim) -> Key:
    model = (claim.defense, claim.architecture, claim.dataset, claim.variant)
    kind = (claim.metric, claim.attack, claim.attack_iterations, claim.knowledge, claim.epsilon)
    return (*model, *kind)


def _matches(one: Study) -> Iterator[Match]:
    for row in one.cells:
        yield from (cell.ours for cell in row if cell is not None and cell.ours is not None)


def _checkpoints(material: Material) -> Mapping[str, str]:
    """The page of every checkpoint, by name."""
    rows = (row.checkpoint for board in material.boards for row in board.standings)
    return {record.name: addresses.checkpoint_page(record) for record in rows}


@dataclass(frozen=True)
class StudyInShort:
    """One table of a paper: how many figures, how many of them have a number of ours beside."""

    source: str
    place: str
    title: str
    href: str
    figures: str
    matched: str
    comparable: str
    doubted: str

    @classmethod
    def of(cls, one: Study, doubted: Mapping[Key, Sequence[str]]) -> StudyInShort:
        """The line of a table."""
        matches = list(_matches(one))
        return cls(
            source=one.source,
            place=place(one.place),
            title=one.title,
            href=addresses.study_page(one.source, one.place),
            figures=wording.count(sum(cell is not None for row in one.cells for cell in row)),
            matched=wording.count(len(matches)),
            comparable=wording.count(sum(match.is_comparable for match in matches)),
            doubted=wording.count(len(doubted)),
        )


@dataclass(frozen=True)
class StudiesPage:
    """Every table of every text, the texts in their order."""

    texts: tuple[tuple[str, tuple[StudyInShort, ...]], ...]
    frame: Frame

    @classmethod
    def of(
        cls, material: Material, everything: Sequence[tuple[Study, Mapping[Key, Sequence[str]]]]
    ) -> StudiesPage:
        """The list."""
        lines: dict[str, list[StudyInShort]] = {}
        for one, doubted in everything:
            lines.setdefault(one.source, []).append(StudyInShort.of(one, doubted))
        texts = tuple((source(name), tuple(found)) for name, found in lines.items())
        return cls(texts, Frame.of(addresses.STUDIES, generated=material.generated))


@dataclass(frozen=True)
class Model:
    """The head of a line: a model of the table."""

    defense: str
    setting: str
    variant: str


@dataclass(frozen=True)
class StudyPage:
    """One table. `has_ours` says whether any figure has a number of ours beside it."""

    source: str
    place: str
    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Model, tuple[Beside | None, ...]], ...]
    remarks: tuple[tuple[str, str], ...]
    figures: str
    has_ours: bool
    has_doubts: bool
    frame: Frame

    @classmethod
    def of(
        cls,
        material: Material,
        one: Study,
        doubted: Mapping[Key, Sequence[str]],
        links: Mapping[str, str],
    ) -> StudyPage:
        """The page of a table; `links` are pages of checkpoints by name."""
        path = addresses.study_page(one.source, one.place)
        above = ("Studies", addresses.STUDIES)
        frame = Frame.of(path, above, generated=material.generated)
        remarks = Remarks()
        rows = []
        for row, cells in zip(one.rows, one.cells, strict=True):
            shown: list[Beside | None] = []
            for column, cell in zip(one.columns, cells, strict=True):
                if cell is None:
                    shown.append(None)
                    continue
                key = (*row[:3], cell.variant, *column)
                why = doubted.get(key, ())
                shown.append(Beside.of(cell, row.variant, why, remarks, links, frame.root))
            setting = ", ".join(part for part in (row.architecture, row.dataset) if part)
            rows.append((Model(row.defense, setting, variant(row.variant)), tuple(shown)))
        number = sum(cell is not None for row in one.cells for cell in row)
        return cls(
            source=source(one.source),
            place=place(one.place),
            title=one.title or place(one.place),
            columns=tuple(map(_column, one.columns)),
            rows=tuple(rows),
            remarks=remarks.listed,
            figures=wording.plural(number, "figure"),
            has_ours=any(True for _ in _matches(one)),
            has_doubts=bool(doubted),
            frame=frame,
        )


def _column(column: Sequence[str]) -> tuple[str, str]:
    """What is measured, and under which attack."""
    metric, name, iterations, known, epsilon = column
    said = (attack(name, iterations), knowledge(known), f"epsilon {epsilon}" if epsilon else "")
    return plain(metric), ", ".join(part for part in said if part)
