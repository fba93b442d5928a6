"""Every published figure in one table, those that cannot be meant, and what they would show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from leaderboard import addresses, wording
from leaderboard.frame import Frame
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.printed import Figure, doubts, place, source
from leaderboard.worked import Example, examples


@page
def claims(material: Material) -> Iterator[Draft]:
    """One page, always."""
    facts = (tuple(material.claims), material.generated)
    make = partial(ClaimsPage.of, material)
    yield Draft(addresses.CLAIMS, facts, make, "claims.html")


@dataclass(frozen=True)
class Source:
    """A text, and how many figures are taken from it."""

    id: str
    words: str
    figures: str


@dataclass(frozen=True)
class Shown:
    """A worked example, and the name and address of the table that it follows from."""

    id: str
    example: Example
    place: str
    href: str


@dataclass(frozen=True)
class ClaimsPage:
    """Every published figure as printed; `remarks`: how many are doubted or quoted, if any."""

    total: str
    remarks: str
    sources: tuple[Source, ...]
    figures: tuple[Figure, ...]
    examples: tuple[Shown, ...]
    frame: Frame

    @classmethod
    def of(cls, material: Material) -> ClaimsPage:
        """The page of all claims."""
        frame = Frame.of(addresses.CLAIMS, generated=material.generated)
        reasons = doubts(material.claims)
        figures = tuple(
            Figure.of(
                claim,
                frame.root + addresses.study_page(claim.source, claim.place),
                reasons.get(claim, ()),
            )
            for claim in material.claims
        )
        return cls(
            total=wording.plural(len(figures), "published figure"),
            remarks=" ".join(_remarks(material, sum(bool(one.doubt) for one in figures))),
            sources=tuple(_sources(material)),
            figures=figures,
            examples=tuple(_shown(material, frame)),
            frame=frame,
        )


def _remarks(material: Material, doubted: int) -> Iterator[str]:
    if doubted:
        yield (
            f"{wording.count(doubted)} of them cannot be what the strongest attack leaves, because "
            "another figure of the same table is lower where it should not be."
        )
    quoted = sum(bool(claim.quoted_from) for claim in material.claims)
    if quoted:
        are = "is quoted by its" if quoted == 1 else "are quoted by their"
        yield f"{wording.count(quoted)} {are} text from elsewhere."


def _sources(material: Material) -> Iterator[Source]:
    for name in dict.fromkeys(claim.source for claim in material.claims):
        number = sum(claim.source == name for claim in material.claims)
        yield Source(name, source(name), wording.plural(number, "figure"))


def _shown(material: Material, frame: Frame) -> Iterator[Shown]:
    for number, one in enumerate(examples(material.claims), start=1):
        words = f"{one.source}, {place(one.place)}"
        yield Shown(f"example-{number}", one, words, f"{frame.root}{one.page}")
