"""How to read this: the protocol in plain words, every threshold from the code that applies it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from harness.standings.agreement import ENOUGH
from harness.standings.levels import ADAPTIVE_ONLY, BARRING, CHANCE, IN_POINTS, MANY, RECOMPUTED
from harness.standings.row import DIAGNOSED
from harness.statistics import wilson
from leaderboard import addresses
from leaderboard.evaluations import AMBER, RED
from leaderboard.frame import Frame
from leaderboard.gains import LEVEL
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.texts import DiagnosticText

WORKED = (592, 1000)
"""The example of an interval: images right and not broken, of how many."""


@page
def reading(material: Material) -> Iterator[Draft]:
    """One page, always."""
    said = material.texts
    tables = (list(said.diagnostics.values()), said.surfaces, said.losses, said.protocols)
    facts = (tables, material.generated)
    yield Draft(addresses.READING, facts, partial(ReadingPage.of, material), "reading.html")


@dataclass(frozen=True)
class Worked:
    """An interval as an example, in percent."""

    count: str
    total: str
    percent: str
    low: str
    high: str

    @classmethod
    def of(cls, count: int, total: int) -> Worked:
        """The Wilson interval of so many images."""
        low, high = (f"{100 * end:.1f}" for end in wilson(count, total))
        return cls(f"{count:,}", f"{total:,}", f"{100 * count / total:.1f}", low, high)


@dataclass(frozen=True)
class ReadingPage:
    """The protocol in plain words.

    Args:
        worked: an interval as an example.
        level: of the paired test, in percent.
        amber, red: adaptive gap in points above which it is marked.
        barring: diagnostics that keep a row at E1 while red.
        recomputed: those that E3 asks for once more.
        comparing: those that E2 does not wait for.
        agreement: of an independent re-run, in percent.
        diagnosed: images that diagnostics look at.
        many: images from which on a threshold in points needs no test.
        chance: level of that test, in percent.
        tested: diagnostics whose thresholds it is about.
    """

    worked: Worked
    level: str
    amber: str
    red: str
    barring: str
    recomputed: str
    comparing: str
    agreement: str
    diagnosed: str
    many: str
    chance: str
    tested: str
    diagnostics: tuple[DiagnosticText, ...]
    protocols: tuple[tuple[str, str], ...]
    surfaces: tuple[tuple[str, str], ...]
    losses: tuple[tuple[str, str], ...]
    frame: Frame

    @classmethod
    def of(cls, material: Material) -> ReadingPage:
        """The page."""
        said = material.texts
        return cls(
            worked=Worked.of(*WORKED),
            level=f"{100 * LEVEL:g}",
            amber=f"{AMBER:g}",
            red=f"{RED:g}",
            barring=", ".join(BARRING),
            recomputed=", ".join(RECOMPUTED),
            comparing=", ".join(sorted(ADAPTIVE_ONLY)),
            agreement=f"{100 * ENOUGH:g}",
            diagnosed=f"{DIAGNOSED:,}",
            many=f"{MANY:,}",
            chance=f"{100 * CHANCE:g}",
            tested=", ".join(IN_POINTS),
            diagnostics=tuple(said.diagnostics.values()),
            protocols=tuple(said.protocols.items()),
            surfaces=tuple(said.surfaces.items()),
            losses=tuple(said.losses.items()),
            frame=Frame.of(addresses.READING, generated=material.generated),
        )
