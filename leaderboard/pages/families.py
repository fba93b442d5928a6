"""A page per family of defenses: each beside what it was built on, on the same images and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harness.standings.comparison import Comparison
from leaderboard import addresses, wording
from leaderboard.family import OTHER, Absent, Kin, absent, family_of, group_key, kin, told
from leaderboard.frame import Frame
from leaderboard.gains import LEVEL, Gain
from leaderboard.kinship import Group
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.texts import DefenseText

_TITLES = {
    "baseline": "Baselines",
    "quoted": "Quoted only",
    OTHER: "Other compositions",
}
_WORDS = {
    "baseline": "Adversarial training as others found it, and well-known changes to it. The "
    "families below are built on these.",
    "ANCRA": "Asymmetric negative contrast (ANC) pushes an image away from another class; reverse "
    "attention (RA) reweights channels by the class that a first head chooses. Its auxiliary head "
    "and its gate decide, so only attacks that know them count.",
    "FRPAT": "The features of adversarial images keep the neighbourhoods that a network trained "
    "on clean images sees: a penalty while training, nothing at inference.",
    "HE": "Hypersphere embedding: features and class weights of unit length, so that logits are "
    "cosines, with a margin on the true class. Logits of another scale make some losses weak.",
    "LBGAT": "A network trained on clean images beside the one under attack lends it its logits.",
    "quoted": "The papers print figures of these and the harness does not train them; they are in "
    "the published claims alone.",
    OTHER: "Compositions that nobody published, and defenses from elsewhere.",
}


@page
def families(material: Material) -> Iterator[Draft]:
    """The table of families, and one page each."""
    links = addresses.evaluation_links(material.boards)
    found = {name: list(members) for name, members in kin(material).items()}
    shown = {
        name: [one for one in material.comparisons if family_of(material, one.defense) == name]
        for name in found
    }
    said = [(name, found[name], list(map(told, shown[name]))) for name in found]
    facts = (said, material.generated)
    make = partial(FamiliesPage.of, material, found, shown)
    yield Draft(addresses.FAMILIES, facts, make, "families.html")
    for name, members in found.items():
        kept = Kin(material, links, tuple(members), tuple(shown[name]))
        facts_of_one = (name, kept.facts, material.generated)
        one = partial(FamilyPage.of, kept, name)
        yield Draft(addresses.family_page(name), facts_of_one, one, "family.html")


@dataclass(frozen=True)
class FamilyInShort:
    """One family: how many of its defenses were measured, and what the tests say of them."""

    name: str
    href: str
    words: str
    defenses: str
    measured: str
    higher: str
    lower: str
    open: str


@dataclass(frozen=True)
class FamiliesPage:
    """All families."""

    families: tuple[FamilyInShort, ...]
    level: str
    frame: Frame

    @classmethod
    def of(
        cls,
        material: Material,
        found: dict[str, list[DefenseText]],
        shown: dict[str, list[Comparison]],
    ) -> FamiliesPage:
        """The table of families."""
        lines = tuple(_in_short(name, found[name], shown[name]) for name in found)
        frame = Frame.of(addresses.FAMILIES, generated=material.generated)
        return cls(lines, f"{100 * LEVEL:g}", frame)


def _in_short(
    name: str, members: Sequence[DefenseText], shown: Sequence[Comparison]
) -> FamilyInShort:
    gains = [gain for gain in map(Gain.of, shown) if gain is not None]
    counts = {
        kind: sum(gain.kind == kind for gain in gains) for kind in ("higher", "lower", "open")
    }
    said = {kind: wording.count(n) if gains else wording.NOTHING for kind, n in counts.items()}
    return FamilyInShort(
        name=_TITLES.get(name, name),
        href=addresses.family_page(name),
        words=_WORDS.get(name, ""),
        defenses=wording.count(len({one.name for one in members} | {one.defense for one in shown})),
        measured=wording.count(len({one.defense for one in shown})),
        **said,
    )


@dataclass(frozen=True)
class Member:
    """A defense of the family: what it is, and where it comes from."""

    name: str
    description: str
    base: str
    status: str
    paper: str
    href: str


@dataclass(frozen=True)
class FamilyPage:
    """One family. `absent` are defenses without a comparison, each with the reason."""

    name: str
    words: str
    level: str
    groups: tuple[Group, ...]
    members: tuple[Member, ...]
    absent: tuple[Absent, ...]
    frame: Frame

    @classmethod
    def of(cls, found: Kin, name: str) -> FamilyPage:
        """The page of one family."""
        path = addresses.family_page(name)
        above = ("Families", addresses.FAMILIES)
        frame = Frame.of(path, above, generated=found.material.generated)
        keys = dict.fromkeys(map(group_key, found.comparisons))
        groups = (Group.of(found, key, number, frame) for number, key in enumerate(keys, start=1))
        return cls(
            name=_TITLES.get(name, name),
            words=_WORDS.get(name, ""),
            level=f"{100 * LEVEL:g}",
            groups=tuple(groups),
            members=tuple(map(_member, found.members)),
            absent=tuple(absent(found)),
            frame=frame,
        )


def _member(text: DefenseText) -> Member:
    title = text.paper.get("title", "")
    written = ", ".join(text.paper[key] for key in ("authors", "year") if text.paper.get(key))
    arxiv = text.paper.get("arxiv", "")
    return Member(
        name=text.name,
        description=text.description,
        base=text.base,
        status=text.status,
        paper=f"{title} ({written})" if written else title,
        href=wording.link("arxiv", arxiv),
    )
