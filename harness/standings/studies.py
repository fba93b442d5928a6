"""The papers' tables as printed, each figure beside the stored number of the same kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.identity import Claim
from harness.standings.captions import CAPTIONS
from harness.standings.impossible import impossible
from harness.standings.matching import Match, Stated, best_match, stated_threat
from harness.standings.values import Board, Standing

__all__ = ["Cell", "Match", "Study", "StudyColumn", "StudyRow", "impossible", "studies"]

_BESIDE = ("relative_to=", "mean_of=", "best_epoch_minus_last_epoch")
"""Variants that say how a figure follows from others of its row; they make no row of their own."""

_Standings = Mapping[tuple[str, str], Sequence[Standing]]
"""By defense and dataset."""


class StudyRow(NamedTuple):
    """A model of a table; `variant` is empty mostly."""

    defense: str
    architecture: str
    dataset: str
    variant: str


class StudyColumn(NamedTuple):
    """What is measured; the last four are empty or `none` where nothing is attacked."""

    metric: str
    attack: str
    iterations: str
    knowledge: str
    epsilon: str


@dataclass(frozen=True)
class Cell:
    """A figure as printed.

    Args:
        printed: its digits.
        unit: `percent`, `percentage_points`, `seconds` or `minutes`.
        spread: printed error, empty mostly.
        variant: how it follows from others of its row, such as `relative_to=trades`; else that of
            its row.
        quoted_from: where the text took it from, empty for its own runs.
        note: a remark, empty mostly.
        ours: the stored number beside it; None where there is none of its kind.
    """

    printed: str
    unit: str
    spread: str
    variant: str
    quoted_from: str
    note: str
    ours: Match | None


@dataclass(frozen=True)
class Study:
    """One table of one text.

    Args:
        source: id of the text, such as `ancra_iclr`.
        place: table in it, or `text_4.1`.
        title: what it is about; empty for a table that nobody described.
        rows, columns: in the order in which they are first printed.
        cells: [row][column], None where nothing is printed.
    """

    source: str
    place: str
    title: str
    rows: tuple[StudyRow, ...]
    columns: tuple[StudyColumn, ...]
    cells: tuple[tuple[Cell | None, ...], ...]


def studies(claims: Iterable[Claim], boards: Iterable[Board]) -> tuple[Study, ...]:
    """Every table of the published figures, in their order.

    Args:
        claims: as printed.
        boards: what was measured here.
    """
    standings: dict[tuple[str, str], list[Standing]] = defaultdict(list)
    for board in boards:
        for standing in board.standings:
            standings[standing.checkpoint.defense, standing.dataset].append(standing)
    tables: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        tables.setdefault((claim.source, claim.place), []).append(claim)
    return tuple(_study(where, found, standings) for where, found in tables.items())


def _study(where: tuple[str, str], claims: Sequence[Claim], standings: _Standings) -> Study:
    place_of = _rows(claims)
    stated: dict[StudyRow, Stated] = defaultdict(frozenset)
    for claim in claims:
        stated[place_of[claim]] |= stated_threat(claim)
    rows = tuple(dict.fromkeys(place_of.values()))
    columns = tuple(dict.fromkeys(map(_column, claims)))
    cells = {
        (place_of[claim], _column(claim)): _cell(claim, standings, stated[place_of[claim]])
        for claim in claims
    }
    return Study(
        source=where[0],
        place=where[1],
        title=CAPTIONS.get(where, ""),
        rows=rows,
        columns=columns,
        cells=tuple(tuple(cells.get((row, column)) for column in columns) for row in rows),
    )


def _rows(claims: Sequence[Claim]) -> dict[Claim, StudyRow]:
    """The row of each claim; what follows from others stands in the first row of its model."""
    own = [claim for claim in claims if not claim.variant.startswith(_BESIDE)]
    first: dict[tuple[str, ...], StudyRow] = {}
    for claim in own:
        first.setdefault(_model(claim), StudyRow(*_model(claim), claim.variant))
    return {
        claim: first.get(_model(claim), StudyRow(*_model(claim), ""))
        if claim.variant.startswith(_BESIDE)
        else StudyRow(*_model(claim), claim.variant)
        for claim in claims
    }


def _model(claim: Claim) -> tuple[str, str, str]:
    return claim.defense, claim.architecture, claim.dataset


def _column(claim: Claim) -> StudyColumn:
    return StudyColumn(
        claim.metric, claim.attack, claim.attack_iterations, claim.knowledge, claim.epsilon
    )


def _cell(claim: Claim, standings: _Standings, stated: Stated) -> Cell:
    mine = standings.get((claim.defense, claim.dataset), ())
    return Cell(
        printed=claim.printed,
        unit=claim.unit,
        spread=claim.spread,
        variant=claim.variant,
        quoted_from=claim.quoted_from,
        note=claim.note,
        ours=best_match(claim, mine, stated),
    )
