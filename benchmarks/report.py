"""`docs/performance.md` from the results; typed by hand are words, techniques and limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.goals import GOALS, NONE, Goal, ratio, reached, spread
from benchmarks.results import SECTIONS, Comparison, Results, Run, Side
from harness.printable import printable

HERE = Path(__file__).parent


def performance(results: Results) -> str:
    """The whole page as Markdown: the template with its tables, and the techniques."""
    page = (HERE / "performance.md").read_text(encoding="utf-8")
    parts = {
        "setting": _settings(results),
        "goals": _goals(results),
        "techniques": (HERE / "techniques.md").read_text(encoding="utf-8").strip(),
        **{section: _section(results, section) for section in SECTIONS},
    }
    for name, text in parts.items():
        page = page.replace(f"<!-- {name} -->", text)
    return page


def _section(results: Results, section: str) -> str:
    tables = [_tables(run, section, is_named=len(results) > 1) for run in results.values()]
    return "\n\n".join(table for table in tables if table) or "Not measured yet."


def _settings(results: Results) -> str:
    if not results:
        return "Nothing was measured yet: run `make bench`."
    rows = [[name, *values] for name, values in _setting_rows(results)]
    return _table(["", *(_cell(name) for name in results)], rows)


def _setting_rows(results: Results) -> Iterable[tuple[str, list[str]]]:
    settings = [run.setting for run in results.values()]
    yield "machine", [_cell(one.machine) for one in settings]
    yield (
        "threads, batch, rounds, seed",
        [f"{one.threads}, {one.batch}, {one.rounds}, {one.seed}" for one in settings],
    )
    yield "model", [_cell(f"{one.model}, {one.parameters:,} parameters") for one in settings]
    yield "its digest", [_cell(one.checkpoint[:12]) for one in settings]
    yield "threat", [_cell(one.threat) for one in settings]
    yield (
        "test images, the first",
        [f"{one.images:,}, {_share(one.clean, one.images)} right" for one in settings],
    )
    yield "right after AutoAttack", [_robust(run) for run in results.values()]
    yield "commit", [_cell(one.commit) for one in settings]
    for name in sorted({key for one in settings for key in one.versions}):
        yield _cell(name), [_cell(one.versions.get(name, NONE)) for one in settings]


def _robust(run: Run) -> str:
    """Robust accuracy by the peer's whole run, or by ours where it was not installed."""
    for name in ("pyautoattack", "mixed"):
        whole = run.comparison("autoattack", "whole")
        side = whole.side(name) if whole else None
        if side and side.outcomes:
            return f"{_share(len(side.outcomes) - side.broken, len(side.outcomes))} ({name})"
    return NONE


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else NONE


def _goals(results: Results) -> str:
    rows = [
        [goal.work, goal.by_hand, _target(goal), goal.ceiling]
        + [reached(goal, results, device) for device in ("cpu", "cuda")]
        for goal in GOALS
    ]
    return _table(["work", "by hand", "goal", "ceiling", "CPU", "GPU"], rows)


def _target(goal: Goal) -> str:
    return f"{goal.goal:g} times" if goal.base else f"{goal.goal:g} s"


def _tables(run: Run, section: str, *, is_named: bool) -> str:
    """One table of a section: a row per side, grouped by piece of work."""
    comparisons = run.sections.get(section, ())
    if not comparisons:
        return ""
    rows = [row for comparison in comparisons for row in _rows(comparison)]
    heads = ["work", "side", "images", "seconds", "ratio", "spread", "wrong", "differ"]
    heads += ["forwards", "backwards"]
    if section == "training":
        heads[6:8] = ["loss"]
        rows = [[*row[:6], row[10], *row[8:10]] for row in rows]
    else:
        rows = [row[:10] for row in rows]
    table = _table(heads, rows)
    if not is_named:
        return table
    images = f"{run.setting.images:,} images of {_cell(run.setting.model)}"
    return f"{_cell(run.setting.machine)}, {images}:\n\n{table}"


def _rows(comparison: Comparison) -> Iterable[list[str]]:
    base = comparison.sides[0]
    for side in comparison.sides:
        first = _cell(comparison.work) if side is base else ""
        yield [first, _cell(_name(side)), *_numbers(side, base)]


def _name(side: Side) -> str:
    return f"{side.name} ({side.note})" if side.note else side.name


def _numbers(side: Side, base: Side) -> list[str]:
    if side.best is None:
        return [NONE] * 9
    differ, found, pair = side.differ(base), ratio(side, base), spread(side, base)
    return [
        f"{side.points:,}",
        f"{side.best:.3g}",
        f"{found:.2f}" if found else NONE,
        f"{pair[0]:.2f} to {pair[1]:.2f}" if pair and side is not base else NONE,
        str(side.broken) if side.outcomes else NONE,
        NONE if differ is None or side is base else _differ(differ, side.missed(base)),
        f"{side.forwards:,}",
        f"{side.backwards:,}",
        NONE if side.loss is None else f"{side.loss:.4f}",
    ]


def _differ(count: int, missed: int) -> str:
    return f"{count}, {missed} missed" if count else "0"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text of a file as one cell: no markup, no second column, no second line."""
    plain = " ".join(printable(text).split())
    for mark in "\\`*[]|~":
        plain = plain.replace(mark, f"\\{mark}")
    plain = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", plain)  # within a word it is no markup
    return plain.replace("<", "&lt;").replace(">", "&gt;") or NONE
