"""Printed figures that follow from other printed figures, computed again from those.

Each check yields the claims that disagree and what the others give. Fractions are exact, so a
difference is one in print and never one of floating point.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from statistics import mean
from types import MappingProxyType

from harness.claims.expected import REPEATS, Repeat
from harness.errors import HarnessError
from harness.identity import Claim

Claims = Sequence[Claim]
Disagreement = tuple[Claim, str]

_ROUNDED = Fraction("0.005")
"""Half of the last printed digit."""

_CUT = Fraction("0.015")
"""Some entries of HE, table 5, are cut instead of rounded."""

_SUBJECT = (
    "dataset",
    "architecture",
    "defense",
    "metric",
    "attack",
    "attack_iterations",
    "knowledge",
)
"""What a figure is about, wherever it is printed."""


def attack_means(claims: Claims) -> Iterator[Disagreement]:
    """Means over four attacks (ANCRA, table 1)."""
    for claim in chosen(claims, metric="mean_robust_accuracy"):
        model = {name: getattr(claim, name) for name in ("dataset", "architecture", "defense")}
        attacks = chosen(
            claims, source=claim.source, place=claim.place, metric="robust_accuracy", **model
        )
        yield from _differing(claim, mean(_number(one) for one in attacks), _ROUNDED)


def gains(claims: Claims) -> Iterator[Disagreement]:
    """Differences that are printed beside a figure (FRPAT, tables 1 and 2)."""
    for claim in claims:
        if not claim.metric.endswith("_gain"):
            continue
        there = {
            "source": claim.source,
            "place": claim.place,
            "dataset": claim.dataset,
            "metric": claim.metric.removesuffix("_gain"),
            "attack": claim.attack,
        }
        reference = claim.variant.removeprefix("relative_to=")
        after = the_one(claims, defense=claim.defense, **there)
        before = the_one(claims, defense=reference, **there)
        yield from _differing(claim, after - before, _ROUNDED)


def overfitting_gaps(claims: Claims) -> Iterator[Disagreement]:
    """Best minus last epoch (FRPAT, supplement, tables 4 and 5; best: tables 1 and 2)."""
    best_in = {"4": "1", "5": "2"}
    for claim in chosen(claims, metric="robust_overfitting_gap"):
        there = {"dataset": claim.dataset, "defense": claim.defense, "attack": claim.attack}
        there["metric"] = "robust_accuracy"
        best = the_one(claims, source="frpat", place=best_in[claim.place], **there)
        last = the_one(claims, source=claim.source, place=claim.place, **there)
        yield from _differing(claim, best - last, _ROUNDED)


def corruption_means(claims: Claims) -> Iterator[Disagreement]:
    """Means over severities and corruptions (HE, table 5, from tables 11 and 12).

    A cell that is blank in the detail takes its corruption's mean from table 5, and that mean
    is not checked.
    """
    for place in ("11", "12"):
        for defense in sorted({c.defense for c in chosen(claims, source="he", place=place)}):
            detail = chosen(claims, source="he", place=place, defense=defense)
            (dataset,) = {one.dataset for one in detail}
            printed = chosen(claims, source="he", place="5", dataset=dataset, defense=defense)
            yield from _corruption_means(detail, printed)


def _corruption_means(detail: Claims, printed: Claims) -> Iterator[Disagreement]:
    levels: dict[str, list[Fraction]] = defaultdict(list)
    for one in detail:
        levels[one.attack].append(_number(one))
    blank = {attack for attack, found in levels.items() if len(found) < 5}
    means = {attack: mean(found) for attack, found in levels.items()}
    means |= {attack: the_one(printed, attack=attack) for attack in blank}
    overall = mean(means.values())
    for claim in printed:
        if claim.attack not in blank:
            yield from _differing(claim, means.get(claim.attack, overall), _CUT)


def above_clean(claims: Claims) -> Iterator[Disagreement]:
    """Robust accuracy above clean accuracy: an attacker may leave the image as it is.

    The clean figure is that of the same row where there is one, else of the same table, else of
    the same text.
    """
    clean: dict[tuple[str, ...], list[Claim]] = defaultdict(list)
    for one in chosen(claims, metric="clean_accuracy"):
        clean[_model(one)].append(one)
    for claim in chosen(claims, metric="robust_accuracy"):
        same = clean[_model(claim)]
        here = [one for one in same if one.place == claim.place]
        row = [one for one in here if one.variant == claim.variant]
        nearest = row or here or same
        if nearest and _number(claim) > (highest := max(map(_number, nearest))):
            yield claim, f"clean accuracy is {float(highest):g}"


def repeats(claims: Claims) -> Iterator[Disagreement]:
    """Figures that are printed in two tables."""
    for pair in REPEATS:
        yield from _repeated(claims, pair)


def _repeated(claims: Claims, pair: Repeat) -> Iterator[Disagreement]:
    first = {_subject(one): one for one in _of(claims, pair.first)}
    shared = 0
    for claim in _of(claims, pair.again):
        if pair.variant not in {"", claim.variant}:
            continue
        meant = replace(claim, defense=pair.of or claim.defense)
        other = first.get(_subject(meant))
        if other is not None:
            shared += 1
            yield from _differing(claim, _number(other), Fraction(0))
    if shared != pair.shared:
        raise HarnessError(
            f"{' '.join(pair.first)} and {' '.join(pair.again)} share {shared} figures, "
            f"expected {pair.shared}."
        )


RECOMPUTED: Mapping[str, Callable[[Claims], Iterator[Disagreement]]] = MappingProxyType(
    {
        "mean over attacks": attack_means,
        "gain": gains,
        "overfitting gap": overfitting_gaps,
        "mean over corruptions": corruption_means,
        "above clean accuracy": above_clean,
        "printed twice": repeats,
    }
)
"""Every check by its name in `expected.CONTRADICTIONS`."""


def chosen(claims: Claims, **where: str) -> list[Claim]:
    """The claims whose fields have these values."""
    return [c for c in claims if all(getattr(c, name) == value for name, value in where.items())]


def the_one(claims: Claims, **where: str) -> Fraction:
    """The figure of these fields.

    Raises:
        HarnessError: none is there, or several that differ.
    """
    found = {_number(one) for one in chosen(claims, **where)}
    if len(found) != 1:
        raise HarnessError(
            f"{len(found)} figures instead of one for {' '.join(where.values())}: another figure "
            "is computed from it."
        )
    return found.pop()


def _of(claims: Claims, where: tuple[str, str]) -> list[Claim]:
    return chosen(claims, source=where[0], place=where[1])


def _differing(claim: Claim, computed: Fraction, tolerance: Fraction) -> Iterator[Disagreement]:
    if abs(_number(claim) - computed) > tolerance:
        yield claim, f"the others give {float(computed):.2f}"


def _number(claim: Claim) -> Fraction:
    return Fraction(claim.printed)


def _model(claim: Claim) -> tuple[str, ...]:
    return (claim.source, claim.dataset, claim.architecture, claim.defense)


def _subject(claim: Claim) -> tuple[str, ...]:
    return tuple(getattr(claim, name) for name in _SUBJECT)
