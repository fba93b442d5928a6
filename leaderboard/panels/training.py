"""How a checkpoint was trained: its curves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from harness.identity import CheckpointRecord
from leaderboard import charts, wording


@dataclass(frozen=True)
class Curves:
    """Training curves: a drawing each, and all their numbers in one table."""

    charts: tuple[tuple[str, charts.Chart], ...]
    names: tuple[str, ...]
    epochs: tuple[tuple[str, tuple[str, ...]], ...]


def training_curves(record: CheckpointRecord) -> Curves | None:
    """None where no number of it is finite."""
    drawn = []
    for key, values in record.curves.items():
        name = key.replace("_", " ")
        chart = charts.training_curve(name, values)
        if chart is not None:
            drawn.append((name, chart))
    if not drawn:
        return None
    columns = [[f"{number:.4g}" for number in values] for values in record.curves.values()]
    rows = zip_longest(*columns, fillvalue=wording.NOTHING)
    return Curves(
        charts=tuple(drawn),
        names=tuple(key.replace("_", " ") for key in record.curves),
        epochs=tuple((str(epoch), tuple(row)) for epoch, row in enumerate(rows, start=1)),
    )
