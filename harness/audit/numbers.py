"""Every derived number of every row, computed anew from the bits and compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from harness.audit.bits import (
    Attack,
    Bits,
    Found,
    Owner,
    gathered,
    interval,
    kind_of,
    ruling,
    standard_left,
)
from harness.corruptions import MAIN
from harness.identity import Plan
from harness.standings import AttackStanding, Board, Rate, Standing
from harness.standings.corruptions import CorruptionStanding
from harness.store.rows import RecordedAttack
from harness.store.store import Store
from harness.threat import format_fraction

_CLOSE = 1e-9


def number_problems(
    store: Store, boards: Sequence[Board], corruptions: Sequence[CorruptionStanding] = ()
) -> list[str]:
    """One sentence per number that the bits do not give, and per row that they would.

    Args:
        store: the bits.
        boards: what `harness.standings` derived from them.
        corruptions: what it derived of corrupted images.
    """
    with store.snapshot():
        plans: dict[Owner, list[Plan]] = defaultdict(list)
        for planned in store.plans():
            plans[_owner(planned)].append(planned)
        attacks, found = store.attacks(), gathered(store.slices())
        names: dict[str, list[str]] = defaultdict(list)
        for record in store.checkpoints():
            names[record.digest].append(record.name)
    rows = {
        (_owner(row, row.checkpoint.digest), row.checkpoint.name): row
        for board in boards
        for row in board.standings
    }
    problems = []
    for owner, evidence in found.items():
        plan, examples = ruling(evidence, plans.get(owner, []))
        if not owner.norm.startswith(("linf", "l2")) or examples == 0:
            continue
        for name in names[owner.checkpoint]:
            row = rows.get((owner, name))
            if row is None:
                problems.append(f"{_title(owner, name)}: its row is missing")
                continue
            truth = _Row(evidence, plan, examples, attacks)
            problems += [f"{_title(owner, name)}: {said}" for said in truth.problems(row)]
    for standing in corruptions:
        problems += _corruption_problems(found, attacks, standing)
    return problems


class _Row:
    """One row as the bits have it."""

    def __init__(
        self,
        found: Found,
        plan: Plan | None,
        examples: int,
        attacks: Mapping[str, RecordedAttack],
    ) -> None:
        self._found = found
        self._plan = plan
        self._examples = examples
        self._attacks = attacks

    def problems(self, row: Standing) -> Iterator[str]:
        """What the row says that the bits do not."""
        if row.examples != self._examples:
            yield f"it counts {row.examples} images, the bits {self._examples}"
            return
        right = self._found.right(self._examples)
        yield from self._rate("clean accuracy", row.clean, int(right.sum()))
        parts = {
            attack: self._found.part(attack, self._examples) for attack in self._found.attacks()
        }
        left = right.copy()
        for part in parts.values():
            left &= part.left
        yield from self._rate("robust accuracy", row.robust, int(left.sum()))
        standard = standard_left(self._found, self._plan, self._attacks, self._examples)
        yield from self._rate("standard accuracy", row.standard, standard)
        if row.is_adaptive and standard is not None and row.adaptive_gap is not None:
            gap = (standard - int(left.sum())) / self._examples
            if abs(gap - row.adaptive_gap) > _CLOSE:
                yield f"adaptive gap is {row.adaptive_gap:.6g}, the bits give {gap:.6g}"
        yield from self._attack_problems(row)
        yield from self._union_problems(row)

    def _attack_problems(self, row: Standing) -> Iterator[str]:
        left = self._found.right(self._examples)
        missing = self._by_label()
        for line in row.attacks:
            attack = missing.pop((line.label, line.population), None)
            if attack is None:
                yield f"{line.label}: no outcome is stored of it"
                continue
            part = self._found.part(attack, self._examples)
            left &= part.left
            yield from self._line_problems(line, attack, int(left.sum()))
        for label, _ in missing:
            yield f"{label}: it is stored, but the row leaves it out"

    def _by_label(self) -> dict[tuple[str, str], Attack]:
        return {
            (self._attacks[attack.hash].spec.label, attack.population): attack
            for attack in self._found.attacks()
        }

    def _line_problems(self, line: AttackStanding, attack: Attack, after: int) -> Iterator[str]:
        part = self._found.part(attack, self._examples)
        yield from self._rate(f"{line.label}: accuracy", line.robust, part.alone)
        yield from self._rate(f"{line.label}: accuracy so far", line.union_after, after)
        for what, said, counted in (
            ("attacked", line.attacked, part.attacked),
            ("broken", line.broken, part.broken),
            ("sole breaks", line.sole_breaks, part.sole),
        ):
            if said != counted:
                yield f"{line.label}: {what} is {said}, the bits give {counted}"

    def _union_problems(self, row: Standing) -> Iterator[str]:
        left: dict[str, Bits] = {}
        for attack in self._found.attacks():
            kind = kind_of(self._attacks[attack.hash])
            part = self._found.part(attack, self._examples)
            left[kind] = left.get(kind, self._found.right(self._examples)) & part.left
        for kind in ("white_box", "query", "transfer"):
            count = int(left[kind].sum()) if kind in left else None
            yield from self._rate(f"union of {kind}", row.unions.get(kind), count)

    def _rate(self, what: str, rate: Rate | None, count: int | None) -> Iterator[str]:
        said = None if rate is None else (rate.count, rate.total)
        counted = None if count is None else (count, self._examples)
        if said != counted:
            yield f"{what} is {_of(said)}, the bits give {_of(counted)}"
        elif rate is not None and count is not None:
            low, high = interval(count, self._examples)
            share = count / self._examples
            if abs(rate.fraction - share) > _CLOSE:
                yield f"{what} is {rate.fraction:.6g}, the bits give {share:.6g}"
            if abs(rate.low - low) > _CLOSE or abs(rate.high - high) > _CLOSE:
                yield (
                    f"{what}: its interval is {rate.low:.6g} to {rate.high:.6g}, the bits give "
                    f"{low:.6g} to {high:.6g}"
                )


def _corruption_problems(
    found: Mapping[Owner, Found],
    attacks: Mapping[str, RecordedAttack],
    standing: CorruptionStanding,
) -> Iterator[str]:
    """Each accuracy on corrupted images, and their mean over the main ones."""
    name, main = standing.checkpoint.name, {one.name for one in MAIN}
    counted = []
    for cell, rate in standing.cells.items():
        known = _cells(found, attacks, standing, cell.corruption, str(cell.severity))
        matching = [
            bits for bits in known if (int(bits.sum()), len(bits)) == (rate.count, rate.total)
        ]
        if not matching:
            yield (
                f"{name}: {cell.corruption} at severity {cell.severity} is "
                f"{_of((rate.count, rate.total))}, which no stored bits give"
            )
        elif cell.corruption in main:
            counted.append(matching[0])
    if standing.mean is not None and len(counted) == standing.mean.cells:
        examples = min(len(bits) for bits in counted)
        mean = sum(int(bits[:examples].sum()) for bits in counted) / (examples * len(counted))
        if abs(mean - standing.mean.fraction) > _CLOSE:
            yield f"{name}: mCA is {standing.mean.fraction:.6g}, the bits give {mean:.6g}"


def _cells(
    found: Mapping[Owner, Found],
    attacks: Mapping[str, RecordedAttack],
    standing: CorruptionStanding,
    corruption: str,
    severity: str,
) -> list[Bits]:
    """Which of the first corrupted images are right, for each way in which they were made."""
    mine = standing.checkpoint.digest, standing.dataset, standing.images
    return [
        ~evidence.broken[key][: evidence.prefix(key)]
        for owner, evidence in found.items()
        if owner[:3] == mine and owner.epsilon == severity and owner.norm == "corruption"
        for key in evidence.covered
        if attacks[key[0]].spec.attack == corruption
    ]


def _owner(value: Plan | Standing, checkpoint: str = "") -> Owner:
    digest = value.checkpoint if isinstance(value, Plan) else checkpoint
    epsilon = format_fraction(value.threat.epsilon)
    return Owner(digest, value.dataset, value.images, value.threat.norm, epsilon)


def _title(owner: Owner, name: str) -> str:
    return f"{name} on {owner.dataset}, {owner.norm} {owner.epsilon}"


def _of(said: tuple[int, int] | None) -> str:
    return "no number" if said is None else f"{said[0]} of {said[1]}"
