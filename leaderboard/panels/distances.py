"""Exclusion and alignment: how near classes lie to each other and to their attacked copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from harness.identity import Measurement
from leaderboard.panels.figures import Axis, Figure, Line, Table, keys, lines
from leaderboard.panels.measured import Analysis, Numbers, first, text

_MOST_BINS = 128


def exclusion_alignment(found: Sequence[Measurement]) -> Analysis | None:
    """Distances within and between classes, with their histograms."""
    figures = [_histograms(found, metric, said) for metric, said in _METRICS.items()]
    names = ("exclusion_cosine", "alignment_cosine", "exclusion_l2", "alignment_l2")
    rows = tuple((one.on, *(text(first(one.values, name)) for name in names)) for one in found)
    return Analysis(
        "exclusion_alignment",
        "Exclusion and alignment",
        "Exclusion: how near images of a class lie to images of the others; low cosine and large "
        "distance are good. Alignment: how near an image lies to its own attacked copy; high "
        "cosine and small distance are good.",
        tuple(figure for figure in figures if figure is not None),
        (
            Table(
                "Means over the classes.",
                ("Images", "Exclusion, cosine", "Alignment, cosine", "Exclusion, L2",
                 "Alignment, L2"),
                rows,
            ),
        ),
    )  # fmt: skip


_METRICS = {"cosine": "cosine similarity", "l2": "Euclidean distance"}


def _histograms(found: Sequence[Measurement], metric: str, said: str) -> Figure | None:
    """Exclusion clean and attacked and alignment, all classes together, as shares of the pairs."""
    series: list[tuple[str, list[float]]] = []
    edges: tuple[float, ...] = ()
    for one in found:
        bounds = tuple(one.values.get(f"{metric}_edges", ()))
        for pair in ("exclusion", "alignment"):
            counts = _summed(one.values, f"{pair}_{metric}_counts_", len(bounds) - 1)
            if counts is None or (edges and bounds != edges):
                continue
            edges = bounds
            where = "clean" if one.on == "clean" else "attacked"
            series.append((f"{pair}, {where}", counts))
    if not series or not _is_ascending(edges):
        return None
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    drawn = [Line(name, tuple(zip(middles, counts, strict=True))) for name, counts in series]
    top = max(max(counts) for _, counts in series)
    if top <= 0:
        return None
    across = Axis(said, edges[0], edges[-1], _ticks(edges[0], edges[-1]))
    up = Axis("", 0.0, top, tuple((top * part, f"{top * part:.2g} %") for part in (0, 0.5, 1)))
    rows = zip(middles, *(counts for _, counts in series), strict=True)
    return Figure(
        title=f"Pairs by {said}",
        said="Share of the pairs in each bin, all classes together.",
        chart=lines(f"Histograms of {said}: {', '.join(n for n, _ in series)}", drawn, across, up),
        kind="small",
        keys=keys(drawn),
        table=Table(
            "Share of the pairs in each bin, %.",
            (f"middle of the bin, {said}", *(name for name, _ in series)),
            tuple((text(head), *(f"{one:.2f}" for one in rest)) for head, *rest in rows),
        ),
    )


def _summed(values: Numbers, prefix: str, bins: int) -> list[float] | None:
    """The counts of all classes in percent of their sum."""
    rows = [tuple(counts) for name, counts in values.items() if name.startswith(prefix)]
    if not rows or not 1 <= bins <= _MOST_BINS or any(len(row) != bins for row in rows):
        return None
    counts = [sum(column) for column in zip(*rows, strict=True)]
    total = sum(counts)
    if not math.isfinite(total) or total <= 0:
        return None
    return [100 * count / total for count in counts]


def _is_ascending(edges: Sequence[float]) -> bool:
    return all(map(math.isfinite, edges)) and edges[0] < edges[-1]


def _ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    steps = [low + (high - low) * part / 4 for part in range(5)]
    return tuple((step, f"{step:.2g}") for step in steps)
