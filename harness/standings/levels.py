"""How well a number is founded: evidence levels E1 to E4 and the verdict of the diagnostics.

`protocol.md` section 4. A level says how hard somebody tried, never how good a defense is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from harness.identity import Capabilities, Finding

TITLES = {
    "D01": "Accuracy rises under attack",
    "D02": "One step beats many",
    "D03": "More iterations",
    "D04": "Black box beats white box",
    "D05": "Transfer beats white box",
    "D06": "Random noise beats gradients",
    "D07": "Unbounded attack",
    "D08": "Accuracy against epsilon",
    "D09": "Loss does not grow",
    "D10": "Zero gradient",
    "D11": "Not a number",
    "D12": "Gradient fidelity",
    "D13": "Gain of restarts",
    "D14": "Loss sensitivity",
    "D15": "Logit scale / output type",
    "D16": "Randomness",
    "D17": "Optimisation at inference",
    "D18": "Batch dependence",
    "D19": "State or label leak",
    "D20": "Adaptive gap",
    "D21": "Gate/head redundancy",
    "D22": "Minimal-norm consistency",
    "D23": "Distance histogram",
    "D24": "8-bit survival",
    "D25": "Extraordinary claim",
    "D26": "Paper vs ours",
    "I1": "Unavailable gradients",
    "I2": "Unstable predictions",
    "I3": "Silent success",
    "I4": "Incomplete optimisation",
    "I5": "Transfer failure",
    "I6": "Unconstrained failure",
}
"""What each diagnostic is called, for those who show findings without PyTorch; a test compares."""

DIAGNOSTICS = tuple(TITLES)
"""Every diagnostic; a test compares them with the registered ones."""

ADAPTIVE_ONLY = frozenset({"D20", "D25", "D26"})
"""Those that compare rows or need the adaptive protocol: E2 does not wait for them."""

EXCUSED = frozenset({"D21", "D24", "I5"})
"""Those that a model may have nothing for (no auxiliary head, images of no 8-bit grid)."""

BARRING = ("D04", "D05", "D06", "D07")
RECOMPUTED = ("D04", "D05", "D06")

MANY = 500
"""Images that are right without an attack, from which on thresholds in points need no test.

On fewer, a threshold of `IN_POINTS` counts only where the exact one-sided test at `CHANCE` on the
images that the two attacks disagree about rejects too. A test compares all three with the
diagnostics, which need PyTorch.
"""

CHANCE = 0.01

IN_POINTS: Mapping[str, tuple[float, float]] = {
    "D01": (0.5, 100.0),
    "D02": (0.5, 2.0),
    "D03": (0.5, 2.0),
    "D04": (0.2, 1.0),
    "D05": (0.3, 1.0),
    "D06": (0.0, 0.5),
    "D08": (0.3, 1.0),
    "D13": (1.0, 3.0),
    "D14": (3.0, 6.0),
    "D15": (0.5, 2.0),
    "D20": (1.0, 5.0),
    "D22": (0.3, 1.0),
    "I3": (0.0, 0.0),
}
"""Amber and red of diagnostics that compare two sets of broken images, in percentage points.

Of a value above one of them whose state is milder, the test could not tell the points from chance.
Where a diagnostic compares with several, the largest stand here: above them all of it is so.
"""

RERUN = "E4"
"""Id under which the agreement of an independent re-run is stored as a finding."""

CLOSED = {
    "changed_by_recording": "the model changes when it is watched, so its heads stay closed",
}
"""Signs of a foreign model that keep it at E1 (`attacks.md` 9.1): what decides is not exposed."""

BLACK_BOX = frozenset({"query", "decision"})


class Verdict(NamedTuple):
    """The worst state over all diagnostics, and how many are in each.

    Args:
        state: `red`, `amber`, `green`, or `not_run` where nothing was run.
        counts: diagnostics per state; what is not stored counts as `not_run`.
        reds: ids.
    """

    state: str
    counts: Mapping[str, int]
    reds: tuple[str, ...]

    def __str__(self) -> str:
        if self.reds:
            return f"{len(self.reds)} red: {', '.join(self.reds)}"
        return f"{self.counts['amber']} amber, {self.counts['not_run']} not run"


class Level(NamedTuple):
    """An evidence level and what the next one lacks.

    Args:
        name: `E1` to `E4`, or empty where no protocol is complete.
        lacking: one sentence each; empty at the highest level that can be computed.
    """

    name: str
    lacking: tuple[str, ...]


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Count the states of the known diagnostics."""
    states = {one.diagnostic: one.state for one in findings if one.diagnostic in DIAGNOSTICS}
    counts = dict.fromkeys(("red", "amber", "green", "not_run"), 0)
    for identity in DIAGNOSTICS:
        state = states.get(identity, "")
        counts[state if state in counts else "not_run"] += 1
    worst = next((s for s in ("red", "amber", "green") if counts[s]), "not_run")
    reds = tuple(identity for identity in DIAGNOSTICS if states.get(identity) == "red")
    return Verdict(worst, counts, reds)


def evidence_level(
    *,
    has_standard: bool,
    is_adaptive: bool,
    knowledge: Collection[str],
    capabilities: Capabilities,
    findings: Sequence[Finding],
    has_features: bool = True,
) -> Level:
    """The highest level whose requirements are all met.

    Args:
        has_standard: whether the standard suite is complete.
        is_adaptive: whether the adaptive protocol is.
        knowledge: kinds of all attacks that were run (`query`, `decision`, `transfer`, ...).
        capabilities: what the model exposes; some make E3 compulsory.
        findings: of the diagnostics.
        has_features: whether the feature attack (A10) was among the adaptive ones; it is left out
            where no training images are there to draw guides from.
    """
    if not has_standard:
        return Level("", ("the standard protocol is not complete",))
    states = {one.diagnostic: one for one in findings}
    lacks_second = _lacks_second(knowledge, states)
    closed = tuple(CLOSED[sign] for sign in capabilities.signs if sign in CLOSED)
    if closed:
        return Level("E1", closed)
    lacks_third = _lacks_third(is_adaptive, states)
    if is_adaptive and not has_features:
        lacks_third = (*lacks_third, "no feature attack: its training images were not there")
    if not lacks_second and not lacks_third:
        rerun = states.get(RERUN)
        if rerun is not None and rerun.state == "green":
            return Level("E4", ())
        return Level("E3", ("no independent re-run with 99.5 % agreement is stored",))
    is_compulsory = capabilities.needs_adaptive or any(
        one.state in {"amber", "red"} for one in findings
    )
    if lacks_second or is_compulsory:
        why = ("the model or a diagnostic makes the adaptive protocol compulsory",)
        return Level("E1", (*lacks_second, *(why if is_compulsory else ()), *lacks_third))
    return Level("E2", lacks_third)


def _lacks_second(knowledge: Collection[str], states: Mapping[str, Finding]) -> tuple[str, ...]:
    lacking = []
    if not BLACK_BOX & set(knowledge):
        lacking.append("no query attack")
    if "transfer" not in knowledge:
        lacking.append("no transferred attack")
    open_ = [
        identity
        for identity in DIAGNOSTICS
        if identity not in ADAPTIVE_ONLY
        and (identity not in states or states[identity].state == "not_run")
        and not (identity in EXCUSED and identity in states)
    ]
    if open_:
        lacking.append(f"diagnostics not run: {', '.join(open_)}")
    red = [i for i in BARRING if i in states and states[i].state == "red"]
    if red:
        lacking.append(f"red: {', '.join(red)}")
    return tuple(lacking)


def _lacks_third(is_adaptive: bool, states: Mapping[str, Finding]) -> tuple[str, ...]:
    lacking = [] if is_adaptive else ["the adaptive protocol is not complete"]
    stale = [i for i in RECOMPUTED if i not in states or not states[i].is_adaptive]
    if is_adaptive and stale:
        lacking.append(f"not recomputed against the adaptive union: {', '.join(stale)}")
    return tuple(lacking)
