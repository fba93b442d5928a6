"""Worked examples from the papers (`protocol.md` section 11), computed from the printed figures.

None of it was measured here: they show what the protocol would have said of these tables. An
example is left out where one of its figures is not among the claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.claims.recomputed import chosen
from harness.identity import Claim
from harness.standings.matching import is_figure
from harness.statistics import wilson
from leaderboard.addresses import study_page
from leaderboard.minus import minus

Claims = Sequence[Claim]

TESTED = 10_000
"""Test images of CIFAR-10, on which the papers say that they measured."""


class _MissingError(Exception):
    """A figure that an example needs is not there."""


@dataclass(frozen=True)
class Example:
    """A table of figures that follow from printed ones, and what it shows."""

    title: str
    source: str
    place: str
    lead: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shows: str

    @property
    def page(self) -> str:
        """Where the printed table is."""
        return study_page(self.source, self.place)


def examples(claims: Claims) -> Iterator[Example]:
    """Those whose figures are all there."""
    known = [claim for claim in claims if is_figure(claim)]
    for make in _EXAMPLES:
        try:
            yield make(known)
        except _MissingError:
            continue


def _weakest_counts(claims: Claims) -> Example:
    rows = []
    for base in ("pgd_at", "alp", "trades"):
        mine, theirs = f"{base}_he", base
        where = {"source": "he", "place": "2", "metric": "robust_accuracy"}
        claimed = _gain(claims, mine, theirs, attack="pgd", attack_iterations="20", **where)
        low, by = _lowest(chosen(claims, defense=theirs, **where))
        low_he, by_he = _lowest(chosen(claims, defense=mine, **where))
        rows.append(
            (
                *(base, _signed(claimed), f"{_text(low)} ({by})"),
                *(f"{_text(low_he)} ({by_he})", _signed(low_he - low)),
            )
        )
    return Example(
        title="The weakest number counts",
        source="he",
        place="2",
        lead="The text argues with PGD-20. Its own table has seven more attacks on the same "
        "models; the lowest of the eight says something else. (The lowest of several attacks, "
        "not their union: the images are not published.)",
        columns=(
            *("baseline", "gain claimed, PGD-20", "lowest, baseline", "lowest, with HE"),
            "gain of the lowest",
        ),
        rows=tuple(rows),
        shows="Cosine logits of another scale weaken the cross-entropy that PGD-20 climbs. Where "
        "an attack does not depend on that scale, most of the gain is gone. The C&W column lies "
        "within a few points of clean accuracy: that attack failed and shows nothing.",
    )


def _above_clean(claims: Claims) -> Example:
    rows = []
    for defense in ("pgd_at_ancra", "trades_ancra", "mart_ancra"):
        model = {"source": "ancra_iclr", "dataset": "cifar10", "defense": defense}
        plain = {"place": "1", "knowledge": "white_box", **model}
        adaptive = _value(claims, place="3", attack="pgd", knowledge="adaptive", **model)
        shown = (
            _value(claims, place="1", metric="clean_accuracy", **model),
            *(_value(claims, attack=name, **plain) for name in ("fgsm", "pgd", "autoattack")),
            adaptive,
        )
        rows.append((defense, *map(_text, shown), _text(min(shown[1:]))))
    return Example(
        title="Right more often under attack than without",
        source="ancra_iclr",
        place="1",
        lead="An attacker may always leave an image as it is. Accuracy under attack above clean "
        "accuracy is therefore no robustness: it says that the attack did not work.",
        columns=(
            *("defense", "clean", "FGSM", "PGD-40", "AutoAttack", "adaptive PGD-40"),
            "at most",
        ),
        rows=tuple(rows),
        shows="D01, D02 and D20 would be red for PGD-AT-ANCRA: PGD leaves more than there was, one "
        "step breaks more than forty, and the adaptive attack takes off tens of points. "
        "Adaptive AutoAttack on this network is not reported: the last column is an upper bound.",
    )


def _plain_or_adaptive(claims: Claims) -> Example:
    rows = []
    for architecture in ("wrn_28_10", "wrn_34_10"):
        where = {"source": "ancra_iclr", "place": "9", "attack": "autoattack"}
        where["architecture"] = architecture
        base = _value(claims, defense="trades", **where)
        plain = _value(claims, defense="trades_ancra", knowledge="white_box", **where)
        adaptive = _value(claims, defense="trades_ancra", knowledge="adaptive", **where)
        rows.append(
            (
                *(architecture, *map(_text, (base, plain, adaptive))),
                *(_signed(plain - base), _signed(adaptive - base)),
            )
        )
    return Example(
        title="The same attack, with and without the head that decides",
        source="ancra_iclr",
        place="9",
        lead="AutoAttack on TRADES and on TRADES-ANCRA: once as published, once told of the "
        "auxiliary outputs.",
        columns=(
            *("architecture", "TRADES", "TRADES-ANCRA, plain", "TRADES-ANCRA, adaptive"),
            *("gain, plain", "gain, adaptive"),
        ),
        rows=tuple(rows),
        shows="Some fifteen points of gain become about one. This is what the adaptive gap on a "
        "board is for.",
    )


def _nothing_fires(claims: Claims) -> Example:
    rows = []
    for base in ("pgd_at", "trades"):
        where = {"source": "frpat", "place": "1", "attack": "autoattack"}
        where["metric"] = "robust_accuracy"
        mine, theirs = (_value(claims, defense=d, **where) for d in (f"{base}_frpat", base))
        low, high = wilson(round(mine * TESTED / 100), TESTED)
        half = Fraction(high - low) * 50
        rows.append(
            (
                *(f"{base}_frpat", _text(theirs), _text(mine), _signed(mine - theirs)),
                *(f"{float(half):.2f}", f"{float((mine - theirs) / half):.1f}"),
            )
        )
    return Example(
        title="A small gain that nothing speaks against",
        source="frpat",
        place="1",
        lead="FRPAT changes training and leaves inference alone. Stronger attacks leave less in "
        "every row, as they should.",
        columns=(
            *("defense", "baseline, AutoAttack", "with FRPAT", "gain", "half an interval"),
            "gain in halves",
        ),
        rows=tuple(rows),
        shows=f"No diagnostic would fire. Whether gains of one or two half-widths of the interval "
        f"(Wilson, {TESTED:,} images) are real is for the paired test, which needs the outcome of "
        "every image.",
    )


_EXAMPLES: tuple[Callable[[Claims], Example], ...] = (
    _weakest_counts,
    _above_clean,
    _plain_or_adaptive,
    _nothing_fires,
)


def _gain(claims: Claims, mine: str, theirs: str, **where: str) -> Fraction:
    return _value(claims, defense=mine, **where) - _value(claims, defense=theirs, **where)


def _value(claims: Claims, **where: str) -> Fraction:
    found = chosen(claims, **where)
    values = {Fraction(one.printed) for one in found}
    if len(values) != 1 or not 0 <= max(values) <= 100:
        raise _MissingError
    return values.pop()


def _lowest(found: Claims) -> tuple[Fraction, str]:
    if not found:
        raise _MissingError
    lowest = min(found, key=lambda one: Fraction(one.printed))
    return Fraction(lowest.printed), lowest.attack.replace("_", " ")


def _text(value: Fraction) -> str:
    return f"{float(value):.2f}"


def _signed(value: Fraction) -> str:
    return minus(f"{float(value):+.2f}")
