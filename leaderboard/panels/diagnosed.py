"""Every diagnostic with what it means, and the curves behind some of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.identity import Finding
from harness.standings import Standing
from leaderboard.evidence import DiagnosticRow
from leaderboard.panels.figures import Axis, Figure, Line, Marks, Table, curves, keys, lines
from leaderboard.texts import DiagnosticText

_MOST_LINES = 5


@dataclass(frozen=True)
class DefinedRow:
    """A diagnostic of a row; what it compares and when it warns, empty where nobody says."""

    found: DiagnosticRow
    description: str
    limits: tuple[str, ...]
    source: str

    @classmethod
    def of(cls, found: DiagnosticRow, text: DiagnosticText | None) -> DefinedRow:
        """A row with its definition."""
        if text is None:
            return cls(found, "", (), "")
        limits = (("Amber", text.amber), ("Red", text.red))
        said = tuple(f"{name}: {limit}." for name, limit in limits if limit)
        return cls(found, text.description, said, text.source)


def behind_diagnostics(standing: Standing) -> tuple[Figure, ...]:
    """The curves that diagnostics stored, in the order of their ids."""
    found = {one.diagnostic: one for one in standing.findings}
    drawn = (_CURVES[id_](found[id_]) for id_ in sorted(_CURVES) if id_ in found)
    return tuple(figure for figure in drawn if figure is not None)


def _iterations(found: Finding) -> Figure | None:
    read = curves(found.details, "steps", "every_iterate", "last_iterate")
    if read is None or min(read[0]) <= 0:
        return None
    steps, *percent = read
    return _figure(
        "D03: more iterations",
        "PGD of 10 to 500 steps from one start. Accuracy must fall and then settle.",
        ("every iterate counts", "last iterate only"),
        _Across("steps, on a logarithmic scale", steps, tuple(map(math.log10, steps))),
        percent,
    )


def _restarts(found: Finding) -> Figure | None:
    names = tuple(found.details)[:_MOST_LINES]
    read = curves(found.details, *names) if names else None
    if read is None:
        return None
    starts = tuple(float(number) for number in range(1, len(read[0]) + 1))
    return _figure(
        "D13: more random starts",
        "One start should find what there is: where ten break much more, one search is weak.",
        names,
        _Across("random starts", starts, starts),
        read,
    )


def _fidelity(found: Finding) -> Figure | None:
    read = curves(found.details, "radius", "median_relative_error", "sign_agreement")
    if read is None or min(read[0]) <= 0:
        return None
    radii, errors, signs = read
    agreement = [100 * sign for sign in signs]
    across = _Across("radius, on a logarithmic scale", radii, tuple(map(math.log10, radii)))
    figure = _figure(
        "D12: gradient fidelity",
        "Share of slopes whose sign the gradient foretells, near the image and further away. "
        "Below 70 % at the middle radius, gradients mislead.",
        ("signs that agree",),
        across,
        [agreement],
        Marks(level=((70.0, "70 %"),)),
    )
    if figure is None:
        return None
    rows = zip(radii, agreement, errors, strict=True)
    table = Table(
        "Measured slopes against promised ones.",
        ("Radius", "Signs that agree, %", "Median relative error"),
        tuple((f"{radius:.3g}", f"{sign:.1f}", f"{error:.3g}") for radius, sign, error in rows),
    )
    return replace(figure, table=table)


def _scales(found: Finding) -> Figure | None:
    names = [name for name in found.details if name.startswith("scale_")]
    numbers = [one for name in names for one in found.details[name]]
    if not 2 <= len(names) <= _MOST_LINES + 1 or len(numbers) != len(names):
        return None
    if not all(map(math.isfinite, numbers)):
        return None
    places = tuple(float(number) for number in range(len(names)))
    said = tuple(name.removeprefix("scale_") for name in names)
    return _figure(
        "D15: logits times a factor",
        "Auto-PGD on the cross-entropy of rescaled logits. Where a factor breaks more than "
        "factor 1, the plain cross-entropy is blind.",
        ("accuracy",),
        _Across("factor", places, places, said),
        [numbers],
    )


_CURVES: Mapping[str, Callable[[Finding], Figure | None]] = {
    "D03": _iterations,
    "D12": _fidelity,
    "D13": _restarts,
    "D15": _scales,
}


@dataclass(frozen=True)
class _Across:
    """What is varied: numbers, where they lie on the axis, and what stands under them."""

    name: str
    numbers: tuple[float, ...]
    places: tuple[float, ...]
    said: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return self.said or tuple(f"{number:.3g}" for number in self.numbers)


def _figure(
    title: str,
    said: str,
    names: Sequence[str],
    across: _Across,
    percent: Sequence[Sequence[float]],
    marks: Marks | None = None,
) -> Figure | None:
    """Curves in percent of the clean-correct images; None where nothing is varied."""
    if not min(across.places) < max(across.places):
        return None
    series = [
        Line(name, tuple(zip(across.places, one, strict=True)))
        for name, one in zip(names, percent, strict=True)
    ]
    axis = Axis(
        across.name,
        min(across.places),
        max(across.places),
        tuple(zip(across.places, across.words, strict=True)),
    )
    ends = "; ".join(f"{line.name} {line.points[-1][1]:.1f} %" for line in series)
    rows = zip(across.words, *percent, strict=True)
    return Figure(
        title,
        said,
        lines(f"{title}, at last {ends}", series, axis, marks=marks),
        "small",
        keys(series),
        Table(
            "In percent of the images that are right as they are.",
            (across.name, *names),
            tuple((str(head), *(f"{one:.1f}" for one in rest)) for head, *rest in rows),
        ),
    )
