"""Printed figures that another figure of the same table shows to be no worst case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

from harness.claims.recomputed import above_clean
from harness.identity import Claim
from harness.standings.matching import is_figure

ONE_STEP_MARGIN = Fraction("0.5")
"""Points by which one step must beat many before it says something (diagnostic D02)."""

_ITERATIVE = frozenset({"pgd", "mim", "cw_linf", "autoattack", "feature_attack", "fab", "deepfool"})

Doubt = tuple[Claim, str]
"""A figure, and why it is no worst case."""


def impossible(claims: Iterable[Claim]) -> tuple[Doubt, ...]:
    """Robust accuracies that cannot be what the strongest attack leaves, and why, in their order.

    An attacker may leave the image as it is, may stop after one step, and may stop earlier: more
    freedom never leaves more accuracy. A figure is named once per reason.
    """
    known = [claim for claim in dict.fromkeys(claims) if is_figure(claim)]
    place = {claim: number for number, claim in enumerate(known)}
    found = [doubt for check in _CHECKS for doubt in check(known)]
    return tuple(sorted(found, key=lambda doubt: place[doubt[0]]))


def _above_clean(claims: Sequence[Claim]) -> Iterator[Doubt]:
    for claim, told in above_clean(claims):
        yield claim, f"More than without any attack: {told}."


def _above_one_step(claims: Sequence[Claim]) -> Iterator[Doubt]:
    for rivals in _by_row(claims):
        single = [one for one in rivals if one.attack == "fgsm"]
        for claim in rivals:
            is_iterative = claim.attack in _ITERATIVE and claim.attack_iterations != "1"
            lowest = min(map(_points, single), default=Fraction(100))
            if is_iterative and _points(claim) > lowest + ONE_STEP_MARGIN:
                yield claim, f"A single step (FGSM) leaves less: {float(lowest):.2f}."


def _above_fewer_steps(claims: Sequence[Claim]) -> Iterator[Doubt]:
    for rivals in _by_row(claims):
        for claim in rivals:
            shorter = [one for one in rivals if _is_shorter(one, claim)]
            least = min(shorter, key=_points, default=claim)
            if _points(claim) > _points(least):
                yield (
                    claim,
                    f"The same attack leaves less after {least.attack_iterations} steps: "
                    f"{least.printed}.",
                )


_CHECKS: tuple[Callable[[Sequence[Claim]], Iterator[Doubt]], ...] = (
    _above_clean,
    _above_one_step,
    _above_fewer_steps,
)


def _by_row(claims: Sequence[Claim]) -> Iterator[list[Claim]]:
    """Attacked accuracies of one model in one table, of equal knowledge and epsilon."""
    rows: dict[tuple[str, ...], list[Claim]] = defaultdict(list)
    for one in claims:
        if one.metric == "robust_accuracy":
            model = (one.source, one.place, one.defense, one.architecture, one.dataset, one.variant)
            rows[*model, one.knowledge, one.norm, one.epsilon].append(one)
    yield from rows.values()


def _is_shorter(one: Claim, other: Claim) -> bool:
    both = (one.attack_iterations, other.attack_iterations)
    is_stated = all(steps.isdecimal() for steps in both)
    return one.attack == other.attack and is_stated and int(both[0]) < int(both[1])


def _points(claim: Claim) -> Fraction:
    return Fraction(claim.printed)
