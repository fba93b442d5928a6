"""What the site says of one standing: its row on a board, and its part of a checkpoint's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.identity import CORRECT, Failure
from harness.standings import AttackStanding, Rate, Standing
from leaderboard import charts, wording
from leaderboard.evidence import Evidence, Level, Verdict

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
class Row:
    """One line of a board. `failure` is set where a failure stands in place of the numbers.

    `judged` says how a row without a rank among the others is judged. `untested` is set where no
    adaptive protocol is complete; the row is `owed` one where its model or a diagnostic demands it.
    """

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
    level: Level
    verdict: Verdict
    evidence: str
    untested: str
    is_owed: bool
    architecture: str
    parameters: str
    scale: str
    is_small_scale: bool
    examples: str
    attacks: str
    lowered_by: str
    failure: str
    failed_attacks: str

    @classmethod
    def of(cls, standing: Standing, href: str) -> Row:
        """The row of a standing, linked to where it is told in full."""
        record = standing.checkpoint
        failure = _failure(standing)
        failures = len(standing.failures)
        gap = _gap(None if failure else standing.adaptive_gap)
        return cls(
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
            level=Level.of(standing),
            verdict=Verdict.of(standing),
            evidence=wording.evidence(standing),
            untested="" if standing.is_adaptive else wording.UNTESTED,
            is_owed=not failure and _is_owed(standing),
            architecture=record.architecture or wording.NOTHING,
            parameters=wording.count(record.parameters) if record.parameters else wording.NOTHING,
            scale=wording.scale(record),
            is_small_scale=wording.is_small_scale(record),
            examples=wording.count(standing.examples),
            attacks=wording.count(len(standing.attacks)),
            lowered_by=standing.last_lowered_by,
            failure=failure,
            failed_attacks=wording.plural(failures, "failure") if failures else "",
        )


@dataclass(frozen=True)
class Fact:
    """One line of a list of facts, with an address where it may link."""

    name: str
    text: str
    href: str = ""


@dataclass(frozen=True)
class AttackRow:
    """One attack of an evaluation, in the order of the plan."""

    number: str
    label: str
    parameters: str
    knowledge: str
    population: str
    alone: Number
    in_part: str
    after: Number
    lowered: str
    bar: tuple[charts.Strip, ...]
    sole_breaks: str
    forwards: str
    backwards: str
    queries: str
    seconds: str

    @classmethod
    def of(cls, number: int, attack: AttackStanding, before: Rate) -> AttackRow:
        """The row of one attack; `before` is the union of all attacks before it."""
        after = attack.union_after
        lost = before.count - after.count
        sole = attack.sole_breaks
        return cls(
            number=str(number),
            label=attack.label,
            parameters=_parameters(attack),
            knowledge=wording.knowledge(attack.knowledge),
            population=wording.population(attack.population),
            alone=Number.of(attack.robust),
            in_part=_in_part(attack),
            after=Number.of(after),
            lowered=f"−{wording.plural(lost, 'image')}" if lost > 0 else "",
            bar=charts.bar(after.fraction, (after.low, after.high)) if after.total else (),
            sole_breaks=wording.NOTHING if sole is None else wording.count(sole),
            forwards=wording.count(attack.forwards),
            backwards=wording.count(attack.backwards),
            queries=wording.count(attack.queries),
            seconds=f"{attack.seconds:,.1f}",
        )


@dataclass(frozen=True)
class FailureRow:
    """Why one attack ended without an outcome."""

    attack: str
    status: str
    message: str
    created: str

    @classmethod
    def of(cls, failure: Failure) -> FailureRow:
        """The row of a failure."""
        return cls(wording.attempt(failure), failure.status, failure.message, failure.created)


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint on one board."""

    anchor: str
    heading: str
    row: Row
    sentence: str
    chart: charts.Chart | None
    evidence: Evidence
    attacks: tuple[AttackRow, ...]
    cost: str
    failures: tuple[FailureRow, ...]
    command: str
    provenance: tuple[Fact, ...]

    @classmethod
    def of(cls, number: int, standing: Standing) -> Evaluation:
        """The part of a checkpoint's page about one standing, its `number`th there."""
        row = Row.of(standing, f"#{anchor(number)}")
        seed = f", seed {standing.seed}" if standing.seed else ""
        return cls(
            anchor=anchor(number),
            heading=f"{standing.dataset}, {wording.threat(standing.threat)}{seed}",
            row=row,
            sentence="" if row.failure else _sentence(standing),
            chart=None if row.failure else _chart(standing),
            evidence=Evidence.of(standing),
            attacks=tuple(_attack_rows(standing)),
            cost=_cost(standing.attacks),
            failures=tuple(FailureRow.of(failure) for failure in standing.failures),
            command=wording.reproduce(standing),
            provenance=_provenance(standing),
        )


def anchor(number: int) -> str:
    """The fragment of a checkpoint's page that holds its `number`th evaluation."""
    return f"evaluation-{number}"


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


def _sentence(standing: Standing) -> str:
    robust = standing.robust
    attacks = len(standing.attacks)
    said = f"any of the {attacks} attacks" if attacks > 1 else "the one attack"
    return (
        f"{wording.count(robust.count)} of the first {wording.count(robust.total)} test images are "
        f"right and not broken by {said} run so far."
    )


def _chart(standing: Standing) -> charts.Chart | None:
    steps = [
        charts.Step(a.label, a.union_after.fraction)
        for a in standing.attacks
        if a.union_after.total
    ]
    standard = standing.standard if standing.is_adaptive else None
    line = standard.fraction if standard is not None and standard.total else None
    return charts.falling_union(standing.clean.fraction, steps, line)


def _attack_rows(standing: Standing) -> Iterable[AttackRow]:
    before = standing.clean
    for number, attack in enumerate(standing.attacks, start=1):
        yield AttackRow.of(number, attack, before)
        before = attack.union_after


def _parameters(attack: AttackStanding) -> str:
    pairs = [f"{key}={wording.value(entry)}" for key, entry in attack.parameters.items()]
    if len(attack.seeds) > 1:
        pairs.append(f"seeds {', '.join(map(str, attack.seeds))}")
    return ", ".join(pairs)


def _in_part(attack: AttackStanding) -> str:
    """What an attack did that has no accuracy of its own, since it left right images out."""
    if attack.robust is not None:
        return ""
    where = "some images" if attack.population == CORRECT else "survivors"
    broken, attacked = wording.count(attack.broken), wording.count(attack.attacked)
    return f"on {where}: broke {broken} of {attacked}"


def _cost(attacks: Sequence[AttackStanding]) -> str:
    forwards = sum(attack.forwards for attack in attacks)
    backwards = sum(attack.backwards for attack in attacks)
    return (
        f"{wording.count(forwards)} forward and {wording.count(backwards)} backward passes "
        f"of one image, {wording.duration(sum(attack.seconds for attack in attacks))}"
    )


def _provenance(standing: Standing) -> tuple[Fact, ...]:
    images = f"the first {wording.count(standing.examples)} of the test split"
    return (
        Fact("Dataset", standing.dataset),
        Fact("Test images, SHA-256", standing.images),
        Fact("Images counted", images if standing.examples else "none"),
        Fact("Threat model", str(standing.threat)),
        Fact("Seed of the attacks", str(standing.seed)),
        Fact("Protocols complete", ", ".join(standing.protocols) or "none"),
    )
