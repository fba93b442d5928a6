"""The published figures as a file: CSV in, `Claim` out, and back byte for byte."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from functools import cache
from importlib import resources

from harness.errors import HarnessError
from harness.identity import Claim

PACKAGED = resources.files("harness.claims") / "claims.csv"

COLUMNS = (
    "source",
    "table",
    "dataset",
    "architecture",
    "defense",
    "metric",
    "attack",
    "attack_iterations",
    "knowledge",
    "epsilon",
    "norm",
    "variant",
    "value",
    "unit",
    "spread",
    "quoted_from",
    "note",
)
"""Of the file, in this order."""

KEY = (
    "source",
    "place",
    "dataset",
    "architecture",
    "defense",
    "metric",
    "attack",
    "attack_iterations",
    "knowledge",
    "variant",
)
"""Fields of a claim that no two claims share."""

_FIELD = {"table": "place", "value": "printed"}
_FIELDS = tuple(_FIELD.get(column, column) for column in COLUMNS)


@cache
def claims() -> tuple[Claim, ...]:
    """Every published figure, in the order of the texts."""
    return parse(PACKAGED.read_text(encoding="utf-8"))


def key(claim: Claim) -> tuple[str, ...]:
    """What tells a claim from every other."""
    return tuple(getattr(claim, name) for name in KEY)


def parse(text: str) -> tuple[Claim, ...]:
    """The claims of a CSV file.

    Raises:
        HarnessError: other columns, or a line with more or fewer values than columns.
    """
    lines = csv.reader(io.StringIO(text), strict=True)
    try:
        header, *rows = lines
    except (ValueError, csv.Error) as error:
        raise HarnessError(f"the claims are no CSV file: {error}.") from error
    if tuple(header) != COLUMNS:
        raise HarnessError(
            f"the columns of the claims are {', '.join(header)}; they must be {', '.join(COLUMNS)}."
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS):
            raise HarnessError(
                f"record {number} of the claims has {len(row)} values for {len(COLUMNS)} columns."
            )
    return tuple(Claim(**dict(zip(_FIELDS, row, strict=True))) for row in rows)


def render(found: Iterable[Claim]) -> str:
    """The CSV file of these claims; what `parse` read comes back as it was."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(claim, name) for name in _FIELDS] for claim in found)
    return text.getvalue()
