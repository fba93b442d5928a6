"""How the union fell over time: every drop signed by the attack that caused it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.standings.history import Drop
from harness.standings.insight import Insight
from leaderboard import charts, wording
from leaderboard.evaluations import Number


@dataclass(frozen=True)
class Fall:
    """One date: what was left then, and which attacks had taken how much."""

    date: str
    left: Number
    bar: tuple[charts.Strip, ...]
    by: tuple[tuple[str, str], ...]
    said: str


@dataclass(frozen=True)
class Progress:
    """All dates at which the union fell, the first and the last one besides."""

    said: str
    falls: tuple[Fall, ...]

    @classmethod
    def of(cls, found: Insight | None) -> Progress | None:
        """None where nothing was recorded but the clean images."""
        if found is None or len(found.history) < 2:
            return None
        last = len(found.history) - 1
        falls = tuple(_fall(drop, n, last) for n, drop in enumerate(found.history))
        drops = sum(bool(drop.lowered_by) for drop in found.history)
        said = (
            f"The number {_fell(drops)}; it can only fall, since no attack "
            "that ever broke an image is forgotten. Dates are UTC, of the first recording."
        )
        return cls(said, falls)


def _fell(drops: int) -> str:
    if not drops:
        return "has not fallen"
    return "fell once" if drops == 1 else f"fell {wording.plural(drops, 'time')}"


def _fall(drop: Drop, number: int, last: int) -> Fall:
    rate = drop.robust
    words = "no attack yet" if number == 0 else "no further drop" if number == last else ""
    return Fall(
        date=wording.moment(drop.created),
        left=Number.of(rate),
        bar=charts.bar(rate.fraction, (rate.low, rate.high)) if rate.total else (),
        by=tuple((f"−{wording.plural(count, 'image')}", label) for label, count in drop.lowered_by),
        said="" if drop.lowered_by else words,
    )
