"""The page `docs/results.md`: every defense beside its baseline, from a finished database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.identity import CheckpointRecord, Value
    from harness.standings.comparison import Comparison
    from harness.standings.values import Rate, Standing
    from harness.store.store import Store

_HEAD = """# What was measured

Made by `make results` from `results.db`; every number is there per image, with its attack. Percent.
All runs are reduced (scale `{scales}`), so compare them with each other and not with the papers.

- **standard**: right and not broken by AutoAttack and PGD-100 on the deployed logits.
- **adaptive**: right and not broken by any attack, those on heads, gates, scales and surrogates
  included, with the 95 % Wilson interval of seed 0. Further seeds ran without queries, so their
  number may be a little high.
- **difference**: adaptive accuracy minus the baseline's on the same images, over all common seeds;
  p is the exact McNemar test, corrected for all comparisons of the table (Holm). Each image counts
  once per seed, so it is about these images.
"""

_COLUMNS = (
    *("defense", "clean", "standard", "adaptive", "95 %", "other seeds"),
    *("baseline", "its adaptive", "difference", "p", "verdict"),
)


def results_page(store: Store) -> str:
    """The page as Markdown."""
    from harness.catalogue import DEFENSES
    from harness.standings.comparison import comparisons

    baselines = {}
    for name in DEFENSES:
        entry = DEFENSES[name]
        baselines[name] = entry.base or str(entry.settings.get("base", ""))
    found = list(comparisons(store, baselines))
    scales = sorted({one.checkpoint.scale for row in found for one in row.standings})
    parts = [_HEAD.format(scales=", ".join(scales))]
    for board, rows in groupby(found, key=_board):
        parts.append(_section(board, list(rows)))
    measured = {row.defense for row in found}
    lacking = [f"`{name}`" for name in DEFENSES if name not in measured]
    if lacking:
        parts.append(f"Not measured yet: {', '.join(lacking)}.\n")
    return "\n".join(parts)


def _board(row: Comparison) -> tuple[str, str, str, str]:
    standing = row.standings[0]
    record = standing.checkpoint
    return standing.dataset, str(standing.threat), record.architecture, record.scale


def _section(board: tuple[str, str, str, str], rows: Sequence[Comparison]) -> str:
    dataset, threat, architecture, scale = board
    examples = sorted({one.examples for row in rows for one in row.standings})
    record = rows[0].standings[0].checkpoint
    lines = [
        f"## {dataset}, {threat}\n",
        f"{architecture}{_width(record)}, scale {scale}: {_training(record.recipe)}; "
        f"the first {_either(examples)} test images.\n",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
    ]
    ordered = sorted(rows, key=lambda row: -row.standings[0].robust.fraction)
    lines += [f"| {' | '.join(_cells(row))} |" for row in ordered]
    return "\n".join(lines) + "\n"


def _width(record: CheckpointRecord) -> str:
    width = record.architecture_settings.get("width")
    return f" of width {width}" if width else ""


def _training(recipe: Mapping[str, Value]) -> str:
    """What is reduced of it; some defenses take fewer inner steps than their recipe has."""
    told = f"{recipe.get('epochs')} epochs, at most {recipe.get('inner_steps')} inner steps"
    precision = recipe.get("precision", "float32")
    return told if precision == "float32" else f"{told}, trained in {precision}"


def _cells(row: Comparison) -> list[str]:
    first, *others = row.standings
    robust = first.robust
    theirs = [_percent(one.robust) for one in row.baselines]
    return [
        f"`{row.defense}`",
        _percent(first.clean),
        _percent(first.standard),
        f"**{_percent(robust)}**",
        f"{100 * robust.low:.1f}-{100 * robust.high:.1f}",
        ", ".join(_percent(one.robust) for one in others) or "-",
        f"`{row.baseline}`" if row.baseline else "-",
        ", ".join(theirs) or "-",
        "-" if row.difference is None else f"{100 * row.difference:+.1f}",
        "-" if row.p_adjusted is None else f"{row.p_adjusted:.2g}",
        verdict(row),
    ]


def verdict(row: Comparison) -> str:
    """Whether a defense beats its baseline, and what explains that it does not."""
    if not row.baseline:
        return _remarks(row.standings)
    if row.difference is None or row.p_adjusted is None:
        return "its baseline was not measured here"
    if row.p_adjusted >= 0.05:
        found = f"no difference that {row.images} image decisions would show"
    else:
        found = "better" if row.difference > 0 else "worse"
    remarks = _remarks(row.standings)
    return f"{found}; {remarks}" if remarks else found


def _remarks(standings: Sequence[Standing]) -> str:
    """What the rows themselves say about why."""
    remarks = []
    collapsed = [one for one in standings if one.checkpoint.training.get("collapsed_at")]
    if collapsed:
        epochs = ", ".join(str(one.checkpoint.training["collapsed_at"]) for one in collapsed)
        remarks.append(f"training collapsed (epoch {epochs})")
    gap = standings[0].adaptive_gap
    if gap is not None and gap >= 0.05:
        remarks.append(f"{100 * gap:.0f} points of its standard number are not there")
    return "; ".join(remarks)


def _percent(rate: Rate | None) -> str:
    return "-" if rate is None else f"{100 * rate.fraction:.1f}"


def _either(counts: Iterable[int]) -> str:
    return " or ".join(str(count) for count in counts)
