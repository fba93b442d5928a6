"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.printable import printable

if TYPE_CHECKING:
    from harness.identity import CheckpointRecord, Finding
    from harness.standings import Board, Rate, Standing
    from harness.standings.corruptions import CorruptionStanding, Mean


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    keeps_names: bool = False,
) -> None:
    """Print a table to stdout; columns after the first that hold numbers are right-aligned.

    Args:
        title: line above it, or empty.
        columns: heads.
        rows: as many texts each as there are columns.
        keeps_names: whether the first column is never broken; the others make room for it.
    """
    grid = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = number > 0 and all(_is_number(row[number]) for row in rows)
        grid.add_column(
            Text(printable(column)),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=keeps_names and number == 0,
        )
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    if title:
        # Rich's own titles are folded to the width of the table.
        console.print(Text(printable(title)))
    console.print(grid)


def standings_table(rows: Sequence[tuple[CheckpointRecord, Standing]]) -> None:
    """Clean, standard-only and worst-case accuracy of each checkpoint."""
    first = rows[0][1]
    table(
        f"{first.dataset}, {first.threat}: accuracy in percent, upper bounds "
        "(95 % interval over images)",
        ("checkpoint", "scale", "images", "clean", "on logits", "all attacks", "interval", "gap"),
        [
            (
                record.name,
                record.scale_mark or "-",
                str(standing.examples),
                percent(standing.clean),
                percent(standing.standard),
                percent(standing.robust),
                f"{100 * standing.robust.low:.1f}-{100 * standing.robust.high:.1f}",
                _gap(standing),
            )
            for record, standing in rows
        ],
    )


def findings_table(label: str, findings: Sequence[Finding], titles: Mapping[str, str]) -> None:
    """What diagnostics found; `titles` by id, for people."""
    table(
        label,
        ("id", "what", "state", "value", "images", "why"),
        [
            (
                one.diagnostic,
                titles.get(one.diagnostic, ""),
                one.state.replace("_", " "),
                "-" if one.value is None else f"{one.value:.4g}",
                str(len(one.proof)) if one.proof else "-",
                one.note,
            )
            for one in findings
        ],
    )


def percent(rate: Rate | None) -> str:
    """`62.5`, or a dash where nothing was measured."""
    return f"{100 * rate.fraction:.1f}" if rate and rate.total else "-"


def _gap(standing: Standing) -> str:
    gap = standing.adaptive_gap
    return "-" if gap is None else f"{100 * gap:.1f}"


def _is_number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").replace(",", "").isdigit() or text == "-"


def demo_table(board: Board) -> None:
    """PGD-40 alone, the standard protocol and the adaptive union side by side, best first."""
    table(
        f"\n{board.dataset}, {board.threat}: accuracy in percent, upper bounds",
        ("defense", "clean", "pgd-40", "standard", "adaptive", "95 % interval", "gap", "images"),
        [
            (
                standing.checkpoint.defense or standing.checkpoint.name,
                percent(standing.clean),
                _of_attack(standing, "pgd"),
                percent(standing.standard),
                percent(standing.robust),
                f"{100 * standing.robust.low:.1f}-{100 * standing.robust.high:.1f}",
                _gap(standing),
                str(standing.examples),
            )
            for standing in board.standings
        ],
    )


def _of_attack(standing: Standing, attack: str) -> str:
    found = [a.robust for a in standing.attacks if a.attack == attack and a.surface == "logits"]
    return percent(found[0]) if found else "-"


def corruptions_table(label: str, rows: Sequence[CorruptionStanding]) -> None:
    """Mean accuracies of each checkpoint; a dash where a part of the mean is not measured."""
    table(
        f"{label}: mean accuracy in percent; mCA over 15 corruptions and 5 severities "
        "(95 % interval over images)",
        (
            *("checkpoint", "scale", *rows[0].families),
            *(f"severity {level}" for level in rows[0].severities),
            *("mCA", "interval", "images"),
        ),
        [
            (
                row.checkpoint.name,
                row.checkpoint.scale_mark or "added",
                *(_mean(mean) for mean in (*row.families.values(), *row.severities.values())),
                _mean(row.mean),
                "-" if row.mean is None else f"{100 * row.mean.low:.1f}-{100 * row.mean.high:.1f}",
                "-" if row.mean is None else str(row.mean.examples),
            )
            for row in rows
        ],
    )


def cells_table(row: CorruptionStanding) -> None:
    """Accuracy of one checkpoint per corruption and severity, as far as it is measured."""
    from harness.standings.corruptions import Cell

    names = dict.fromkeys(cell.corruption for cell in row.cells)
    levels = sorted({cell.severity for cell in row.cells})
    table(
        f"\n{row.checkpoint.name} ({row.checkpoint.scale_mark or 'added'}): accuracy in percent "
        "per corruption and severity",
        ("corruption", *map(str, levels), "mean", "images"),
        [
            (
                name,
                *(percent(row.cells.get(Cell(name, level))) for level in levels),
                _mean(row.corruptions[name]),
                str(min(rate.total for cell, rate in row.cells.items() if cell.corruption == name)),
            )
            for name in names
        ],
    )


def _mean(mean: Mean | None) -> str:
    return "-" if mean is None else f"{100 * mean.fraction:.1f}"
