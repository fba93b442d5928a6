"""All attacks, and a page per attack: what it is, how it ran, and what only it breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from leaderboard import addresses, wording
from leaderboard.attempts import Context, Way, counted
from leaderboard.evaluations import Fact
from leaderboard.frame import Frame, Link
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.panels.transfer import digits_of
from leaderboard.tallies import Tally, Use, uses_by_attack, ways


@page
def attacks(material: Material) -> Iterator[Draft]:
    """The table of all, and one page each; drawn anew when a row says something else of it."""
    found = uses_by_attack(material.boards)
    names = [*material.texts.attacks, *sorted(found.keys() - material.texts.attacks.keys())]
    links = addresses.evaluation_links(material.boards)
    context = Context(material, links, _names(material))
    everything = [(name, found.get(name, ()), _text(material, name)) for name in names]
    idle = [name for name, uses, _ in everything if uses and Tally.of(uses).lost == 0]
    lines = tuple(AttackInShort.of(*one) for one in everything)
    facts = (lines, idle, _rows(material), material.generated)
    overview = partial(AttacksPage.of, material, lines, idle)
    yield Draft(addresses.ATTACKS, facts, overview, "attacks.html")
    for name, uses, text in everything:
        mine = {key: links[key] for key in {(use.slug, use.checkpoint) for use in uses}}
        known = sorted({(use.surrogate, context.names.get(use.surrogate, "")) for use in uses})
        facts_of_one = (text, uses, sorted(mine.items()), known, context.places, material.generated)
        make = partial(AttackPage.of, context, name, uses)
        yield Draft(addresses.attack_page(name), facts_of_one, make, "attack.html")


def _text(material: Material, name: str) -> tuple[str, str, str]:
    """Description, knowledge and source; empty for an attack of another distribution."""
    text = material.texts.attacks.get(name)
    return (text.description, text.knowledge, text.source) if text else ("", "", "")


def _rows(material: Material) -> int:
    return sum(len(board.standings) for board in material.boards)


def _names(material: Material) -> Mapping[str, str]:
    """Checkpoints by the start of their digest, as surrogates name them."""
    return {digits: name for digits, (name, _) in digits_of(material.boards).items()}


@dataclass(frozen=True)
class AttackInShort:
    """One line of the table of all attacks; numbers are dashes where it never ran."""

    name: str
    href: str
    description: str
    knowledge: str
    rows: str
    ways: str
    lowered: str
    sole: str
    lost: str
    passes: str
    queries: str
    seconds: str
    time: str
    is_run: bool

    @classmethod
    def of(cls, name: str, uses: Sequence[Use], text: tuple[str, str, str]) -> AttackInShort:
        """The line of one attack."""
        sums = Tally.of(uses)
        return cls(
            name=name,
            href=addresses.attack_page(name),
            description=text[0],
            knowledge=_knowledge(uses, text[1]),
            rows=wording.count(sums.rows),
            ways=wording.count(len(ways(uses))),
            lowered=counted(uses, sums.lowered),
            sole=counted(uses, sums.sole),
            lost=counted(uses, sums.lost),
            passes=counted(uses, sums.passes),
            queries=counted(uses, sums.queries),
            seconds=f"{sums.seconds:.1f}" if uses else "",
            time=wording.duration(sums.seconds) if uses else wording.NOTHING,
            is_run=bool(uses),
        )


@dataclass(frozen=True)
class AttacksPage:
    """All attacks; `idle` are those that ran and never lowered any row's union."""

    attacks: tuple[AttackInShort, ...]
    summary: str
    idle: str
    frame: Frame

    @classmethod
    def of(
        cls, material: Material, lines: tuple[AttackInShort, ...], idle: Sequence[str]
    ) -> AttacksPage:
        """The page of all attacks."""
        run = sum(line.is_run for line in lines)
        return cls(
            attacks=lines,
            summary=f"{run} of {wording.plural(len(lines), 'attack')} ran on "
            f"{wording.plural(_rows(material), 'row')}",
            idle=", ".join(idle),
            frame=Frame.of(addresses.ATTACKS, generated=material.generated),
        )


@dataclass(frozen=True)
class AttackPage:
    """One attack over all rows. `lowered` are the rows that it was the one to lower."""

    name: str
    description: str
    facts: tuple[Fact, ...]
    ways: tuple[Way, ...]
    lowered: tuple[Link, ...]
    has_transfer: bool
    frame: Frame

    @classmethod
    def of(cls, context: Context, name: str, uses: Sequence[Use]) -> AttackPage:
        """The page of one attack."""
        path = addresses.attack_page(name)
        above = ("Attacks", addresses.ATTACKS)
        frame = Frame.of(path, above, generated=context.material.generated)
        description, knowledge, source = _text(context.material, name)
        last = sorted((use for use in uses if use.is_last), key=lambda use: use.checkpoint)
        return cls(
            name=name,
            description=description,
            facts=(
                Fact("May look at", _knowledge(uses, knowledge)),
                Fact("Source", source or "nothing is known of it here but its rows"),
                *(_sums(uses) if uses else ()),
            ),
            ways=tuple(context.way(n, way, frame) for n, way in enumerate(ways(uses), start=1)),
            lowered=tuple(dict.fromkeys(Link(u.checkpoint, context.href(u, frame)) for u in last)),
            has_transfer=any(use.surrogate for use in uses),
            frame=frame,
        )


def _sums(uses: Sequence[Use]) -> Iterator[Fact]:
    sums = Tally.of(uses)
    yield Fact("Rows on which it ran", wording.count(sums.rows))
    yield Fact("Rows that name it as the attack that lowered them", wording.count(sums.lowered))
    yield Fact("Images that nothing else broke", counted(uses, sums.sole))
    yield Fact("Images by which it lowered a union", wording.count(sums.lost))
    yield Fact("Forward and backward passes of one image", wording.count(sums.passes))
    if sums.queries:
        yield Fact("Queries", wording.count(sums.queries))
    yield Fact("Time of one worker", wording.duration(sums.seconds))


def _knowledge(uses: Sequence[Use], said: str) -> str:
    """What it may look at, and what it looked at on some rows."""
    kinds = {use.attack.knowledge for use in uses} | ({said} if said else set())
    ordered = sorted((kind for kind in kinds if kind), key=lambda kind: (kind != said, kind))
    return ", ".join(map(wording.knowledge, ordered)) or wording.NOTHING
