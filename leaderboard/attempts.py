"""One way of attacking over all rows, as the page of an attack shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leaderboard import addresses, wording
from leaderboard.evaluations import Number
from leaderboard.frame import Frame
from leaderboard.material import Material
from leaderboard.tallies import TRANSFER, Tally, Use


@dataclass(frozen=True)
class Line:
    """One row that an attack ran on, in one way.

    `alone` is empty where it did not see every clean-correct image; `in_part` stands there then.
    """

    name: str
    href: str
    place: str
    alone: Number | None
    in_part: str
    sole: str
    lost: str


@dataclass(frozen=True)
class Way:
    """One surface, loss and set of parameters, over all rows.

    `lines` has the rows on which it broke an image or has an accuracy of its own; `rest` says what
    is not among them.
    """

    title: str
    meaning: str
    loss: str
    parameters: str
    population: str
    rows: str
    broke: str
    sole: str
    lost: str
    passes: str
    queries: str
    seconds: str
    lines: tuple[Line, ...]
    rest: str
    id: str


@dataclass(frozen=True)
class Context:
    """What lines need besides their use.

    Args:
        material: its boards and texts.
        links: where rows are told in full, by board and checkpoint.
        names: checkpoints by the start of their digest.
    """

    material: Material
    links: Mapping[tuple[str, str], str]
    names: Mapping[str, str]

    @property
    def places(self) -> Mapping[str, str]:
        """Boards in words by slug; empty words where there is only one."""
        shown = self.material.boards
        if len(shown) == 1:
            return {addresses.board_slug(shown[0]): ""}
        return {addresses.board_slug(b): f"{b.dataset}, {wording.threat(b.threat)}" for b in shown}

    def href(self, use: Use, frame: Frame) -> str:
        """Where the row of a use is told in full."""
        return frame.root + self.links[use.slug, use.checkpoint]

    def way(self, number: int, uses: Sequence[Use], frame: Frame) -> Way:
        """What uses of one way came to, the `number`th of its page."""
        first, sums = uses[0].attack, Tally.of(uses)
        surface = TRANSFER if uses[0].surrogate else first.surface
        shown = [use for use in uses if _has_line(use)]
        pairs = [f"{key} {wording.value(value)}" for key, value in first.parameters.items()]
        return Way(
            title=surface,
            meaning=self.material.texts.surfaces.get(surface.partition("(")[0], ""),
            loss=first.loss,
            parameters=", ".join(pairs),
            population=", ".join(sorted({wording.population(u.attack.population) for u in uses})),
            rows=wording.count(sums.rows),
            broke=f"{wording.count(sums.broken)} of {wording.count(sums.attacked)}",
            sole=counted(uses, sums.sole),
            lost=wording.count(sums.lost),
            passes=wording.count(sums.passes),
            queries=wording.count(sums.queries),
            seconds=wording.duration(sums.seconds),
            lines=tuple(self._line(use, frame) for use in shown),
            rest=_rest([use for use in uses if not _has_line(use)]),
            id=f"way-{number}",
        )

    def _line(self, use: Use, frame: Frame) -> Line:
        attack, places = use.attack, [self.places[use.slug]]
        if use.surrogate:
            places.append(f"made on {self.names.get(use.surrogate, use.surrogate)}")
        broken, attacked = wording.count(attack.broken), wording.count(attack.attacked)
        return Line(
            name=use.checkpoint,
            href=self.href(use, frame),
            place="; ".join(place for place in places if place),
            alone=Number.of(attack.robust) if use.is_whole else None,
            in_part=f"broke {broken} of {attacked}",
            sole=counted([use], attack.sole_breaks),
            lost=wording.count(use.lost),
        )


def _has_line(use: Use) -> bool:
    return use.is_whole or use.attack.broken > 0


def _rest(uses: Sequence[Use]) -> str:
    """What is said of rows where it broke nothing and that have no line."""
    if not uses:
        return ""
    sums = Tally.of(uses)
    rows, images = wording.plural(sums.rows, "row"), wording.plural(sums.attacked, "image")
    return f"On {rows} it attacked {images} and broke none; these have no line here."


def counted(uses: Sequence[Use], number: int | None) -> str:
    """A count; a dash where nothing was counted, which is another thing than zero."""
    return wording.NOTHING if number is None or not uses else wording.count(number)
