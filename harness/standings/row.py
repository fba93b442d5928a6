"""One row: a union of what attacks broke, what each of them added, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.identity import CORRECT, EXACT, AttackSpec, CheckpointRecord, Failure, Finding
from harness.standings.levels import DIAGNOSTICS, evidence_level
from harness.standings.values import AttackStanding, Rate, Standing
from harness.statistics import contributions, wilson
from harness.store.bits import Bits
from harness.store.evidence import Evidence, Member
from harness.store.store import RecordedAttack

RANKING = (
    "adaptive",
    "standard",
    "adaptive_gradient",
    "standard_gradient",
    "adaptive_quick",
    "standard_quick",
)
"""Protocols that are enough for a rank, the one that decides first; all but the first two are
reduced."""

COUNTED_ADAPTIVE = "adaptive-2"
COUNTED = frozenset({"standard-2", COUNTED_ADAPTIVE})
"""Versions that evidence levels ask for; a row of an older one keeps its rank and has no level."""

ADAPTIVE = frozenset({"adaptive", "adaptive_gradient", "adaptive_quick"})

DIAGNOSED = 1000
"""Diagnostics are about so many of the first images (`protocol.md` section 5), or all of a row."""

_TRANSFERRED = ("surrogate(", "stripped")


@dataclass(frozen=True)
class Scope:
    """Which images a row counts, and why.

    Args:
        examples: how many of the first images.
        seed: of the protocol that covers them.
        precision: of the same.
        is_ranked: whether that protocol is good enough for a rank.
        protocols: all protocols that are complete on these images.
        members: the attacks to show, in order; the clean images are not among them.
        standard: the first stage of the protocol that covers them; None where none does.
    """

    examples: int
    seed: int
    is_ranked: bool
    protocols: tuple[str, ...]
    members: tuple[Member, ...]
    standard: tuple[Member, ...] | None = None
    precision: str = EXACT


@dataclass(frozen=True)
class Row:
    """A standing that still lacks its rank, with the bits that decide it."""

    standing: Standing
    robust: Bits
    is_ranked: bool


@dataclass(frozen=True)
class _Effect:
    """What one attack did, on the images of the row; `robust` is left of all attacks up to it."""

    member: Member
    spec: AttackSpec
    knowledge: str
    attacked: Bits
    broken: Bits
    robust: Bits
    alone: int


def make_row(
    evidence: Evidence,
    checkpoint: CheckpointRecord,
    specs: Mapping[str, RecordedAttack],
    failures: Sequence[Failure],
    scope: Scope,
    findings: Sequence[Finding] = (),
) -> Row:
    """Derive a row; the evidence must cover its images.

    A random model has no rank among the others: its decision is a majority (`attacks.md` 10).
    """
    right = evidence.right[: scope.examples]
    effects = _effects(evidence, specs, right, scope)
    names = {name_of(protocol) for protocol in scope.protocols}
    level = evidence_level(
        has_standard=not COUNTED.isdisjoint(scope.protocols),
        is_adaptive=COUNTED_ADAPTIVE in scope.protocols,
        knowledge={e.knowledge for e in effects if _is_complete(evidence, e.member, scope)},
        capabilities=checkpoint.capabilities,
        findings=[one for one in findings if _is_large_enough(one, scope)],
        has_features=any(effect.spec.attack == "feature_attack" for effect in effects),
    )
    robust = effects[-1].robust if effects else right
    attacks = tuple(_attack_standing(evidence, effect, right) for effect in effects)
    standing = Standing(
        checkpoint=checkpoint,
        dataset=evidence.dataset,
        images=evidence.images,
        threat=evidence.threat,
        seed=scope.seed,
        precision=scope.precision,
        examples=scope.examples,
        clean=_rate(right),
        robust=_rate(robust),
        standard=_standard(effects, right, scope.standard),
        is_adaptive=not names.isdisjoint(ADAPTIVE),
        protocols=scope.protocols,
        attacks=attacks,
        last_lowered_by=_last_lowered_by(attacks, int(right.sum())),
        failures=tuple(failures),
        level=level.name,
        lacking=level.lacking,
        findings=tuple(sorted(findings, key=lambda one: one.diagnostic)),
        unions=_unions(effects, right),
    )
    is_ranked = scope.is_ranked and not checkpoint.capabilities.is_random
    return Row(standing, robust, is_ranked)


def _effects(
    evidence: Evidence, specs: Mapping[str, RecordedAttack], right: Bits, scope: Scope
) -> list[_Effect]:
    broken = np.zeros((len(scope.members), len(right)), dtype=np.bool_)
    for place, member in enumerate(scope.members):
        broken[place] = evidence.broken(member)[: scope.examples]
    robust, alone = contributions(right, broken)
    return [
        _Effect(
            member,
            specs[member.attack].spec,
            _knowledge(specs[member.attack]),
            evidence.attacked(member)[: scope.examples],
            broken[place],
            robust[place],
            int(alone[place]),
        )
        for place, member in enumerate(scope.members)
    ]


def _is_complete(evidence: Evidence, member: Member, scope: Scope) -> bool:
    """Whether one search of it covers every image of the row: a few images found no level."""
    return any(evidence.prefix(key) >= scope.examples for key in evidence.searches[member])


def _is_large_enough(finding: Finding, scope: Scope) -> bool:
    """Whether it looked at as many images as the row, or as diagnostics are defined for."""
    is_diagnostic = finding.diagnostic in DIAGNOSTICS
    return not is_diagnostic or finding.examples >= min(scope.examples, DIAGNOSED)


def _attack_standing(evidence: Evidence, effect: _Effect, right: Bits) -> AttackStanding:
    spec, saw_all = effect.spec, _saw_all(effect, right)
    totals = evidence.totals(effect.member, len(right))
    return AttackStanding(
        label=spec.label,
        attack=spec.attack,
        surface=spec.surface,
        loss=spec.loss,
        parameters=dict(spec.parameters),
        population=effect.member.population,
        attacked=int(effect.attacked.sum()),
        broken=int((right & effect.broken).sum()),
        robust=_rate(right & ~effect.broken) if saw_all else None,
        union_after=_rate(effect.robust),
        sole_breaks=effect.alone if saw_all else None,
        forwards=totals.forwards,
        backwards=totals.backwards,
        queries=totals.queries,
        seconds=totals.seconds,
        knowledge=effect.knowledge,
        seeds=tuple(sorted({key.seed for key in evidence.searches[effect.member]})),
        precisions=tuple(sorted({key.precision for key in evidence.searches[effect.member]})),
    )


def _standard(
    effects: Sequence[_Effect], right: Bits, suite: Sequence[Member] | None
) -> Rate | None:
    """The union of the standard suite, or of all attacks on the logits where there is no suite.

    What else was run on every right image (queries, attacks chosen by hand) is not standard, nor
    is what later stages add on the survivors: both would hide a part of the adaptive gap.
    """
    chosen = [
        effect
        for effect in effects
        if effect.spec.surface == "logits"
        and effect.member.population == CORRECT
        and (suite is None or effect.member in suite)
    ]
    if not any(_saw_all(effect, right) for effect in chosen):
        return None
    union = right.copy()
    for effect in chosen:
        union &= ~effect.broken
    return _rate(union)


def _last_lowered_by(attacks: Sequence[AttackStanding], before: int) -> str:
    """The second-stage attack that lowered the union most; if none did, the one with most to it.

    In the first stage every attack saw the same images, so sole breaks tell the attacks apart
    and the order does not; a second stage never sees what the first one broke.
    """
    drops = [
        (earlier - line.union_after.count, line)
        for earlier, line in zip(
            [before, *(line.union_after.count for line in attacks)], attacks, strict=False
        )
    ]
    second = [drop for drop in drops if drop[0] > 0 and drop[1].population != CORRECT]
    if second:
        return max(second, key=lambda drop: drop[0])[1].label
    strongest = max(attacks, key=lambda line: line.sole_breaks or 0, default=None)
    if strongest is not None and strongest.sole_breaks:
        return strongest.label
    return next((line.label for drop, line in reversed(drops) if drop > 0), "")


def _knowledge(attack: RecordedAttack) -> str:
    if attack.spec.surface.startswith(_TRANSFERRED):
        return "transfer"
    return attack.description.get("knowledge", "")


def _unions(effects: Sequence[_Effect], right: Bits) -> dict[str, Rate]:
    """What is left of all attacks of one kind."""
    kinds = {
        "white_box": {"white_box"},
        "query": {"query", "decision", "none"},
        "transfer": {"transfer"},
    }
    found = {}
    for name, knowledge in kinds.items():
        chosen = [effect.broken for effect in effects if effect.knowledge in knowledge]
        if chosen:
            found[name] = _rate(right & ~np.logical_or.reduce(chosen))
    return found


def name_of(protocol: str) -> str:
    """`adaptive` of the key `adaptive-2`."""
    return protocol.rpartition("-")[0]


def _saw_all(effect: _Effect, right: Bits) -> bool:
    return not (right & ~effect.attacked).any()


def _rate(bits: Bits) -> Rate:
    count, total = int(bits.sum()), len(bits)
    return Rate(count, total, *wilson(count, total))
