"""From stored bits to boards: which images a row counts, who is on a board, who is ahead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from harness.errors import HarnessError
from harness.identity import (
    CLEAN,
    CORRECT,
    EXACT,
    AttackSpec,
    CheckpointRecord,
    Failure,
    Finding,
    Plan,
)
from harness.standings.row import RANKING, Row, Scope, make_row, name_of
from harness.standings.values import Board, Rate, Standing
from harness.statistics import Counts, rank_groups, separated
from harness.store.bits import Bits
from harness.store.evidence import Evidence, Member, Search, gather
from harness.store.store import RecordedAttack, Store
from harness.threat import ThreatModel

Owner = tuple[str, str, str, ThreatModel]
_BoardKey = tuple[str, str, ThreatModel]


def boards(store: Store) -> tuple[Board, ...]:
    """Every board of the store, its rows ranked.

    A row counts the images that its most adaptive complete protocol covers, and on them every
    verified attack that is stored, of whatever protocol and seed. A checkpoint that no adaptive
    or standard protocol covers has a row without rank, below the others, and one that failed
    before anything was found has a row of no images with its failures. Corruptions are another
    threat: they have no board (`harness.standings.corruptions`).
    """
    return tuple(one.board for one in read_boards(store))


@dataclass(frozen=True)
class ReadBoard:
    """A board with the bits behind it.

    Args:
        board: what `boards` gives.
        rows: in the order of its standings, which they hold, ranks included.
    """

    board: Board
    rows: tuple[Row, ...]


def read_boards(store: Store) -> tuple[ReadBoard, ...]:
    """As `boards`, with the bits that decide: read once, they serve every comparison of rows."""
    found = (_board(rows) for rows in rows_by_board(store).values())
    return tuple(sorted(found, key=lambda one: _board_order(one.board)))


def rows_by_board(store: Store) -> dict[_BoardKey, list[Row]]:
    """Every row of the store with the bits that decide it, by test images and threat."""
    with store.snapshot():
        known = _Known.read(store)
        balls = (evidence for evidence in gather(store.slices()) if evidence.threat.is_ball)
        found = [row for evidence in balls for row in known.rows(evidence)]
    found += known.failed(row.standing for row in found)
    by_board: dict[_BoardKey, list[Row]] = defaultdict(list)
    for row in found:
        by_board[_board_of(row.standing)].append(row)
    return by_board


@dataclass(frozen=True)
class Question:
    """What somebody wants to know about one checkpoint.

    Args:
        dataset: its name in rows.
        images: SHA-256 of its test images.
        threat: norm and epsilon.
        seed: run seed.
        precision: number format of the searches.
        attacks: each with its population, in order.
        examples: how many of the first images.
    """

    dataset: str
    images: str
    threat: ThreatModel
    seed: int
    precision: str
    attacks: Sequence[tuple[AttackSpec, str]]
    examples: int

    def searches(self) -> dict[Search, AttackSpec]:
        """What the attacks are stored as; the clean images are not among them."""
        return {
            Search(spec.hash, population, self.seed, self.precision): spec
            for spec, population in self.attacks
            if spec.hash != CLEAN.hash
        }


def measure(store: Store, checkpoint: CheckpointRecord, asked: Question) -> Standing:
    """The standing under exactly these attacks (each with its population) on the first images.

    Raises:
        HarnessError: an attack or the clean images do not cover them all yet.
    """
    with store.snapshot():
        known = _Known.read(store, checkpoint, asked.images, asked.threat)
        evidence = _evidence(store, checkpoint, asked)
    searches = asked.searches()
    _check_complete(evidence, checkpoint, searches, asked.examples)
    evidence, owner = evidence.only(searches), _owner(evidence)
    scope = Scope(
        examples=asked.examples,
        seed=asked.seed,
        is_ranked=False,
        protocols=_complete(evidence, known.plans[owner], asked.examples),
        members=tuple(Member(key.attack, key.population) for key in searches),
        precision=asked.precision,
    )
    return make_row(
        evidence, checkpoint, known.attacks, known.failures[owner], scope, known.findings[owner]
    ).standing


def still_right(store: Store, checkpoint: CheckpointRecord, asked: Question) -> dict[str, Bits]:
    """Per image: right as it is (`clean`), after all attacks (`robust`), and after each (label).

    An image that a second stage did not attack counts there as it is. A label that occurs with
    a second population is followed by ` on POPULATION`.

    Raises:
        HarnessError: an attack or the clean images do not cover them all yet.
    """
    evidence = _evidence(store, checkpoint, asked)
    searches, examples = asked.searches(), asked.examples
    _check_complete(evidence, checkpoint, searches, examples)
    right = evidence.right[:examples]
    found = {"clean": right, "robust": right.copy()}
    for search, spec in searches.items():
        broken = evidence.tracks[search].broken[:examples]
        label = f"{spec.label} on {search.population}" if spec.label in found else spec.label
        found[label] = right & ~broken
        found["robust"] &= ~broken
    return found


def losses(store: Store, checkpoint: CheckpointRecord, asked: Question) -> list[int] | None:
    """How many clean-correct images each attack broke, in order; None while any is unfinished."""
    evidence = _evidence(store, checkpoint, asked)
    searches, examples = asked.searches(), asked.examples
    covered = [evidence.prefix(search) for search in searches]
    if min([evidence.clean_prefix, *covered]) < examples:
        return None
    right = evidence.right[:examples]
    return [int((right & evidence.tracks[search].broken[:examples]).sum()) for search in searches]


@dataclass(frozen=True)
class _Known:
    """What is stored besides bits."""

    checkpoints: Mapping[str, list[CheckpointRecord]]
    attacks: Mapping[str, RecordedAttack]
    plans: Mapping[Owner, list[Plan]]
    failures: Mapping[Owner, list[Failure]]
    findings: Mapping[Owner, list[Finding]]

    @classmethod
    def read(
        cls,
        store: Store,
        checkpoint: CheckpointRecord | None = None,
        images: str | None = None,
        threat: ThreatModel | None = None,
    ) -> _Known:
        """Of everything, or of one row."""
        digest = None if checkpoint is None else checkpoint.digest
        checkpoints, plans, failures = defaultdict(list), defaultdict(list), defaultdict(list)
        for record in store.checkpoints() if checkpoint is None else [checkpoint]:
            checkpoints[record.digest].append(record)
        for plan in store.plans(digest, images=images, threat=threat):
            plans[_owner(plan)].append(plan)
        for failure in store.failures(digest, images=images, threat=threat):
            failures[_owner(failure)].append(failure)
        findings = defaultdict(list)
        for finding in store.findings(digest, images=images, threat=threat):
            findings[_owner(finding)].append(finding)
        return cls(checkpoints, store.attacks(), plans, failures, findings)

    def rows(self, evidence: Evidence) -> list[Row]:
        """One row per name of the function, none where nothing can be said yet."""
        owner = _owner(evidence)
        plans = self.plans[owner]
        scope = _scope(evidence, plans, self.attacks)
        if scope.examples == 0:
            return []
        return [
            make_row(
                evidence, record, self.attacks, self.failures[owner], scope, self.findings[owner]
            )
            for record in self.checkpoints[evidence.checkpoint]
        ]

    def failed(self, rows: Iterable[Standing]) -> list[Row]:
        """A row of no images for everything that failed and has none."""
        there = {(row.checkpoint.digest, *_board_of(row)) for row in rows}
        return [
            _empty_row(record, failures)
            for owner, failures in self.failures.items()
            if owner not in there and owner[-1].is_ball
            for record in self.checkpoints[owner[0]]
        ]


def _empty_row(checkpoint: CheckpointRecord, failures: Sequence[Failure]) -> Row:
    first, nothing = failures[0], Rate(0, 0, 0.0, 1.0)
    standing = Standing(
        checkpoint=checkpoint,
        dataset=first.dataset,
        images=first.images,
        threat=first.threat,
        seed=0,
        examples=0,
        clean=nothing,
        robust=nothing,
        standard=None,
        is_adaptive=False,
        protocols=(),
        attacks=(),
        failures=tuple(failures),
    )
    return Row(standing, np.zeros(0, dtype=np.bool_), is_ranked=False)


def _owner(value: Evidence | Plan | Failure | Finding) -> Owner:
    return value.checkpoint, value.dataset, value.images, value.threat


def _evidence(store: Store, checkpoint: CheckpointRecord, asked: Question) -> Evidence:
    slices = store.slices(checkpoint=checkpoint.digest, images=asked.images, threat=asked.threat)
    for evidence in list(gather(slices)):
        if evidence.dataset == asked.dataset:
            return evidence
    return Evidence(checkpoint.digest, asked.dataset, asked.images, asked.threat, {}, 0)


def _check_complete(
    evidence: Evidence,
    checkpoint: CheckpointRecord,
    searches: Mapping[Search, AttackSpec],
    examples: int,
) -> None:
    covered = {"clean": evidence.clean_prefix}
    covered |= {spec.label: evidence.prefix(search) for search, spec in searches.items()}
    lacking = [f"{label} ({count})" for label, count in covered.items() if count < examples]
    if lacking or examples < 1:
        raise HarnessError(
            f"'{checkpoint.name}' under {evidence.threat} is not finished on the first {examples} "
            f"images of {evidence.dataset}: {len(lacking)} of {len(covered)} attacks cover fewer, "
            f"such as {', '.join(lacking[:3])}. Repeat the command: it does only what is missing."
        )


def _scope(
    evidence: Evidence, plans: Sequence[Plan], attacks: Mapping[str, RecordedAttack]
) -> Scope:
    plan, examples = _ruling(evidence, plans)
    seed, precision = (0, EXACT) if plan is None else (plan.seed, plan.precision)
    if plan is None:
        examples, seed, precision = _longest(evidence)
    planned = [plan, *plans] if plan is not None else plans
    first = None
    if plan is not None:
        first = tuple(member for member in _members(plan) if member.population == CORRECT)
    return Scope(
        examples=examples,
        seed=seed,
        is_ranked=plan is not None,
        protocols=_complete(evidence, plans, examples),
        members=_in_order(evidence, planned, attacks),
        standard=first,
        precision=precision,
    )


def _ruling(evidence: Evidence, plans: Sequence[Plan]) -> tuple[Plan | None, int]:
    """The plan that decides which images count, and how many it covers."""
    for kind in RANKING:
        reached = [
            (_reach(evidence, plan), plan) for plan in plans if name_of(plan.protocol) == kind
        ]
        examples, plan = max(reached, key=lambda pair: pair[0], default=(0, None))
        if examples:
            return plan, examples
    return None, 0


def _longest(evidence: Evidence) -> tuple[int, int, str]:
    """How many images some attack covers, its seed and precision, where no protocol is complete."""
    searches = [search for found in evidence.searches.values() for search in found]
    prefixes = [
        (evidence.prefix(search), -search.seed, search.precision == EXACT, search.precision)
        for search in searches
    ]
    examples, seed, _, precision = max(prefixes, default=(0, 0, True, EXACT))
    return min(evidence.clean_prefix, examples), -seed, precision


def _complete(evidence: Evidence, plans: Iterable[Plan], examples: int) -> tuple[str, ...]:
    return tuple(sorted({p.protocol for p in plans if _reach(evidence, p) >= examples}))


def _reach(evidence: Evidence, plan: Plan) -> int:
    """How many of the first images every attack of the plan covers, and the clean ones."""
    searches = [Search(*member, plan.seed, plan.precision) for member in _members(plan)]
    covered = [evidence.prefix(search) for search in searches]
    return min(evidence.clean_prefix, *covered) if covered else 0


def _members(plan: Plan) -> tuple[Member, ...]:
    return tuple(Member(*pair) for pair in plan.attacks if pair[0] != CLEAN.hash)


def _in_order(
    evidence: Evidence, plans: Sequence[Plan], attacks: Mapping[str, RecordedAttack]
) -> tuple[Member, ...]:
    """Stored attacks in the order of the plans, then those that no plan names."""
    planned = [member for plan in plans for member in _members(plan)]
    labels = {key: attack.spec.label for key, attack in attacks.items()}
    rest = sorted(evidence.searches, key=lambda one: (labels[one.attack], one.population))
    return tuple(one for one in dict.fromkeys([*planned, *rest]) if one in evidence.searches)


def _board(rows: Sequence[Row]) -> ReadBoard:
    ordered = sorted(rows, key=_row_order)
    ranked = [row for row in ordered if row.is_ranked]
    placed = [
        replace(row, standing=replace(row.standing, rank=rank)) for row, rank in _placed(ranked)
    ]
    placed += [row for row in ordered if not row.is_ranked]
    standings = tuple(row.standing for row in placed)
    first = standings[0]
    return ReadBoard(Board(first.dataset, first.images, first.threat, standings), tuple(placed))


def _placed(rows: Sequence[Row]) -> list[tuple[Row, tuple[int, int]]]:
    """Rows in the order shown, with the places that the tests leave open.

    Among rows that no test tells apart, one of a smaller tier of images never stands above one of
    a larger (`protocol.md` section 3).
    """
    robust, examples = stacked(rows)
    is_above = separated(robust, examples)
    order: list[int] = []
    for number in range(len(rows)):
        place = len(order)
        while place and _gives_way(order[place - 1], number, examples, is_above):
            place -= 1
        order.insert(place, number)
    groups = rank_groups(is_above[np.ix_(order, order)])
    return [(rows[number], group) for number, group in zip(order, groups, strict=True)]


def stacked(rows: Sequence[Row]) -> tuple[Bits, Counts]:
    """[R, N], right and not broken, False beyond a row's own images; [R], how many it has."""
    examples = np.array([row.standing.examples for row in rows], dtype=np.int64)
    robust = np.zeros((len(rows), max(examples, default=0)), dtype=np.bool_)
    for place, row in enumerate(rows):
        robust[place, : len(row.robust)] = row.robust
    return robust, examples


def _gives_way(above: int, row: int, examples: Counts, is_above: Bits) -> bool:
    """Whether the row above has a smaller tier and is not told apart."""
    return not is_above[above, row] and _tier(examples[above]) < _tier(examples[row])


def _tier(examples: int) -> int:
    """Smoke, quick, standard and full are 100, 500, 1,000 and 10,000 images."""
    return sum(examples >= least for least in (500, 1000, 10_000))


def _row_order(row: Row) -> tuple[float, float, str]:
    standing = row.standing
    return -standing.robust.fraction, -standing.clean.fraction, standing.checkpoint.name


def _board_of(value: Standing) -> _BoardKey:
    return value.dataset, value.images, value.threat


def _board_order(board: Board) -> tuple[str, str, str, Fraction]:
    return board.dataset, board.images, board.threat.norm, board.threat.epsilon
