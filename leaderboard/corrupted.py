"""What the site says of corrupted images: another threat, in a table of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.corruptions import CORRUPTIONS, MAIN, Corruption
from harness.standings import Rate
from harness.standings.corruptions import Cell, CorruptionStanding, Mean
from harness.threat import SEVERITIES
from leaderboard import wording
from leaderboard.evaluations import FailureRow
from leaderboard.panels.classes import shade

_CELLS = len(MAIN) * len(SEVERITIES)


@dataclass(frozen=True)
class MeanRow:
    """One mean: over what, how much, of how many accuracies on how many images."""

    name: str
    percent: str
    interval: str
    cells: str
    images: str

    @classmethod
    def of(cls, name: str, mean: Mean | None) -> MeanRow:
        """Dashes where a part of the mean is not measured."""
        if mean is None:
            return cls(name, wording.NOTHING, "", wording.NOTHING, wording.NOTHING)
        return cls(
            name=name,
            percent=wording.mean_percent(mean),
            interval=wording.mean_interval(mean),
            cells=wording.count(mean.cells),
            images=wording.count(mean.examples),
        )


@dataclass(frozen=True)
class CorruptionRow:
    """One corruption: per severity the class of its shade and the accuracy, then the mean."""

    name: str
    family: str
    description: str
    is_extra: bool
    cells: tuple[tuple[str, str], ...]
    mean: str

    @classmethod
    def of(cls, one: Corruption, standing: CorruptionStanding) -> CorruptionRow:
        """The row of a corruption; a dash where a severity is not measured."""
        mean = standing.corruptions.get(one.name)
        return cls(
            name=one.name.replace("_", " "),
            family=one.family,
            description=one.description,
            is_extra=not one.is_main,
            cells=tuple(_cell(standing.cells.get(Cell(one.name, s))) for s in SEVERITIES),
            mean=wording.NOTHING if mean is None else wording.mean_percent(mean),
        )


def _cell(rate: Rate | None) -> tuple[str, str]:
    return ("" if rate is None else shade(rate.fraction)), wording.percent(rate)


@dataclass(frozen=True)
class Corruptions:
    """A checkpoint on the corrupted images of one origin."""

    anchor: str
    heading: str
    is_generated: bool
    made_by: str
    measured: str
    means: tuple[MeanRow, ...]
    severities: tuple[str, ...]
    grid: tuple[CorruptionRow, ...]
    failures: tuple[FailureRow, ...]

    @classmethod
    def of(cls, number: int, standing: CorruptionStanding) -> Corruptions:
        """The part of a checkpoint's page about one origin, its `number`th there."""
        main = {corruption.name for corruption in MAIN}
        measured = sum(cell.corruption in main for cell in standing.cells)
        return cls(
            anchor=f"corruptions-{number}",
            heading=standing.dataset,
            is_generated=standing.pixels != "files",
            made_by=standing.made_by,
            measured=f"{measured} of {_CELLS}",
            means=(
                MeanRow.of("mCA, all 15 corruptions and five severities", standing.mean),
                *_rows("Family: ", standing.families),
                *_rows("Severity ", standing.severities),
            ),
            severities=tuple(map(str, SEVERITIES)),
            grid=tuple(
                CorruptionRow.of(one, standing)
                for one in CORRUPTIONS
                if any(cell.corruption == one.name for cell in standing.cells)
            ),
            failures=tuple(FailureRow.of(failure) for failure in standing.failures),
        )


def _rows(
    before: str, means: Mapping[str, Mean | None] | Mapping[int, Mean | None]
) -> list[MeanRow]:
    return [MeanRow.of(f"{before}{name}", mean) for name, mean in means.items()]
