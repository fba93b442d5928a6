"""What every file of published figures must hold before it becomes part of the package."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from harness.claims.expected import ALLOWED, CONTRADICTIONS, COUNTS, RANGES, UNITS
from harness.claims.recomputed import RECOMPUTED
from harness.claims.table import KEY, key
from harness.identity import Claim

Claims = Sequence[Claim]

_NAME = re.compile(r"[a-z0-9_]+")
_PATTERNS = {
    **dict.fromkeys(("source", "dataset", "architecture", "defense", "metric", "attack"), _NAME),
    "attack_iterations": re.compile(r"\d*"),
    "printed": re.compile(r"\d+(\.\d+)?"),
    "spread": re.compile(r"(\d+(\.\d+)?)?"),
}
_UNATTACKED = frozenset(
    {
        "clean_accuracy",
        "relationship_score_clean",
        "clean_accuracy_gain",
        "relationship_score_clean_gain",
        "train_seconds_per_epoch",
        "train_minutes",
    }
)
_CORRUPTED = frozenset({"corruption_accuracy", "mean_corruption_accuracy"})


def problems(claims: Claims) -> list[str]:
    """Everything that is wrong with these claims, one sentence each; recomputed only if none is.

    Raises:
        HarnessError: a figure is missing that another is computed from.
    """
    found = [problem for claim in claims for problem in _of_one(claim)]
    found += [*_repeated_keys(claims), *_counts(claims)]
    return found or [*_contradictions(claims)]


def label(claim: Claim) -> str:
    """A claim in words, as `expected.CONTRADICTIONS` names it."""
    told = (
        *(claim.source, claim.place, claim.dataset, claim.defense, claim.metric),
        *(word for word in (claim.attack, claim.knowledge) if word != "none"),
        claim.variant,
    )
    return " ".join(word for word in told if word)


def _of_one(claim: Claim) -> Iterator[str]:
    for name, value in vars(claim).items():
        if value != value.strip() or any(ord(character) < 32 for character in value):
            yield f"{label(claim)}: {name} '{value}' has stray spaces or control characters."
        if name in ALLOWED and value not in ALLOWED[name]:
            yield f"{label(claim)}: {name} may not be '{value}'."
        if name in _PATTERNS and _PATTERNS[name].fullmatch(value) is None:
            yield f"{label(claim)}: {name} is malformed: '{value}'."
    if claim.unit != UNITS.get(claim.metric, claim.unit):
        yield f"{label(claim)}: {claim.metric} is in {UNITS[claim.metric]}, not {claim.unit}."
    if claim.unit in RANGES and _PATTERNS["printed"].fullmatch(claim.printed):
        low, high = RANGES[claim.unit]
        if not low <= claim.value <= high:
            yield f"{label(claim)}: {claim.printed} is not from {low} to {high} {claim.unit}."
    yield from _attack_of(claim)


def _attack_of(claim: Claim) -> Iterator[str]:
    """What is measured without an attack names none, and only that."""
    stated = (claim.attack_iterations, claim.epsilon, claim.norm)
    has_none = (claim.attack, claim.knowledge) == ("none", "none") and not any(stated)
    if has_none != (claim.metric in _UNATTACKED):
        yield f"{label(claim)}: the attack does not fit the metric."
    of_metric, of_dataset = claim.metric in _CORRUPTED, claim.dataset.endswith("_c")
    if not of_metric == of_dataset == (claim.knowledge == "corruption"):
        yield f"{label(claim)}: corrupted images, their metric and their dataset go together."


def _repeated_keys(claims: Claims) -> Iterator[str]:
    for found, times in Counter(map(key, claims)).items():
        if times > 1:
            yield f"{times} claims have the same {', '.join(KEY)}: {' '.join(found)}."


def _counts(claims: Claims) -> Iterator[str]:
    expected = {(source, place): n for source, of in COUNTS.items() for place, n in of.items()}
    found = Counter((claim.source, claim.place) for claim in claims)
    for where in sorted(expected.keys() | found.keys()):
        if found[where] != expected.get(where, 0):
            yield f"{' '.join(where)} has {found[where]} figures, not {expected.get(where, 0)}."


def _contradictions(claims: Claims) -> Iterator[str]:
    for name, recompute in RECOMPUTED.items():
        found = {label(claim): (claim.printed, told) for claim, told in recompute(claims)}
        for who in sorted(found.keys() - CONTRADICTIONS[name]):
            printed, told = found[who]
            yield f"{name}: {who} prints {printed}, {told}."
        for who in sorted(CONTRADICTIONS[name] - found.keys()):
            yield f"{name}: {who} no longer disagrees: figures stay as printed."
