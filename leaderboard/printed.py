"""Published figures as pages show them: the words of a claim, and why some cannot be meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.identity import Claim
from harness.standings.studies import impossible
from leaderboard import wording
from leaderboard.minus import minus

SOURCES: Mapping[str, str] = {
    "ancra_iclr": "ANCRA: asymmetric negative contrast and reverse attention, ICLR submission",
    "ancra_supp": "ANCRA: a separate supplement",
    "ancra_summary": "ANCRA: a summary by others",
    "frpat": "FRPAT: flexible relation preserving adversarial training",
    "frpat_supp": "FRPAT: the supplement",
    "he": "HE: hypersphere embedding",
}
"""The texts that the figures come from, in plain words."""

_UNITS = {"percent": "", "percentage_points": "points", "seconds": "s", "minutes": "min"}
_KNOWLEDGE = {
    "white_box": "white box",
    "adaptive": "adaptive",
    "query": "queries",
    "transfer": "transfer",
    "corruption": "corruption",
    "none": "",
    "unspecified": "not stated",
}

_NAMES = {"relative_to", "mean_of", "source_model"}
"""Settings whose values are names of defenses or attacks, which keep their underscores."""

Doubts = Mapping[Claim, tuple[str, ...]]
"""Why a figure cannot be what the strongest attack leaves, by figure."""


def doubts(claims: Iterable[Claim]) -> Doubts:
    """The reasons of every figure that has any."""
    found: dict[Claim, tuple[str, ...]] = {}
    for claim, reason in impossible(claims):
        found[claim] = (*found.get(claim, ()), reason)
    return found


def source(name: str) -> str:
    """The text in words; its id where nobody described it."""
    return SOURCES.get(name, name)


def place(name: str) -> str:
    """`Table 4`, or what stands in its place."""
    return f"Table {name}" if name.isdecimal() else name.replace("_", " ")


def plain(name: str) -> str:
    """An id as words, nothing for `none`."""
    return "" if name == "none" else name.replace("_", " ")


def attack(name: str, iterations: str) -> str:
    """`pgd, 40 steps`, or nothing for clean images."""
    words = plain(name)
    return f"{words}, {iterations} steps" if words and iterations else words


def knowledge(name: str) -> str:
    """What the text says that the attack may look at."""
    return _KNOWLEDGE.get(name, name)


def figure(digits: str, unit: str, spread: str = "") -> str:
    """The digits as printed, with the printed error and the unit unless it is percent."""
    parts = (digits, f"± {spread}" if spread else "", _UNITS.get(unit, unit))
    return minus(" ".join(part for part in parts if part))


def variant(text: str) -> str:
    """The settings of a figure in words: `relative_to=trades` is `relative to trades`."""
    return ", ".join(map(_setting, text.split(","))) if text else ""


def _setting(text: str) -> str:
    key, is_set, value = text.partition("=")
    if not is_set:
        return plain(key)
    if len(key) == 1:
        return f"{key} = {value}"
    said = value.replace("+", ", ") if key in _NAMES else plain(value) or value
    return f"{plain(key)} {said}"


@dataclass(frozen=True)
class Figure:
    """One published figure as a line of the table of all."""

    source: str
    place: str
    href: str
    dataset: str
    architecture: str
    defense: str
    metric: str
    attack: str
    knowledge: str
    epsilon: str
    variant: str
    printed: str
    doubt: str
    remarks: str

    @classmethod
    def of(cls, claim: Claim, href: str, reasons: Iterable[str]) -> Figure:
        """The line of a claim that is printed at `href`."""
        quoted = f"quoted from {claim.quoted_from}" if claim.quoted_from else ""
        return cls(
            source=claim.source,
            place=claim.place,
            href=href,
            dataset=claim.dataset,
            architecture=claim.architecture,
            defense=claim.defense,
            metric=plain(claim.metric),
            attack=attack(claim.attack, claim.attack_iterations) or wording.NOTHING,
            knowledge=knowledge(claim.knowledge) or wording.NOTHING,
            epsilon=" ".join((claim.norm, claim.epsilon)).strip() or wording.NOTHING,
            variant=variant(claim.variant),
            printed=figure(claim.printed, claim.unit, claim.spread),
            doubt=" ".join(reasons),
            remarks="; ".join(part for part in (minus(claim.note), quoted) if part),
        )
