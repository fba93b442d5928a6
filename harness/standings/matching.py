"""Which stored number a printed figure can be laid beside, and what tells the two apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.errors import HarnessError
from harness.identity import CORRECT, Claim
from harness.standings.values import AttackStanding, Rate, Standing
from harness.threat import ThreatModel, parse_fraction

Stated = frozenset[tuple[str, Fraction]]
"""Norms with their epsilon."""

AUTO_ATTACK = frozenset({"apgd_ce", "apgd_t", "fab_t", "square"})

_BY_NAME = frozenset({"cw_linf", "deepfool", "fab", "feature_attack", "fgsm", "mim"})
_BY_QUERIES = frozenset({"nes", "rays", "spsa", "square", "zoo"})
_NAMED = frozenset(
    [("white_box", name) for name in _BY_NAME] + [("query", name) for name in _BY_QUERIES]
)
"""What is matched by the attack's name alone."""

_ON_FEATURES = "feature_attack"
"""The one attack of the papers that may look at features; every other looks at the logits."""

_FIGURE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_SCALES = {"full": 0, "reduced": 1, "smoke": 2}


@dataclass(frozen=True)
class Match:
    """A stored number of the same kind as a printed one, of the same defense and dataset.

    Args:
        rate: the accuracy.
        attack: label of the attack; `AutoAttack`, `worst case`, or empty for clean accuracy.
        checkpoint: name.
        architecture, scale: of the checkpoint.
        threat: that it was evaluated under.
        examples: images counted.
        differs: what the printed figure does not share with it, of `architecture`, `norm`,
            `epsilon` and `scale`.
        difference: ours minus the printed, in points; None unless they are comparable.
    """

    rate: Rate
    attack: str
    checkpoint: str
    architecture: str
    scale: str
    threat: ThreatModel
    examples: int
    differs: tuple[str, ...]
    difference: float | None

    @property
    def is_comparable(self) -> bool:
        """Whether both are about the same model under the same threat."""
        return not self.differs


def best_match(claim: Claim, standings: Iterable[Standing], stated: Stated) -> Match | None:
    """The comparable one, else the largest scale, then seed 0, then the first name.

    Figures of variants (other settings, parts of a model) have none: they are about another
    model. Neither have those of transfer, of means and of what is no accuracy.

    Args:
        claim: the printed figure.
        standings: of its defense and dataset.
        stated: norm and epsilon of the attacks in the same printed row, for clean accuracy; what
            tells of none differs from none.
    """
    if claim.variant or not is_figure(claim):
        return None
    found = [
        (standing, number, _differs(claim, standing, stated))
        for standing in standings
        if (number := _number(claim, standing)) is not None
    ]
    if not found:
        return None
    standing, (label, rate), differs = min(found, key=lambda one: _order(one[0], one[2]))
    record = standing.checkpoint
    return Match(
        rate=rate,
        attack=label,
        checkpoint=record.name,
        architecture=record.architecture,
        scale=record.scale,
        threat=standing.threat,
        examples=standing.examples,
        differs=differs,
        difference=None if differs else 100 * rate.fraction - claim.value,
    )


def stated_threat(claim: Claim) -> Stated:
    """Norm and epsilon that a claim states; none where it states no proper one."""
    try:
        return frozenset({(claim.norm, parse_fraction(claim.epsilon))})
    except HarnessError:
        return frozenset()


def is_figure(claim: Claim) -> bool:
    """Whether what is printed is a number; a database of others may hold anything."""
    return _FIGURE.fullmatch(claim.printed) is not None


def _order(standing: Standing, differs: Sequence[str]) -> tuple[bool, int, bool, int, str, str]:
    record = standing.checkpoint
    scale = _SCALES.get(record.scale, len(_SCALES))
    return bool(differs), scale, record.seed != 0, record.seed, record.name, str(standing.threat)


def _number(claim: Claim, standing: Standing) -> tuple[str, Rate] | None:
    """What was attacked with, and the number of the same kind."""
    if standing.examples == 0:
        return None
    if claim.metric == "clean_accuracy":
        return "", standing.clean
    if claim.metric != "robust_accuracy":
        return None
    if claim.knowledge == "adaptive":
        return ("worst case", standing.robust) if standing.is_adaptive else None
    if claim.knowledge == "white_box" and claim.attack == "autoattack":
        return _auto_attack(standing)
    return _of_attack(claim, standing)


def _auto_attack(standing: Standing) -> tuple[str, Rate] | None:
    """The union of its four attacks, known where no other comes before them."""
    parts = standing.attacks[: len(AUTO_ATTACK)]
    is_whole = {line.attack for line in parts if _is_plain(line)} == AUTO_ATTACK
    return ("AutoAttack", parts[-1].union_after) if is_whole else None


def _of_attack(claim: Claim, standing: Standing) -> tuple[str, Rate] | None:
    lines = [line for line in standing.attacks if line.attack == claim.attack and _is_plain(line)]
    if claim.knowledge == "white_box" and claim.attack == "pgd":
        wanted = claim.attack_iterations
        lines = [o for o in lines if o.loss == "ce" and str(o.parameters.get("steps")) == wanted]
    elif (claim.knowledge, claim.attack) not in _NAMED:
        return None
    first = max(lines, key=lambda line: line.surface == "logits", default=None)
    return None if first is None or first.robust is None else (first.label, first.robust)


def _is_plain(line: AttackStanding) -> bool:
    """Whether it attacked every correct image through what the deployed pass returns."""
    is_seen = line.surface == "logits" or (line.attack, line.surface) == (_ON_FEATURES, "features")
    return is_seen and line.population == CORRECT and line.robust is not None


def _differs(claim: Claim, standing: Standing, stated: Stated) -> tuple[str, ...]:
    record, is_clean = standing.checkpoint, claim.metric == "clean_accuracy"
    threat = record.threat if is_clean else standing.threat
    threats = stated if is_clean else stated_threat(claim)
    is_open = is_clean and not stated
    same = {
        "architecture": record.architecture == claim.architecture,
        "norm": is_open or threat.norm in {norm for norm, _ in threats},
        "epsilon": is_open or threat.epsilon in {epsilon for _, epsilon in threats},
        "scale": record.scale == "full",
    }
    return tuple(word for word, is_same in same.items() if not is_same)
