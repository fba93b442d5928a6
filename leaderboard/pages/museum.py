"""The museum: models that pretend, and the diagnostics that must see through each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from leaderboard import addresses, wording
from leaderboard.frame import Frame
from leaderboard.material import Material
from leaderboard.pages import Draft, page
from leaderboard.texts import DiagnosticText, ExhibitText, Texts

COMMAND = "harness museum"


@page
def museum(material: Material) -> Iterator[Draft]:
    """One page, always."""
    said = material.texts
    facts = (list(said.exhibits.values()), list(said.diagnostics.values()), material.generated)
    yield Draft(addresses.MUSEUM, facts, partial(MuseumPage.of, material), "museum.html")


@dataclass(frozen=True)
class Catch:
    """One diagnostic that must reach a state on an exhibit, and when it reaches that state."""

    id: str
    title: str
    state: str
    definition: str


@dataclass(frozen=True)
class Exhibit:
    """One model that pretends, what is wrong with it, and what must see it."""

    id: str
    name: str
    wrong: str
    catches: tuple[Catch, ...]

    @classmethod
    def of(cls, text: ExhibitText, texts: Texts) -> Exhibit:
        """Its card."""
        catches = [(texts.diagnostics.get(name), name, s) for name, s in text.catches.items()]
        return cls(
            id=f"exhibit-{wording.slug(text.name)}",
            name=text.name.replace("_", " "),
            wrong=text.description,
            catches=tuple(_catch(known, name, state) for known, name, state in catches),
        )


@dataclass(frozen=True)
class MatrixRow:
    """One exhibit in the matrix; a cell is a state, or empty where the diagnostic is not asked."""

    name: str
    href: str
    states: tuple[str, ...]


@dataclass(frozen=True)
class MuseumPage:
    """Every exhibit, and the matrix of exhibits and diagnostics.

    `honest` are networks on which every named diagnostic must stay green; `unproven` are
    diagnostics that no exhibit has to set off.
    """

    pretenders: tuple[Exhibit, ...]
    honest: tuple[Exhibit, ...]
    columns: tuple[tuple[str, str], ...]
    matrix: tuple[MatrixRow, ...]
    summary: str
    unproven: str
    command: str
    frame: Frame

    @classmethod
    def of(cls, material: Material) -> MuseumPage:
        """The page of the museum."""
        said = material.texts
        shown = list(said.exhibits.values())
        pretenders = [one for one in shown if not _is_honest(one)]
        caught = {name for one in pretenders for name, s in one.catches.items() if s != "green"}
        return cls(
            pretenders=tuple(Exhibit.of(one, said) for one in pretenders),
            honest=tuple(Exhibit.of(one, said) for one in shown if _is_honest(one)),
            columns=tuple((one.id, one.title) for one in said.diagnostics.values()),
            matrix=tuple(_matrix([*pretenders, *filter(_is_honest, shown)], said)),
            summary=f"{wording.plural(len(pretenders), 'model')} that "
            f"{'pretends' if len(pretenders) == 1 else 'pretend'}, "
            f"{len(caught)} of {len(said.diagnostics)} diagnostics set off by at least one",
            unproven=", ".join(name for name in said.diagnostics if name not in caught),
            command=COMMAND,
            frame=Frame.of(addresses.MUSEUM, generated=material.generated),
        )


def _is_honest(one: ExhibitText) -> bool:
    return set(one.catches.values()) <= {"green"}


def _catch(known: DiagnosticText | None, name: str, state: str) -> Catch:
    definitions = {"amber": known.amber, "red": known.red} if known else {}
    return Catch(
        id=name,
        title=known.title if known else name,
        state=state,
        definition=definitions.get(state, ""),
    )


def _matrix(shown: Sequence[ExhibitText], said: Texts) -> Iterator[MatrixRow]:
    for one in shown:
        states = tuple(one.catches.get(name, "") for name in said.diagnostics)
        href = f"#exhibit-{wording.slug(one.name)}"
        yield MatrixRow(one.name.replace("_", " "), href, states)
