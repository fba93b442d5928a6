"""What the site says of one standing: its row on a board, and its part of a checkpoint's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.identity import CORRECT, EXACT, Failure
from harness.standings import AttackStanding, Rate, Standing
from leaderboard import addresses, charts, wording
from leaderboard.evidence import Evidence
from leaderboard.rows import AMBER, RED, Gap, Number, Row

__all__ = ["AMBER", "RED", "AttackRow", "Evaluation", "Fact", "FailureRow", "Gap", "Number", "Row"]


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
        row = Row.of(standing, f"#{addresses.evaluation_id(number)}")
        seed = f", seed {standing.seed}" if standing.seed else ""
        return cls(
            anchor=addresses.evaluation_id(number),
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
    if attack.precisions != (EXACT,):
        pairs.append(f"precision {', '.join(attack.precisions)}")
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
