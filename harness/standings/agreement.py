"""Whether an independent re-run found the same: what evidence level E4 asks for.

`protocol.md` sections 4 and 7: per-image agreement of at least 99.5 % over every attack of the
adaptive protocol, found by other runs than ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.identity import CLEAN, CheckpointRecord, Finding, Plan
from harness.standings.levels import RERUN
from harness.store.evidence import Evidence, Search, gather
from harness.store.store import Store
from harness.threat import ThreatModel

ENOUGH = 0.995


@dataclass(frozen=True)
class Agreement:
    """One checkpoint under one threat model in two databases.

    Args:
        checkpoint: as stored here.
        dataset, images, threat, seed: of the row.
        examples: images that the adaptive protocol covers here.
        lacking: attacks of that protocol that the other database does not cover.
        shared_runs: runs that both databases hold: a copy is no re-run.
        pairs: (attack, image) pairs compared, the clean images among them.
        equal: of these with the same bits.
        differing: images on which the two unions differ.
    """

    checkpoint: CheckpointRecord
    dataset: str
    images: str
    threat: ThreatModel
    seed: int
    examples: int
    lacking: int
    shared_runs: int
    pairs: int
    equal: int
    differing: tuple[int, ...]

    @property
    def share(self) -> float:
        """Of pairs with the same bits, or of images in the same union if that is less."""
        if self.pairs == 0:
            return 0.0
        return min(self.equal / self.pairs, 1 - len(self.differing) / max(1, self.examples))

    @property
    def is_enough(self) -> bool:
        """Whether it makes the row E4."""
        return self.lacking == 0 and self.shared_runs == 0 and self.share >= ENOUGH

    def finding(self) -> Finding:
        """What the store keeps of it."""
        return Finding(
            checkpoint=self.checkpoint.digest,
            dataset=self.dataset,
            images=self.images,
            threat=self.threat,
            seed=self.seed,
            examples=self.examples,
            diagnostic=RERUN,
            state="green" if self.is_enough else "red",
            value=100 * self.share,
            threshold="at least 99.5 % of (attack, image) pairs and of images agree",
            proof=self.differing,
            note=self.sentence(),
            is_adaptive=True,
        )

    def sentence(self) -> str:
        """For people."""
        if self.shared_runs:
            return f"the two databases share {self.shared_runs} runs: a copy is no re-run."
        if self.lacking:
            return f"{self.lacking} attacks of the adaptive protocol are not in the other database."
        return (
            f"{self.equal} of {self.pairs} (attack, image) pairs agree; the unions differ on "
            f"{len(self.differing)} of {self.examples} images."
        )


def agreements(ours: Store, theirs: Store) -> Iterator[Agreement]:
    """Every row of ours with a complete adaptive protocol whose checkpoint is in both."""
    records = {record.digest: record for record in ours.checkpoints()}
    known = {record.digest for record in theirs.checkpoints()}
    others = {_board(one): one for one in gather(theirs.slices())}
    for evidence in gather(ours.slices()):
        if evidence.checkpoint not in known or _board(evidence) not in others:
            continue
        plan = _widest(evidence, ours)
        if plan is not None:
            shared = ours.run_ids(plan.checkpoint) & theirs.run_ids(plan.checkpoint)
            record = records[evidence.checkpoint]
            yield _compare(record, evidence, others[_board(evidence)], plan, len(shared))


def _widest(evidence: Evidence, store: Store) -> Plan | None:
    """The adaptive plan that covers most images, of equals the latest."""
    plans = store.plans(evidence.checkpoint, images=evidence.images, threat=evidence.threat)
    complete = [
        plan
        for plan in reversed(plans)
        if plan.protocol.rpartition("-")[0] == "adaptive"
        and plan.dataset == evidence.dataset
        and _reach(evidence, plan)
    ]
    return max(complete, key=lambda plan: _reach(evidence, plan), default=None)


def _compare(
    record: CheckpointRecord, mine: Evidence, other: Evidence, plan: Plan, shared: int
) -> Agreement:
    examples = _reach(mine, plan)
    unions = np.zeros((2, examples), dtype=np.bool_)
    pairs, equal, lacking = 0, 0, 0
    for search in _searches(mine, plan):
        if other.prefix(search) < examples:
            lacking += 1
            continue
        first, second = (one.tracks[search] for one in (mine, other))
        both = first.attacked[:examples] & second.attacked[:examples]
        bits = [first.broken[:examples], second.broken[:examples]]
        pairs += int(both.sum())
        equal += int((both & (bits[0] == bits[1])).sum())
        unions |= np.stack(bits)
    differing = tuple(np.flatnonzero(unions[0] != unions[1]).tolist())
    return Agreement(
        checkpoint=record,
        dataset=mine.dataset,
        images=mine.images,
        threat=mine.threat,
        seed=plan.seed,
        examples=examples,
        lacking=lacking,
        shared_runs=shared,
        pairs=pairs,
        equal=equal,
        differing=differing,
    )


def _searches(evidence: Evidence, plan: Plan) -> list[Search]:
    """Those of the plan, and of the clean images."""
    clean = [
        key
        for key in evidence.tracks
        if key.attack == CLEAN.hash and key[2:] == (plan.seed, plan.precision)
    ]
    return [*clean, *(Search(*pair, plan.seed, plan.precision) for pair in plan.attacks)]


def _reach(evidence: Evidence, plan: Plan) -> int:
    return min((evidence.prefix(search) for search in _searches(evidence, plan)), default=0)


def _board(evidence: Evidence) -> tuple[str, str, str, ThreatModel]:
    return evidence.checkpoint, evidence.dataset, evidence.images, evidence.threat
