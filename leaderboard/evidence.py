"""How well a number is founded: its level, what the next one lacks, unions, diagnostics."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.identity import Finding
from harness.standings import AttackStanding, Standing
from harness.standings.levels import (
    CHANCE,
    DIAGNOSTICS,
    IN_POINTS,
    MANY,
    RECOMPUTED,
    RERUN,
    TITLES,
)
from leaderboard import wording
from leaderboard.minus import minus

SHOWN_PROOF = 20
"""Images of a proof that are named; the rest is a number."""

_UNIONS = {
    "white_box": "White-box attacks",
    "query": "Queries, decisions and noise",
    "transfer": "Transferred attacks",
}
_KNOWLEDGE = {
    "white_box": ("white_box",),
    "query": ("query", "decision", "none"),
    "transfer": ("transfer",),
}
_FEWER = re.compile(r"\b(breaks?) -(\d+(?:\.\d+)?) points more\b")
_COLOURED = ("red", "amber", "green")


@dataclass(frozen=True)
class Level:
    """`E1` to `E4`, or a dash, and what that means for this row."""

    name: str
    words: str

    @classmethod
    def of(cls, standing: Standing) -> Level:
        """The level that the standings derived."""
        return cls(standing.level or wording.NOTHING, wording.level(standing))


@dataclass(frozen=True)
class Verdict:
    """How many diagnostics are in each state, empty where none is; `reds` are ids.

    `state` is the worst of them, `not run` before `green`: what was not run is never green.
    """

    state: str
    red: str
    amber: str
    not_run: str
    green: str
    reds: str

    @classmethod
    def of(cls, standing: Standing) -> Verdict:
        """Green is only said where all are."""
        counts = standing.verdict.counts
        said = {state: f"{number} {state}" if number else "" for state, number in counts.items()}
        seen = ("red", "amber", "not_run", "green")
        return cls(
            state=next(state for state in seen if counts[state]).replace("_", " "),
            red=said["red"],
            amber=said["amber"],
            not_run=said["not_run"].replace("_", " "),
            green="all green" if counts["green"] == len(DIAGNOSTICS) else "",
            reds=", ".join(standing.verdict.reds),
        )


@dataclass(frozen=True)
class Union:
    """What is left of all attacks of one kind.

    `percent` is a dash where none of them attacked every correct image: images that nobody attacked
    would be counted as not broken. `said` then says what is known.
    """

    name: str
    percent: str
    interval: str
    said: str

    @classmethod
    def of(cls, kind: str, standing: Standing) -> Union:
        """The union of a kind that the standing has."""
        rate = standing.unions[kind]
        found = [one for one in standing.attacks if one.knowledge in _KNOWLEDGE[kind]]
        if found and all(one.robust is None for one in found):
            return cls(_UNIONS[kind], wording.NOTHING, "", _in_part(found))
        return cls(_UNIONS[kind], wording.percent(rate), wording.interval(rate), "")


@dataclass(frozen=True)
class DiagnosticRow:
    """One diagnostic of a row. `colour` is empty where it was not run: that is never green.

    `chance` says why a value beyond a threshold has a milder state, where that can be told.
    """

    id: str
    title: str
    state: str
    colour: str
    basis: str
    value: str
    chance: str
    threshold: str
    note: str
    images: str
    proof: str

    @classmethod
    def of(cls, finding: Finding, *, is_adaptive: bool) -> DiagnosticRow:
        """The row of a finding; `is_adaptive` says whether the standing is by now."""
        was_run = finding.state in _COLOURED
        is_later = is_adaptive and not finding.is_adaptive
        is_stale = was_run and is_later and finding.diagnostic in RECOMPUTED
        shown = ", ".join(map(str, finding.proof[:SHOWN_PROOF]))
        rest = len(finding.proof) > SHOWN_PROOF
        return cls(
            id=finding.diagnostic,
            title=_title(finding.diagnostic),
            state=finding.state.replace("_", " "),
            colour=finding.state if was_run else "",
            basis="before the adaptive attacks" if is_stale else "",
            value=wording.NOTHING if finding.value is None else minus(f"{finding.value:.4g}"),
            chance=_chance(finding),
            threshold=finding.threshold,
            note=_note(finding.note) or ("" if was_run else "no reason is stored"),
            images=wording.plural(len(finding.proof), "image") if finding.proof else "",
            proof=f"{shown}, …" if rest else shown,
        )

    @classmethod
    def missing(cls, identity: str) -> DiagnosticRow:
        """The row of a diagnostic of which nothing is stored."""
        note = "nothing is stored: it was never asked for on this row"
        return cls(
            *(identity, _title(identity), "not run", "", ""),
            *(wording.NOTHING, "", "", note, "", ""),
        )


@dataclass(frozen=True)
class Evidence:
    """The part of an evaluation that says how hard somebody tried and what looked wrong.

    `diagnostics` is empty where none was ever run; `caution` says how few images bear on their
    thresholds; `command` runs what is missing, if anything is.
    """

    level: Level
    lacking: tuple[str, ...]
    unions: tuple[Union, ...]
    verdict: Verdict
    diagnostics: tuple[DiagnosticRow, ...]
    summary: str
    caution: str
    command: str

    @classmethod
    def of(cls, standing: Standing) -> Evidence:
        """Everything that a standing knows of this."""
        return cls(
            level=Level.of(standing),
            lacking=standing.lacking,
            unions=tuple(Union.of(kind, standing) for kind in _UNIONS if kind in standing.unions),
            verdict=Verdict.of(standing),
            diagnostics=tuple(_diagnostics(standing)),
            summary=_summary(standing),
            caution=_caution(standing),
            command=wording.diagnose(standing) if standing.verdict.counts["not_run"] else "",
        )


def _diagnostics(standing: Standing) -> Iterable[DiagnosticRow]:
    """All that are known in their order, then what else was found; nothing where nothing was."""
    if not standing.findings:
        return
    found = {finding.diagnostic: finding for finding in standing.findings}
    others = [identity for identity in found if identity not in TITLES]
    for identity in (*DIAGNOSTICS, *others):
        if identity in found:
            yield DiagnosticRow.of(found[identity], is_adaptive=standing.is_adaptive)
        else:
            yield DiagnosticRow.missing(identity)


def _summary(standing: Standing) -> str:
    counts = standing.verdict.counts
    states = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts.items())
    examples = max((finding.examples for finding in standing.findings), default=0)
    images = f", on up to {wording.plural(examples, 'image')}" if examples else ""
    return f"{len(DIAGNOSTICS)} diagnostics: {states}{images}"


def _caution(standing: Standing) -> str:
    """Where any finding rests on fewer correct images than thresholds in points stand on alone."""
    few = [
        finding
        for finding in standing.findings
        if finding.state in _COLOURED and finding.diagnostic in IN_POINTS
        if finding.examples * standing.clean.fraction < MANY
    ]
    if not few:
        return ""
    return (
        f"Where fewer than {MANY} images are right as they are, as here, a threshold in points "
        "between two attacks counts only if the exact one-sided test on the images where they "
        f"differ rejects chance at {100 * CHANCE:g} % too. So a value above its threshold "
        "can be green."
    )


def _chance(finding: Finding) -> str:
    """Empty unless the value is above a threshold in points that its state does not admit."""
    if finding.state not in {"green", "amber"} or finding.value is None:
        return ""
    amber, red = IN_POINTS.get(finding.diagnostic, (math.inf, math.inf))
    if not finding.value > (red if finding.state == "amber" else amber):
        return ""
    return f"not beyond chance on {wording.plural(finding.examples, 'image')}"


def _note(text: str) -> str:
    return minus(_FEWER.sub(r"\1 \2 points fewer", text))


def _in_part(attacks: Sequence[AttackStanding]) -> str:
    """What attacks did of which none attacked every correct image."""
    most = max(attacks, key=lambda one: one.broken)
    are_later = all(one.population.startswith("survivors:") for one in attacks)
    whom = "only survivors of an earlier stage were" if are_later else "not every correct image was"
    broken, attacked = wording.count(most.broken), wording.count(most.attacked)
    if not most.broken:
        return f"{whom} attacked: none was broken"
    return f"{whom} attacked: at most {broken} of {attacked} broken by one attack"


def _title(identity: str) -> str:
    return "Independent re-run" if identity == RERUN else TITLES.get(identity, "")
