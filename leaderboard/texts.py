"""What the harness says of its defenses, attacks, diagnostics and exhibits, without importing them.

`texts.json` is made by `make reference` from the registries, which need PyTorch; a test compares
it with them. A defense or attack from another distribution is not in it and is shown by what its
rows say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("texts.json")


@dataclass(frozen=True)
class DefenseText:
    """One defense by name.

    Args:
        name: as in the column `defense` of the claims.
        family: `baseline` or the paper that it belongs to.
        description: one sentence.
        base: what it was built on, empty for a baseline.
        status: `published`, `unvalidated` or, for what the papers only quote, `quoted`.
        paper: title, arxiv and so on, as text.
    """

    name: str
    family: str
    description: str
    base: str
    status: str
    paper: Mapping[str, str]


@dataclass(frozen=True)
class AttackText:
    """One attack by name: what it does, what it may look at, where it comes from."""

    name: str
    description: str
    knowledge: str
    source: str


@dataclass(frozen=True)
class DiagnosticText:
    """One diagnostic: what it compares and when it is amber or red."""

    id: str
    title: str
    description: str
    amber: str
    red: str
    source: str


@dataclass(frozen=True)
class ExhibitText:
    """One model of the museum and the state that each named diagnostic must reach on it."""

    name: str
    description: str
    catches: Mapping[str, str]


@dataclass(frozen=True)
class Texts:
    """All of them by name, in the order in which people should meet them.

    `surfaces` say what an attack climbs, by name without what stands in parentheses; `losses` say
    which number it climbs there.
    """

    defenses: Mapping[str, DefenseText] = field(default_factory=dict)
    attacks: Mapping[str, AttackText] = field(default_factory=dict)
    diagnostics: Mapping[str, DiagnosticText] = field(default_factory=dict)
    exhibits: Mapping[str, ExhibitText] = field(default_factory=dict)
    protocols: Mapping[str, str] = field(default_factory=dict)
    analyses: Mapping[str, str] = field(default_factory=dict)
    surfaces: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, str] = field(default_factory=dict)

    @property
    def baselines(self) -> Mapping[str, str]:
        """Defense -> what it was built on, of those that were built on anything."""
        return {name: text.base for name, text in self.defenses.items() if text.base}


_CODE = r"(?:RA-S|A)\d+"
_CODES = re.compile(rf" \({_CODE}(?:, {_CODE})*\)$")
_INTERNAL = re.compile(r"(?:^|; )[a-z_]+\.md\b[^;]*")


def without_codes(meaning: str) -> str:
    """A description without the codes of internal documents at its end, such as `(A4, A11)`."""
    return _CODES.sub("", meaning)


def published(source: str) -> str:
    """A source without references to internal documents; empty where there is no other."""
    return _INTERNAL.sub("", source).removeprefix("; ")


def _diagnostic(entry: Mapping[str, str]) -> DiagnosticText:
    return DiagnosticText(**{**entry, "source": published(entry["source"])})


@cache
def texts() -> Texts:
    """What belongs to this version."""
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return Texts(
        defenses={entry["name"]: DefenseText(**entry) for entry in found["defenses"]},
        attacks={entry["name"]: AttackText(**entry) for entry in found["attacks"]},
        diagnostics={entry["id"]: _diagnostic(entry) for entry in found["diagnostics"]},
        exhibits={entry["name"]: ExhibitText(**entry) for entry in found["exhibits"]},
        protocols=found["protocols"],
        analyses=found["analyses"],
        surfaces={name: without_codes(text) for name, text in found["surfaces"].items()},
        losses=found["losses"],
    )
