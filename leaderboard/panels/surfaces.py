"""Attacks by what they climb: does the deployed logits' accuracy survive on the other surfaces?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.standings import AttackStanding, Standing
from leaderboard import charts, wording
from leaderboard.evaluations import Number


@dataclass(frozen=True)
class SurfaceRow:
    """All attacks on one surface; `weakest` is the lowest accuracy that one of them alone left.

    `most` is what the attack broke that broke the most images, and how many it attacked.
    """

    name: str
    meaning: str
    attacks: str
    weakest: Number
    bar: tuple[charts.Strip, ...]
    by: str
    most: str
    sole_breaks: str


@dataclass(frozen=True)
class Surfaces:
    """Every surface that was attacked, and what that says together."""

    said: str
    rows: tuple[SurfaceRow, ...]

    @classmethod
    def of(cls, standing: Standing, meanings: Mapping[str, str]) -> Surfaces | None:
        """Grouped by name, models elsewhere together; None where nothing was attacked."""
        groups: dict[str, list[AttackStanding]] = {}
        for attack in standing.attacks:
            groups.setdefault(_group(attack.surface), []).append(attack)
        if not groups:
            return None
        rows = tuple(_row(name, found, meanings) for name, found in groups.items())
        return cls(_said(groups), rows)


def _group(surface: str) -> str:
    return "surrogate" if surface.startswith("surrogate(") else surface


def _row(name: str, attacks: Sequence[AttackStanding], meanings: Mapping[str, str]) -> SurfaceRow:
    weakest = _weakest(attacks)
    rate = None if weakest is None else weakest.robust
    soles = [attack.sole_breaks for attack in attacks if attack.sole_breaks is not None]
    most = max(attacks, key=_broken)
    return SurfaceRow(
        name=name,
        meaning=meanings.get(name.partition("(")[0], ""),
        attacks=wording.count(len(attacks)),
        weakest=Number.of(rate),
        bar=charts.bar(rate.fraction, (rate.low, rate.high)) if rate and rate.total else (),
        by="" if weakest is None else weakest.label,
        most=f"{wording.count(most.broken)} of {wording.count(most.attacked)}",
        sole_breaks=wording.count(sum(soles)) if soles else wording.NOTHING,
    )


def _weakest(attacks: Sequence[AttackStanding]) -> AttackStanding | None:
    """The one that alone left least, of those that saw every correct image."""
    whole = [attack for attack in attacks if attack.robust is not None and attack.robust.total]
    return min(whole, key=_left, default=None)


def _left(attack: AttackStanding) -> float:
    return attack.robust.fraction if attack.robust is not None else 1.0


def _said(groups: Mapping[str, Sequence[AttackStanding]]) -> str:
    """The deployed logits beside the other surface that did most."""
    deployed = _weakest(groups.get("logits", ()))
    rest = [attack for name, found in groups.items() if name != "logits" for attack in found]
    if deployed is None or not rest:
        return f"{_JUDGED} Nothing but the deployed logits was climbed." if deployed else _JUDGED
    before = f"The strongest single attack on the deployed logits leaves {_percent(deployed)} right"
    other = _weakest(rest)
    if other is not None and _left(other) < _left(deployed):
        return (
            f"{before}; one that climbs {other.surface} leaves {_percent(other)}. What decides is "
            "reached better through that surface: the deployed logits alone overstate what holds."
        )
    later = max((one for one in rest if one.robust is None), key=_broken, default=None)
    if later is not None and later.broken:
        broken, attacked = wording.count(later.broken), wording.count(later.attacked)
        return (
            f"{before}. Of the {attacked} images that an earlier stage had left, one that climbs "
            f"{later.surface} broke {broken}."
        )
    return f"{before}, and nothing that climbed another surface did better."


def _broken(attack: AttackStanding) -> int:
    return attack.broken


_JUDGED = "Success is judged on the deployed decision alone, whatever an attack climbs."


def _percent(attack: AttackStanding) -> str:
    return f"{wording.percent(attack.robust)} %"
