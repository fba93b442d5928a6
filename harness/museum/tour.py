"""Every exhibit with the diagnostics that must catch it: do they?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.diagnostics.diagnostic import AMBER, DIAGNOSTICS, RED
from harness.errors import unknown_name
from harness.museum.exhibit import EXHIBITS
from harness.museum.hall import Hall


@dataclass(frozen=True)
class Sight:
    """One exhibit before one diagnostic.

    Args:
        exhibit: its name.
        wrong: what is wrong with it.
        diagnostic: id.
        title: the diagnostic in a few words.
        expected: the state that must be reached; `amber` means at least that.
        found: the state that was.
        value: the measured number.
        note: what the diagnostic said.
    """

    exhibit: str
    wrong: str
    diagnostic: str
    title: str
    expected: str
    found: str
    value: float | None
    note: str

    @property
    def is_as_expected(self) -> bool:
        """Whether the diagnostic said what it had to."""
        if self.expected == AMBER:
            return self.found in {AMBER, RED}
        return self.found == self.expected


def tour(hall: Hall, only: Sequence[str] = ()) -> Iterator[Sight]:
    """Build every exhibit and run exactly the diagnostics that it names.

    Args:
        hall: what exhibits share.
        only: names of exhibits and ids of diagnostics, in any case; everything if empty.

    Raises:
        HarnessError: something in `only` is neither.
    """
    for name, identities in route(only):
        entry = EXHIBITS[name]
        examination = entry.build(hall)
        for identity in identities:
            check = DIAGNOSTICS[identity]
            reading = check.read(examination)
            yield Sight(
                name,
                entry.description,
                identity,
                check.title,
                entry.catches[identity],
                reading.state,
                reading.value,
                reading.note,
            )


def route(only: Sequence[str] = ()) -> list[tuple[str, list[str]]]:
    """Exhibits and the ids to run on each, as `tour` does.

    Raises:
        HarnessError: something in `only` is neither an exhibit nor a diagnostic of one.
    """
    every = {name: sorted(EXHIBITS[name].catches) for name in EXHIBITS}
    known = {identity for identities in every.values() for identity in identities}
    wanted = {text.upper() if text.upper() in known else text.lower() for text in only}
    for text in sorted(wanted - known - set(every)):
        raise unknown_name("exhibit or diagnostic", text, [*every, *known])
    chosen = {
        name: [each for each in identities if not only or name in wanted or each in wanted]
        for name, identities in every.items()
    }
    return [(name, identities) for name, identities in chosen.items() if identities]
