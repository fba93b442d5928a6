"""Accuracy per class, and what is taken for what under attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.standings.insight import ClassStanding, Insight
from leaderboard import charts, wording
from leaderboard.evaluations import Number

MOST_IN_MATRIX = 20
"""Classes beyond which the matrix is a list of its largest entries: 100 x 100 is no reading."""

_MOST_LISTED = 30
_SHADES = 5


@dataclass(frozen=True)
class ClassRow:
    """One class."""

    name: str
    images: str
    clean: Number
    robust: Number
    bar: tuple[charts.Strip, ...]


@dataclass(frozen=True)
class ConfusionRow:
    """Images of one class by decision: the class of its shade and the number of each cell."""

    name: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Mistake:
    """Images of one class that end as another."""

    true: str
    decided: str
    images: str


@dataclass(frozen=True)
class Classes:
    """What the worst case does to each class; `matrix` or `mistakes` says what for what."""

    said: str
    rows: tuple[ClassRow, ...]
    names: tuple[str, ...]
    matrix: tuple[ConfusionRow, ...]
    mistakes: tuple[Mistake, ...]
    unknown: str

    @classmethod
    def of(cls, found: Insight | None) -> Classes | None:
        """None where no image's class is known."""
        if found is None:
            return None
        seen = [one for one in found.classes if one.clean.total]
        if not seen:
            return None
        names = tuple(one.name for one in found.classes)
        is_small = len(names) <= MOST_IN_MATRIX
        return cls(
            said=_said(seen),
            rows=tuple(map(_class_row, seen)),
            names=names if is_small else (),
            matrix=tuple(map(_confusion_row, names, found.confusion)) if is_small else (),
            mistakes=() if is_small else _mistakes(names, found.confusion),
            unknown=_unknown(found.unknown),
        )


def _class_row(one: ClassStanding) -> ClassRow:
    robust = one.robust
    return ClassRow(
        name=one.name,
        images=wording.count(one.clean.total),
        clean=Number.of(one.clean),
        robust=Number.of(robust),
        bar=charts.bar(robust.fraction, (robust.low, robust.high), clean=one.clean.fraction),
    )


def _confusion_row(name: str, counts: Sequence[int]) -> ConfusionRow:
    total = sum(counts)
    return ConfusionRow(
        name, tuple((shade(count / total if total else 0.0), str(count)) for count in counts)
    )


def shade(share: float) -> str:
    """One of six classes of colour, the palest for nothing; the number always stands in it."""
    steps = range(1, _SHADES + 1)
    return f"s{sum(share * _SHADES > step - 1 for step in steps) if share > 0 else 0}"


def _mistakes(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> tuple[Mistake, ...]:
    found = [
        (-count, true, decided)
        for true, row in enumerate(confusion)
        for decided, count in enumerate(row)
        if count and true != decided
    ]
    return tuple(
        Mistake(names[true], names[decided], wording.count(-count))
        for count, true, decided in sorted(found)[:_MOST_LISTED]
    )


def _said(seen: Sequence[ClassStanding]) -> str:
    first, last = (pick(seen, key=lambda one: one.robust.fraction) for pick in (min, max))
    caution = (
        " Their intervals overlap: so few images may not tell these classes apart."
        if first.robust.high >= last.robust.low
        else ""
    )
    return (
        "The smallest share of images right and not broken is that of class "
        f"{first.name} ({wording.percent(first.robust)} %), the largest that of class "
        f"{last.name} ({wording.percent(last.robust)} %).{caution}"
    )


def _unknown(images: int) -> str:
    if not images:
        return ""
    said = wording.plural(images, "image")
    return f"{said} left out: no checkpoint is right there, or the decision was not recorded."
