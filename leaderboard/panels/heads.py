"""Auxiliary heads and the gate: who decides, and what an attack does to that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.identity import Finding, Measurement
from harness.standings import Standing
from leaderboard import wording
from leaderboard.panels.figures import Table

_NAMES = ("agreement_clean", "agreement_attacked", "margin_ratio", "rank_correlation")
_MOST_HEADS = 64
_MOST_READINGS = 4


@dataclass(frozen=True)
class Heads:
    """What the heads say, as sentences and tables."""

    said: tuple[str, ...]
    tables: tuple[Table, ...]

    @classmethod
    def of(cls, standing: Standing, measurements: Sequence[Measurement]) -> Heads | None:
        """From diagnostic D21 and the analysis `gate_flips`; None where neither has numbers."""
        found = next((one for one in standing.findings if one.diagnostic == "D21"), None)
        flips = [one for one in measurements if _is_of(one, standing)][:_MOST_READINGS]
        agreement = None if found is None else _agreement(found)
        decisions = _decisions(flips)
        tables = tuple(table for table in (agreement, decisions) if table is not None)
        if not tables:
            return None
        said = [_ABOUT] if agreement is not None else []
        return cls((*said, *(_flipped(one) for one in flips if one.on != "clean")), tables)


_ABOUT = (
    "Agreement is how often a head alone gives the deployed decision, on clean images and on those "
    "of Auto-PGD. A head that always agrees decides already: an attack may then climb that head, "
    "whose margin is smaller by the ratio shown."
)


def has_heads(standing: Standing) -> bool:
    """Whether there is anything but final logits to ask about."""
    shown = standing.checkpoint.capabilities
    return shown.auxiliary > 0 or shown.select


def _is_of(one: Measurement, standing: Standing) -> bool:
    place = (one.dataset, one.images, one.threat)
    is_here = place == (standing.dataset, standing.images, standing.threat)
    return is_here and one.analysis == "gate_flips"


def _agreement(found: Finding) -> Table | None:
    columns = [found.details.get(name, ()) for name in _NAMES]
    if len({len(one) for one in columns}) != 1 or not 1 <= len(columns[0]) <= _MOST_HEADS:
        return None
    return Table(
        f"Heads beside the decision, on {wording.plural(found.examples, 'image')} (D21).",
        ("Head", "Agrees, clean, %", "Agrees, attacked, %", "Final margin over its own",
         "Rank correlation of margins"),
        tuple(
            (f"auxiliary({head})", _share(clean), _share(attacked), _number(ratio), _number(rank))
            for head, (clean, attacked, ratio, rank) in enumerate(zip(*columns, strict=True))
        ),
    )  # fmt: skip


def _decisions(flips: Sequence[Measurement]) -> Table | None:
    rows: list[tuple[str, ...]] = []
    for one in flips:
        agreement, accuracy = (one.values.get(name, ()) for name in ("agreement", "accuracy"))
        changed = one.values.get("flips", ()) or (math.nan,) * len(agreement)
        heads = zip(agreement, accuracy, changed, strict=False)
        for head, (agrees, right, flipped) in enumerate(heads):
            name = f"auxiliary({head})"
            rows.append((name, one.on, _share(agrees), _share(right), _share(flipped)))
    if not 1 <= len(rows) <= _MOST_HEADS:
        return None
    return Table(
        "What each head decides, clean and under the stored attack that broke most.",
        ("Head", "Images", "Agrees with the decision, %", "Right by itself, %",
         "Decides otherwise than on the clean image, %"),
        tuple(rows),
        words=2,
    )  # fmt: skip


def _flipped(one: Measurement) -> str:
    """What the attack does to the gates, or to the heads where no gate follows them."""
    deployed, gates = one.values.get("deployed_flips", ()), one.values.get("gate_flips", ())
    parts = []
    if len(gates) == 1:
        parts.append(
            f"{_share(gates[0])} % of the images go through the gate of another class than "
            "without the attack"
        )
    if len(deployed) == 1:
        parts.append(f"{_share(deployed[0])} % change the deployed decision")
    if not parts:
        return one.note
    return f"Under {one.on}, {' and '.join(parts)}. {one.note}".strip()


def _share(number: float) -> str:
    return f"{100 * number:.1f}" if math.isfinite(number) else wording.NOTHING


def _number(number: float) -> str:
    return wording.number(number)
