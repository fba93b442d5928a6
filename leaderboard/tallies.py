"""Every attack over all rows: on which it ran, what it broke there, and what only it broke."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.identity import CORRECT
from harness.standings import AttackStanding, Board
from leaderboard.addresses import board_slug

TRANSFER = "surrogate"
"""The surface of another checkpoint; what stands in its parentheses is that one's digest."""


@dataclass(frozen=True)
class Use:
    """One attack on one row.

    Args:
        slug: of the row's board.
        checkpoint: name.
        attack: what it did there.
        lost: images by which it lowered the union, after all attacks before it in the plan.
        is_last: whether the row names it as the attack that lowered it.
    """

    slug: str
    checkpoint: str
    attack: AttackStanding
    lost: int
    is_last: bool

    @property
    def is_whole(self) -> bool:
        """Whether it saw every clean-correct image, so that it has an accuracy of its own."""
        return self.attack.robust is not None

    @property
    def surrogate(self) -> str:
        """The start of the digest of the checkpoint that was climbed instead; mostly empty."""
        kind, _, rest = self.attack.surface.partition("(")
        return rest.removesuffix(")") if kind == TRANSFER else ""


@dataclass(frozen=True)
class Tally:
    """What some uses of an attack come to. An image counts once per row and use.

    Args:
        rows: rows with at least one use.
        lowered: rows that name one of them as the attack that lowered them.
        attacked, broken, lost: images.
        sole: images that nothing else broke; None where every use saw survivors only.
        passes: forward and backward passes of one image.
        queries: answers that were asked for.
        seconds: of one worker.
    """

    rows: int
    lowered: int
    attacked: int
    broken: int
    lost: int
    sole: int | None
    passes: int
    queries: int
    seconds: float

    @classmethod
    def of(cls, uses: Sequence[Use]) -> Tally:
        """The sums."""
        sole = [use.attack.sole_breaks for use in uses if use.attack.sole_breaks is not None]
        return cls(
            rows=len({(use.slug, use.checkpoint) for use in uses}),
            lowered=len({(use.slug, use.checkpoint) for use in uses if use.is_last}),
            attacked=sum(use.attack.attacked for use in uses),
            broken=sum(use.attack.broken for use in uses),
            lost=sum(use.lost for use in uses),
            sole=sum(sole) if sole else None,
            passes=sum(use.attack.forwards + use.attack.backwards for use in uses),
            queries=sum(use.attack.queries for use in uses),
            seconds=sum(use.attack.seconds for use in uses),
        )


def uses_by_attack(boards: Iterable[Board]) -> Mapping[str, Sequence[Use]]:
    """Every use, by name of the attack, in the order of the boards and of the plans."""
    found: dict[str, list[Use]] = {}
    for board in boards:
        slug = board_slug(board)
        for standing in board.standings:
            before = standing.clean.count
            for attack in standing.attacks:
                after = attack.union_after.count
                is_last = attack.label == standing.last_lowered_by
                use = Use(slug, standing.checkpoint.name, attack, before - after, is_last)
                found.setdefault(attack.attack, []).append(use)
                before = after
    return found


def ways(uses: Iterable[Use]) -> Sequence[Sequence[Use]]:
    """Uses that differ in nothing but the row, the surrogate and the stage that came before.

    First what saw every clean-correct image, then by surface, loss and parameters.
    """
    found: dict[tuple[object, ...], list[Use]] = {}
    for use in uses:
        one = use.attack
        surface = TRANSFER if use.surrogate else one.surface
        settings = tuple((key, str(value)) for key, value in one.parameters.items())
        key = (one.population != CORRECT, surface != "logits", surface, one.loss, settings)
        found.setdefault(key, []).append(use)
    return [found[key] for key in sorted(found)]
