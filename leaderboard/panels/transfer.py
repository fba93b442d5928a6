"""Adversarial images made on other models: what each source breaks here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.identity import Finding
from harness.standings import Board, Standing
from leaderboard import addresses, wording
from leaderboard.evaluations import Fact

_ATTACKS = tuple(
    f"{name}, {loss}" for name in ("PGD-20", "PGD-100", "MIM-20") for loss in ("CE", "margin")
)
_BEFORE, _AFTER = "surrogate(", ")"
_DIGITS = 12


@dataclass(frozen=True)
class SourceRow:
    """One model that was attacked in place of this one."""

    source: Fact
    broken: tuple[str, ...]
    most: str


@dataclass(frozen=True)
class Transfer:
    """Every source of diagnostic D05; `attacks` names the columns of its numbers."""

    said: str
    attacks: tuple[str, ...]
    rows: tuple[SourceRow, ...]

    @classmethod
    def of(cls, standing: Standing, names: Mapping[str, Fact]) -> Transfer | None:
        """The sources that the diagnostic stored; None where there are none.

        Args:
            standing: the target.
            names: name and address of checkpoints by the first digits of their digests.
        """
        found = next((one for one in standing.findings if one.diagnostic == "D05"), None)
        if found is None:
            return None
        sources = {
            source: numbers
            for source, numbers in found.details.items()
            if _is_source(source) and numbers and all(map(math.isfinite, numbers))
        }
        if not sources:
            return None
        are_all = all(len(numbers) == len(_ATTACKS) for numbers in sources.values())
        rows = [_row(source, numbers, names, are_all) for source, numbers in sources.items()]
        return cls(_said(found), _ATTACKS if are_all else (), tuple(rows))


def digits_of(boards: Sequence[Board]) -> dict[str, tuple[str, str]]:
    """Name and page of every checkpoint by the first digits of its digest, the first name first."""
    records = {row.checkpoint.name: row.checkpoint for board in boards for row in board.standings}
    found: dict[str, tuple[str, str]] = {}
    for name, record in sorted(records.items()):
        found.setdefault(record.digest[:_DIGITS], (name, addresses.checkpoint_page(record)))
    return found


def mentioned(standing: Standing) -> set[str]:
    """The digits of every source that a standing's diagnostics and attacks name."""
    surfaces = {attack.surface for attack in standing.attacks}
    for one in standing.findings:
        surfaces |= set(one.details)
    return {_digits(name) for name in surfaces if name.startswith(_BEFORE)}


def _is_source(name: str) -> bool:
    return name.startswith(_BEFORE) or name == "stripped"


def _digits(surface: str) -> str:
    return surface.removeprefix(_BEFORE).removesuffix(_AFTER)


def _row(
    source: str, numbers: Sequence[float], names: Mapping[str, Fact], are_all: bool
) -> SourceRow:
    plain = Fact("", "the same weights without the module" if source == "stripped" else source)
    return SourceRow(
        source=names.get(_digits(source), plain),
        broken=tuple(f"{number:.1f}" for number in numbers) if are_all else (),
        most=f"{max(numbers):.1f}",
    )


def _said(found: Finding) -> str:
    images = wording.plural(found.examples, "image")
    return (
        f"Share of the clean-correct images, of {images} looked at, that break when another "
        "model is attacked in place of this one. High numbers are no fault by themselves; it is "
        "one where they break what no gradient of this model breaks (D05)."
    )
