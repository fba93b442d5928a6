"""Target x source: how often adversarial images of one model break another (diagnostic D05)."""

from __future__ import annotations

import math

from harness.identity import Finding
from harness.standings import Board, Standing
from leaderboard import wording
from leaderboard.pictures.matrix import NO_NUMBER, Cell, Line, Matrix, extent, shade
from leaderboard.pictures.naming import ROWS, Heading, Names, ordered

COLUMNS = 12
DIAGNOSTIC = "D05"

_FULL = 0.5
"""Share broken that has the darkest shade: a transferred attack rarely breaks more."""


def transfer_matrix(board: Board, names: Names) -> Matrix | None:
    """The matrix; None where no row has the diagnostic."""
    found = [(row, _finding(row)) for row in ordered(board)]
    shown = [(row, one) for row, one in found if one is not None]
    if not shown:
        return None
    surfaces = sources(board)
    columns = surfaces[:COLUMNS]
    columns_said = extent(len(columns), len(surfaces), "sources", "commonest")
    rows = extent(min(len(shown), ROWS), len(shown), "rows that have diagnostic D05")
    return Matrix(
        anchor="transferred-attacks",
        title="Transferred attacks",
        explanation=(
            "Adversarial images are made on the model of the column and shown to that of the row. "
            "Each number is the share of its correct images that the best of six such attacks "
            "breaks; the fuller the shade, the more. The last column is what all sources together "
            "break and no gradient of the model itself does: above 0.3 points the gradients hide "
            "something."
        ),
        caption=f"Broken in percent, {rows}, {columns_said}.",
        corner="Attacked checkpoint",
        columns=(
            *(names.source(surface) for surface in columns),
            Heading("beyond its gradients", small="points"),
        ),
        lines=tuple(_line(row, one, columns, names) for row, one in shown[:ROWS]),
    )


def sources(board: Board) -> list[str]:
    """Surfaces of other models that any row was attacked from, the commonest first."""
    held: dict[str, int] = {}
    for row in board.standings:
        found = _finding(row)
        for surface in found.details if found else ():
            if surface == "stripped" or surface.startswith("surrogate("):
                held[surface] = held.get(surface, 0) + 1
    return sorted(held, key=lambda surface: (-held[surface], surface))


def _finding(row: Standing) -> Finding | None:
    """What D05 found, if it was run."""
    fitting = (one for one in row.findings if one.diagnostic == DIAGNOSTIC)
    return next((one for one in fitting if one.state in {"green", "amber", "red"}), None)


def _line(row: Standing, found: Finding, columns: list[str], names: Names) -> Line:
    cells = [_cell(row, found, surface) for surface in columns]
    return Line(names.heading(row.checkpoint), (*cells, _beyond(found)))


def _cell(row: Standing, found: Finding, surface: str) -> Cell:
    broken = [number for number in found.details.get(surface, ()) if math.isfinite(number)]
    if broken:
        return Cell(f"{max(broken):.1f}", f"b{shade(max(broken) / 100 / _FULL)}")
    digits = surface.removeprefix("surrogate(").removesuffix(")")
    is_itself = bool(digits) and row.checkpoint.digest.startswith(digits)
    return Cell("itself", "no") if is_itself else NO_NUMBER


def _beyond(found: Finding) -> Cell:
    if found.value is None:
        return Cell(wording.NOTHING, "no", state=found.state)
    return Cell(f"{found.value:.1f}", state=found.state)
