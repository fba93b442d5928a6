"""One line of a board, ready to show: numbers, gaps, evidence, cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.identity import CheckpointRecord
from harness.standings import Rate, Standing
from harness.standings.claimed import claimed_accuracy
from harness.standings.corruptions import CorruptionStanding
from leaderboard import addresses, charts, wording
from leaderboard.evidence import Level, Verdict

AMBER, RED = 1.0, 5.0
"""Adaptive gap in percentage points above which a row is marked (protocol, section 4, rule 6)."""

_LONG = 160


@dataclass(frozen=True)
class Number:
    """A rate as a cell shows it, in percent: `52.6` and `48.2–57.0`, or a dash and nothing."""

    percent: str
    interval: str

    @classmethod
    def of(cls, rate: Rate | None) -> Number:
        """Ready to show; a rate of no images is no number."""
        return cls(wording.percent(rate), wording.interval(rate))


@dataclass(frozen=True)
class Gap:
    """What standard attacks alone would hide: points, `amber` or `red` or nothing, and in words."""

    points: str
    level: str
    words: str


@dataclass(frozen=True)
class ClaimGap:
    """What the papers claim minus what is left here, in points, and the claim in percent."""

    points: str
    claimed: str

    @classmethod
    def of(cls, standing: Standing) -> ClaimGap:
        """A dash where no paper prints a comparable figure, or nothing is measured here."""
        claimed = claimed_accuracy(standing.checkpoint, standing.dataset, standing.threat)
        if claimed is None or not standing.robust.total:
            return cls(wording.NOTHING, "")
        gap = claimed - standing.robust.fraction
        return cls(wording.signed_points(gap), f"{100 * claimed:.2f}".rstrip("0").rstrip("."))


@dataclass(frozen=True)
class Corrupted:
    """mCA of a row's checkpoint on the same test images; `origin` says where they are generated."""

    percent: str
    interval: str
    origin: str

    @classmethod
    def of(cls, standing: CorruptionStanding | None) -> Corrupted:
        """A dash where not every one of the 75 accuracies is measured."""
        if standing is None or standing.mean is None:
            return cls(wording.NOTHING, "", "")
        return cls(
            wording.mean_percent(standing.mean),
            wording.mean_interval(standing.mean),
            "" if standing.pixels == "files" else "generated",
        )


@dataclass(frozen=True)
class Cost:
    """What a row took.

    Args:
        training: for people; a dash where it is not known.
        seconds: the same as a plain number, to sort by; empty where it is not known.
        passes: forwards plus twice the backwards of all attacks, in images.
    """

    training: str
    seconds: str
    passes: str

    @classmethod
    def of(cls, standing: Standing) -> Cost:
        """Of the training as it is recorded, and of the attacks that the row shows."""
        seconds = standing.checkpoint.training.get("seconds")
        is_known = isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0
        passes = sum(one.forwards + 2 * one.backwards for one in standing.attacks)
        return cls(
            training=wording.duration(float(seconds)) if is_known and seconds else wording.NOTHING,
            seconds=f"{float(seconds):.1f}" if is_known and seconds else "",
            passes=wording.count(passes) if passes else wording.NOTHING,
        )


@dataclass(frozen=True)
class Row:
    """One line of a board. `failure` is set where a failure stands in place of the numbers.

    `judged` says how a row without a rank among the others is judged. `untested` is set where no
    adaptive protocol is complete; the row is `owed` one where its model or a diagnostic demands it.
    """

    anchor: str
    rank: str
    judged: str
    href: str
    title: str
    subtitle: str
    robust: Number
    bar: tuple[charts.Strip, ...]
    clean: Number
    standard: Number
    gap: Gap
    claim: ClaimGap
    level: Level
    verdict: Verdict
    evidence: str
    untested: str
    is_owed: bool
    architecture: str
    parameters: str
    extra_data: str
    scale: str
    is_small_scale: bool
    corrupted: Corrupted
    cost: Cost
    examples: str
    attacks: str
    lowered_by: str
    failure: str
    failed_attacks: str

    @classmethod
    def of(
        cls, standing: Standing, href: str, corruptions: CorruptionStanding | None = None
    ) -> Row:
        """The row of a standing, linked to where it is told in full."""
        record = standing.checkpoint
        failure = _failure(standing)
        failures = len(standing.failures)
        gap = _gap(None if failure else standing.adaptive_gap)
        return cls(
            anchor=addresses.row_id(record),
            rank=wording.rank(standing.rank),
            judged="judged by majority" if record.capabilities.is_random else "",
            href=href,
            title=wording.title(record),
            subtitle=record.name if wording.title(record) != record.name else "",
            robust=Number.of(None if failure else standing.robust),
            bar=() if failure else _bar(standing, gap.level),
            clean=Number.of(None if failure else standing.clean),
            standard=Number.of(None if failure else standing.standard),
            gap=gap,
            claim=ClaimGap(wording.NOTHING, "") if failure else ClaimGap.of(standing),
            level=Level.of(standing),
            verdict=Verdict.of(standing),
            evidence=wording.evidence(standing),
            untested="" if standing.is_adaptive else wording.UNTESTED,
            is_owed=not failure and _is_owed(standing),
            architecture=record.architecture or wording.NOTHING,
            parameters=wording.count(record.parameters) if record.parameters else wording.NOTHING,
            extra_data=_extra_data(record),
            scale=wording.scale(record),
            is_small_scale=wording.is_small_scale(record),
            corrupted=Corrupted.of(corruptions),
            cost=Cost.of(standing),
            examples=wording.count(standing.examples),
            attacks=wording.count(len(standing.attacks)),
            lowered_by=standing.last_lowered_by,
            failure=failure,
            failed_attacks=wording.plural(failures, "failure") if failures else "",
        )


def _extra_data(record: CheckpointRecord) -> str:
    """The harness trains on the training split alone; of an added model its card may tell."""
    if record.kind == "trained":
        return "none"
    return record.paper.get("extra_data", "") or wording.NOTHING


def _failure(standing: Standing) -> str:
    """What stands in place of the numbers, or nothing where there are numbers to show."""
    is_empty = not standing.attacks or 0 in (standing.robust.total, standing.clean.total)
    if standing.failures and (is_empty or not standing.protocols):
        first = standing.failures[0]
        said = f"{first.status}: {first.message}"
        return said if len(said) <= _LONG else f"{said[: _LONG - 1]}…"
    return "not attacked yet" if is_empty else ""


def _is_owed(standing: Standing) -> bool:
    """Whether adaptive attacks are compulsory and missing (protocol, section 4)."""
    counts = standing.verdict.counts
    is_compulsory = standing.checkpoint.capabilities.needs_adaptive or (
        counts["red"] + counts["amber"] > 0
    )
    return is_compulsory and not standing.is_adaptive


def _gap(gap: float | None) -> Gap:
    if gap is None:
        return Gap(wording.NOTHING, "", "")
    hidden = round(100 * gap, 6)  # 0.95 - 0.94 must be one point, not a hair above it
    if hidden > RED:
        return Gap(wording.points(gap), "red", "standard attacks masked")
    return Gap(wording.points(gap), "amber" if hidden > AMBER else "", "")


def _bar(standing: Standing, level: str) -> tuple[charts.Strip, ...]:
    robust, standard = standing.robust, standing.standard
    return charts.bar(
        robust.fraction,
        (robust.low, robust.high),
        clean=standing.clean.fraction,
        standard=None if standard is None or standard.total == 0 else standard.fraction,
        level=level,
    )
