"""Accuracy against epsilon (diagnostic D08), a small picture per defense."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.identity import Finding
from harness.standings import Board, Standing
from leaderboard.charts import Chart, Dot, Shape, Text, coordinate
from leaderboard.pictures.naming import Heading, Names, ordered
from leaderboard.texts import Texts

DIAGNOSTIC = "D08"

_LINES, _BASELINES = 8, 3
_WIDTH, _HEIGHT = 300, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 12, 14, 38
_TICKS = (1, 8, 32, 64, 128, 255)


@dataclass(frozen=True)
class Curve:
    """One row: epsilons in 255ths, and the share of all images not broken at each, in [0, 1]."""

    row: Standing
    epsilons: tuple[float, ...]
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Sweep:
    """One small picture; `role` says why it is among those shown."""

    heading: Heading
    role: str
    chart: Chart


@dataclass(frozen=True)
class Sweeps:
    """The pictures, and their numbers in one table: a line per epsilon."""

    charts: tuple[Sweep, ...]
    names: tuple[Heading, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    note: str


def sweeps(board: Board, names: Names, texts: Texts) -> Sweeps | None:
    """The best row of each defense, and baselines; None where no row has the diagnostic."""
    curves = [curve for row in ordered(board) if (curve := _curve(row)) is not None]
    if not curves:
        return None
    chosen = _chosen(curves, texts)
    epsilon = float(255 * board.threat.epsilon) if board.threat.norm == "linf" else None
    others = "".join(_path(curve) for curve, _ in chosen)
    return Sweeps(
        charts=tuple(
            Sweep(names.heading(one.row.checkpoint), role, _chart(one, others, epsilon))
            for one, role in chosen
        ),
        names=tuple(names.heading(one.row.checkpoint) for one, _ in chosen),
        lines=_lines([one for one, _ in chosen]),
        note=f"{len(chosen)} of {len(curves)} rows with diagnostic D08",
    )


def _curve(row: Standing) -> Curve | None:
    """What D08 measured on a row, if its details are whole; its shares are of correct images."""
    fitting = (one for one in row.findings if one.diagnostic == DIAGNOSTIC)
    found = next((one for one in fitting if one.state in {"green", "amber", "red"}), None)
    return None if found is None else _read(row, found)


def _read(row: Standing, found: Finding) -> Curve | None:
    details: Mapping[str, tuple[float, ...]] = found.details
    epsilons, shares = details.get("epsilon_255ths", ()), details.get("security_curve", ())
    clean = details.get("clean", ())
    is_whole = len(epsilons) == len(shares) > 1 and len(clean) == 1
    numbers = (*epsilons, *shares, *clean)
    if not is_whole or not all(math.isfinite(one) and 0 <= one <= 255 for one in numbers):
        return None
    return Curve(row, epsilons, tuple(min(one * clean[0] / 1e4, 1.0) for one in shares))


def _chosen(curves: Sequence[Curve], texts: Texts) -> list[tuple[Curve, str]]:
    """The best row of each of so many defenses, and of up to three baselines not among them."""
    best: dict[str, Curve] = {}
    for curve in curves:
        record = curve.row.checkpoint
        best.setdefault(record.defense or record.name, curve)
    known = [name for name, text in texts.defenses.items() if text.family == "baseline"]
    baselines = [name for name in known if name in best]
    first = list(best)[: _LINES - min(len(baselines), _BASELINES)]
    rest = [name for name in baselines if name not in first][:_BASELINES]
    more = [name for name in best if name not in {*first, *rest}]
    first += more[: _LINES - len(first) - len(rest)]
    return [
        *((best[name], "baseline" if name in baselines else "") for name in first),
        *((best[name], "baseline") for name in rest),
    ]


def _lines(curves: Sequence[Curve]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    every = sorted({epsilon for curve in curves for epsilon in curve.epsilons})
    tables = [dict(zip(c.epsilons, c.accuracies, strict=True)) for c in curves]
    return tuple(
        (
            f"{epsilon:g}/255",
            tuple(f"{100 * one[epsilon]:.1f}" if epsilon in one else "–" for one in tables),
        )
        for epsilon in every
    )


def _chart(curve: Curve, others: str, epsilon: float | None) -> Chart:
    levels = "".join(f"M{_LEFT} {_y(part / 2)}H{_WIDTH - _RIGHT}" for part in range(3))
    shapes = [Shape("grid", levels), Shape("others", others)]
    if epsilon is not None and 0 < epsilon <= 255:
        shapes.append(Shape("here", f"M{_x(epsilon)} {_TOP}V{_HEIGHT - _BOTTOM}"))
    shapes.append(Shape("line", _path(curve)))
    dots = tuple(
        Dot("drop", _x(at), _y(accuracy), f"epsilon {at:g}/255: {100 * accuracy:.1f} %")
        for at, accuracy in zip(curve.epsilons, curve.accuracies, strict=True)
    )
    first, last = (
        f"{100 * curve.accuracies[end]:.1f} % at epsilon {curve.epsilons[end]:g}/255"
        for end in (0, -1)
    )
    label = f"{curve.row.checkpoint.name}: from {first} to {last}"
    return Chart(label, _WIDTH, _HEIGHT, tuple(shapes), tuple(_ticks()), dots)


def _path(curve: Curve) -> str:
    points = zip(curve.epsilons, curve.accuracies, strict=True)
    return "M" + "L".join(f"{_x(epsilon)} {_y(accuracy)}" for epsilon, accuracy in points)


def _ticks() -> list[Text]:
    foot = _HEIGHT - _BOTTOM
    up = [
        Text("tick end", str(_LEFT - 5), coordinate(float(_y(part / 2)) + 4), f"{50 * part} %")
        for part in range(3)
    ]
    across = [Text("tick middle", _x(at), str(foot + 15), str(at)) for at in _TICKS]
    return [
        *up,
        *across,
        Text("axis end", str(_WIDTH - _RIGHT), str(_HEIGHT - 4), "epsilon, 255ths"),
    ]


def _x(epsilon: float) -> str:
    """Square roots: the small epsilons, where defenses differ, get half of the width."""
    return coordinate(_LEFT + (_WIDTH - _RIGHT - _LEFT) * math.sqrt(epsilon / 255))


def _y(accuracy: float) -> str:
    return coordinate(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * accuracy)
