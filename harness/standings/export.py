"""Standings as JSON and CSV for other programs, with the counts behind every fraction."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.identity import Finding
from harness.printable import printable
from harness.standings.values import AttackStanding, Board, Rate, Standing
from harness.threat import format_fraction

VERSION = 1
"""Of the JSON layout; grows when a field changes its meaning or disappears."""

_RATES = ("clean", "robust", "standard")
_FORMULAE = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
_RATE_COLUMNS = ("fraction", "count", "low", "high")


def as_json(boards: Iterable[Board]) -> str:
    """All boards, rows and attacks; the same standings always give the same text."""
    value = {"version": VERSION, "boards": [_board(board) for board in boards]}
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(boards: Iterable[Board]) -> str:
    """One line per row of every board; what is unknown is empty."""
    lines = [_line(standing) for board in boards for standing in board.standings]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe; numbers stay."""
    if not isinstance(value, str):
        return value
    text = printable(value)  # the writer leaves a carriage return bare
    return f"'{text}" if text.startswith(_FORMULAE) else text


def standing_json(standing: Standing) -> dict[str, Any]:
    """One row as a plain value, as `harness eval --json` prints it."""
    checkpoint = standing.checkpoint
    return {
        "checkpoint": checkpoint.name,
        "digest": checkpoint.digest,
        "defense": checkpoint.defense,
        "architecture": checkpoint.architecture,
        "scale": checkpoint.scale_mark,
        "dataset": standing.dataset,
        "images": standing.images,
        "norm": standing.threat.norm,
        "epsilon": format_fraction(standing.threat.epsilon),
        "seed": standing.seed,
        "examples": standing.examples,
        "rank": None if standing.rank is None else list(standing.rank),
        **{name: _rate(getattr(standing, name)) for name in _RATES},
        "is_adaptive": standing.is_adaptive,
        "adaptive_gap": standing.adaptive_gap,
        "protocols": list(standing.protocols),
        "last_lowered_by": standing.last_lowered_by,
        "level": standing.level,
        "lacking": list(standing.lacking),
        "verdict": str(standing.verdict),
        "unions": {name: _rate(rate) for name, rate in standing.unions.items()},
        "diagnostics": [finding_json(finding) for finding in standing.findings],
        "attacks": [_attack(attack) for attack in standing.attacks],
        "failures": [
            {"attack": failure.attack, "status": failure.status, "message": failure.message}
            for failure in standing.failures
        ],
    }


def _board(board: Board) -> dict[str, Any]:
    return {
        "dataset": board.dataset,
        "images": board.images,
        "norm": board.threat.norm,
        "epsilon": format_fraction(board.threat.epsilon),
        "standings": [standing_json(standing) for standing in board.standings],
    }


def _attack(attack: AttackStanding) -> dict[str, Any]:
    return {
        "label": attack.label,
        "attack": attack.attack,
        "surface": attack.surface,
        "loss": attack.loss,
        "parameters": dict(attack.parameters),
        "population": attack.population,
        "knowledge": attack.knowledge,
        "seeds": list(attack.seeds),
        "precisions": list(attack.precisions),
        "attacked": attack.attacked,
        "broken": attack.broken,
        "robust": _rate(attack.robust),
        "union_after": _rate(attack.union_after),
        "sole_breaks": attack.sole_breaks,
        "forwards": attack.forwards,
        "backwards": attack.backwards,
        "queries": attack.queries,
        "seconds": attack.seconds,
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """What one diagnostic found, as a plain value."""
    return {
        "diagnostic": finding.diagnostic,
        "state": finding.state,
        "value": _number(finding.value),
        "threshold": finding.threshold,
        "note": finding.note,
        "proof": list(finding.proof),
        "is_adaptive": finding.is_adaptive,
        "examples": finding.examples,
        "seed": finding.seed,
        "details": numbers_json(finding.details),
    }


def numbers_json(values: Mapping[str, Sequence[float]]) -> dict[str, list[float | None]]:
    """Lists of numbers by name, null for NaN and infinity."""
    return {name: [_number(number) for number in numbers] for name, numbers in values.items()}


def _number(value: float | None) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else value


def _rate(rate: Rate | None) -> dict[str, float] | None:
    if rate is None or rate.total == 0:  # nothing was measured: no number is better than 0
        return None
    return {
        "fraction": rate.fraction,
        "count": rate.count,
        "total": rate.total,
        "low": rate.low,
        "high": rate.high,
    }


_COLUMNS = (
    "dataset",
    "norm",
    "epsilon",
    "best_rank",
    "worst_rank",
    "checkpoint",
    "defense",
    "architecture",
    "scale",
    "examples",
    *(f"{name}_{column}" for name in _RATES for column in _RATE_COLUMNS),
    "adaptive_gap",
    "is_adaptive",
    "protocols",
    "level",
    "verdict",
    "attacks",
    "last_lowered_by",
    "seed",
    "images",
    "digest",
)


def _line(standing: Standing) -> dict[str, Any]:
    whole = standing_json(standing)
    best, worst = standing.rank or ("", "")
    line = {name: whole[name] for name in _COLUMNS if name in whole}
    for name in _RATES:
        rate = whole[name] or {}
        line |= {f"{name}_{column}": rate.get(column, "") for column in _RATE_COLUMNS}
    return line | {
        "best_rank": best,
        "worst_rank": worst,
        "adaptive_gap": "" if standing.adaptive_gap is None else standing.adaptive_gap,
        "protocols": " ".join(standing.protocols),
        "attacks": len(standing.attacks),
    }
