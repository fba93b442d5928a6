"""How well a number is founded: its level, what the next one lacks, unions, diagnostics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.identity import Finding
from harness.standings import Standing
from harness.standings.levels import DIAGNOSTICS, RECOMPUTED, RERUN, TITLES
from leaderboard import wording

SHOWN_PROOF = 20
"""Images of a proof that are named; the rest is a number."""

_UNIONS = {
    "white_box": "White-box attacks",
    "query": "Queries, decisions and noise",
    "transfer": "Transferred attacks",
}
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
    """What is left of all attacks of one kind."""

    name: str
    percent: str
    interval: str


@dataclass(frozen=True)
class DiagnosticRow:
    """One diagnostic of a row. `colour` is empty where it was not run: that is never green."""

    id: str
    title: str
    state: str
    colour: str
    basis: str
    value: str
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
            value=wording.NOTHING if finding.value is None else f"{finding.value:.4g}",
            threshold=finding.threshold,
            note=finding.note or ("" if was_run else "no reason is stored"),
            images=wording.plural(len(finding.proof), "image") if finding.proof else "",
            proof=f"{shown}, …" if rest else shown,
        )

    @classmethod
    def missing(cls, identity: str) -> DiagnosticRow:
        """The row of a diagnostic of which nothing is stored."""
        note = "nothing is stored: it was never asked for on this row"
        return cls(identity, _title(identity), "not run", "", "", wording.NOTHING, "", note, "", "")


@dataclass(frozen=True)
class Evidence:
    """The part of an evaluation that says how hard somebody tried and what looked wrong.

    `diagnostics` is empty where none was ever run; `command` runs what is missing, if anything is.
    """

    level: Level
    lacking: tuple[str, ...]
    unions: tuple[Union, ...]
    verdict: Verdict
    diagnostics: tuple[DiagnosticRow, ...]
    summary: str
    command: str

    @classmethod
    def of(cls, standing: Standing) -> Evidence:
        """Everything that a standing knows of this."""
        return cls(
            level=Level.of(standing),
            lacking=standing.lacking,
            unions=tuple(
                Union(name, wording.percent(rate), wording.interval(rate))
                for kind, name in _UNIONS.items()
                if (rate := standing.unions.get(kind)) is not None
            ),
            verdict=Verdict.of(standing),
            diagnostics=tuple(_diagnostics(standing)),
            summary=_summary(standing),
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


def _title(identity: str) -> str:
    return "Independent re-run" if identity == RERUN else TITLES.get(identity, "")
