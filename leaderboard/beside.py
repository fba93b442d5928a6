"""A printed figure with what was measured here beside it, and the remarks below a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.standings.studies import Cell, Match
from leaderboard import wording
from leaderboard.evaluations import AMBER, RED
from leaderboard.minus import minus
from leaderboard.printed import figure
from leaderboard.printed import variant as in_words


@dataclass
class Remarks:
    """Remarks of one table, each with its number from 1."""

    _found: dict[str, str] = field(default_factory=dict)

    def number(self, text: str) -> str:
        """The number of a remark; the same text has one number only."""
        return self._found.setdefault(text, str(len(self._found) + 1))

    @property
    def listed(self) -> tuple[tuple[str, str], ...]:
        """(number, text), in their order."""
        return tuple((number, text) for text, number in self._found.items())


@dataclass(frozen=True)
class Ours:
    """The stored number of the same kind.

    `difference` says how far ours is from the printed one where the two may be compared, and
    `kind` is then `amber` or `red` where ours is lower by more than 1 or 5 points (D26);
    `differs` says why they may not.
    """

    percent: str
    interval: str
    attack: str
    href: str
    difference: str
    kind: str
    differs: str

    @classmethod
    def of(cls, match: Match, links: Mapping[str, str], root: str) -> Ours:
        """The words of a match."""
        path = links.get(match.checkpoint, "")
        difference, kind = _difference(match.difference)
        return cls(
            percent=wording.percent(match.rate),
            interval=wording.interval(match.rate),
            attack=match.attack,
            href=f"{root}{path}" if path else "",
            difference=difference,
            kind=kind,
            differs="" if match.is_comparable else _differs(match),
        )


@dataclass(frozen=True)
class Beside:
    """One cell: the figure, what is printed with it, numbers of remarks, ours."""

    printed: str
    variant: str
    is_quoted: bool
    is_doubted: bool
    remarks: tuple[str, ...]
    ours: Ours | None

    @classmethod
    def of(
        cls,
        cell: Cell,
        variant: str,
        doubted: Sequence[str],
        remarks: Remarks,
        links: Mapping[str, str],
        root: str,
    ) -> Beside:
        """The cell of a row with that variant; its remarks are added to those of the table."""
        quoted = f"Quoted by the text from {cell.quoted_from}." if cell.quoted_from else ""
        texts = [text for text in (*doubted, minus(cell.note), quoted) if text]
        return cls(
            printed=figure(cell.printed, cell.unit, cell.spread),
            variant=in_words(cell.variant) if cell.variant != variant else "",
            is_quoted=bool(cell.quoted_from),
            is_doubted=bool(doubted),
            remarks=tuple(remarks.number(text) for text in texts),
            ours=Ours.of(cell.ours, links, root) if cell.ours is not None else None,
        )


def _difference(points: float | None) -> tuple[str, str]:
    if points is None:
        return "", ""
    lower = round(-points, 6)  # a difference of one point is one, not a hair above it
    kind = "red" if lower > RED else "amber" if lower > AMBER else ""
    if round(abs(points), 1) == 0:
        return "the same", kind
    return f"{abs(points):.1f} {'higher' if points > 0 else 'lower'}", kind


def _differs(match: Match) -> str:
    """Why a number may not be compared, with what it is about instead."""
    said = {
        "architecture": f"architecture {match.architecture or 'not known'}",
        "norm": f"norm {match.threat.norm}",
        "epsilon": wording.threat(match.threat),
        "scale": f"{match.scale or 'unknown'} scale",
    }
    words = dict.fromkeys(said.get(reason, reason) for reason in match.differs)
    return ", ".join(words)
