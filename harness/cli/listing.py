"""`harness list`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from harness.cli import defense_rows, options
from harness.cli.catalogue_cache import is_grid, remembered
from harness.cli.defense_rows import Rows


@click.command("list")
@click.argument(
    "kind",
    type=click.Choice(
        [
            *("defenses", "combinations", "quoted", "claims", "recipes"),
            *("attacks", "surfaces", "protocols", "diagnostics", "corruptions"),
            *("datasets", "architectures", "checkpoints"),
        ]
    ),
)
@click.option("--defense", metavar="NAME", help="Of claims: what is claimed of one defense.")
@options.JSON
@options.everywhere
def list_(
    kind: str,
    defense: str | None,
    as_json: bool,
    db: str | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """List what there is.

    `combinations` are BASE+ADDITION, `quoted` are methods that have claims and nothing to train,
    `claims` are the published figures. --json prints what a table leaves out.
    """
    del device, quiet, verbose
    if defense is not None and kind != "claims":
        raise click.UsageError("--defense goes with `harness list claims`.")
    found = _listing(kind, defense, db)
    if as_json:
        click.echo(json.dumps(found["rows"], indent=2))
        return
    from harness.cli.tables import table

    if not found["rows"]:
        click.echo(_NOTHING.get(kind, f"No {kind}.").format(defense=defense))
        return
    table("", found["columns"], found["cells"], keeps_names=True)


def _listing(kind: str, defense: str | None, db: str | None) -> dict[str, Any]:
    """`rows` for --json, `columns` and `cells` of the table."""
    if kind == "checkpoints":
        return _told(kind, _checkpoints(db))
    if defense is not None:
        return _told(kind, defense_rows.claims(defense))
    found: dict[str, Any] = remembered(f"list {kind}", lambda: _told(kind, _KINDS[kind]()), _fits)
    return found


def _told(kind: str, rows: Rows) -> dict[str, Any]:
    shown = _SHOWN[kind](rows) if kind in _SHOWN and rows else rows
    columns = (
        [key for key, value in shown[0].items() if not isinstance(value, dict)] if rows else []
    )
    cells = [[_text(row[column]) for column in columns] for row in shown]
    return {"rows": rows, "columns": columns, "cells": cells}


def _fits(found: object) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("rows"), list)
        and is_grid(found.get("columns"), found.get("cells"))
    )


_NOTHING = {
    "checkpoints": "No checkpoints yet. Train one with: harness train DEFENSE --dataset D",
    "claims": "No paper here has a figure of {defense}.",
}


def _attacks() -> Rows:
    from harness.attacks.attack import ATTACKS

    return [
        {
            "name": entry.name,
            "norms": list(entry.norms),
            "losses": list(entry.losses),
            "knowledge": entry.knowledge,
            "passes": "{} + {}".format(*entry.cost(entry.parameters)),
            "description": entry.description,
            "source": entry.source,
            "parameters": dict(entry.parameters),
        }
        for entry in (ATTACKS[name] for name in ATTACKS)
    ]


def _surfaces() -> Rows:
    from harness.attacks.surface_text import SURFACES

    return [
        {"name": name, "passes": kind.forwards, "meaning": kind.meaning}
        for name, kind in SURFACES.items()
    ]


def _diagnostics() -> Rows:
    from harness.diagnostics.diagnostic import DIAGNOSTICS

    return [
        {
            "id": entry.id,
            "title": entry.title,
            "amber": entry.amber,
            "red": entry.red,
            "description": entry.description,
        }
        for entry in (DIAGNOSTICS[name] for name in DIAGNOSTICS)
    ]


def _corruptions() -> Rows:
    from harness.corruptions import CORRUPTIONS

    return [
        {
            "name": entry.name,
            "family": entry.family,
            "counts": "in the mean" if entry.is_main else "extra",
            "description": entry.description,
        }
        for entry in CORRUPTIONS
    ]


def _protocols() -> Rows:
    from harness.protocols import PROTOCOLS

    found = [
        {"name": entry.name, "version": entry.version, "description": entry.description}
        for entry in PROTOCOLS.values()
    ]
    told = "standard 2, then what `harness search NAME --budget N` finds, on the survivors"
    return [*found, {"name": "search", "version": 1, "description": told}]


def _datasets() -> Rows:
    from harness.data import DATASETS

    return [
        {
            "name": entry.name,
            "classes": len(entry.classes),
            "shape": list(entry.shape),
            "threat": str(entry.threat),
            "index lists": list(entry.index_lists),
            "description": entry.description,
        }
        for entry in (DATASETS[name] for name in DATASETS)
    ]


def _architectures() -> Rows:
    from harness.models.architectures import ARCHITECTURES

    return [
        {
            "name": entry.name,
            "description": entry.description,
            "source": entry.source,
            "settings": dict(entry.settings),
        }
        for entry in (ARCHITECTURES[name] for name in ARCHITECTURES)
    ]


def _checkpoints(db: str | None) -> Rows:
    from harness.threat import format_fraction

    with options.open_store(db, create=False, read_only=True) as store:
        return [
            {
                "name": record.name,
                "defense": record.defense or "added",
                "dataset": record.dataset,
                "norm": record.threat.norm,
                "epsilon": format_fraction(record.threat.epsilon),
                "architecture": record.architecture or "-",
                "scale": record.scale_mark or "-",
                "parameters": record.parameters,
                "created": record.created,
            }
            for record in store.checkpoints()
        ]


_KINDS: dict[str, Callable[[], Rows]] = {
    "defenses": defense_rows.defenses,
    "combinations": defense_rows.combinations,
    "quoted": defense_rows.quoted,
    "claims": lambda: defense_rows.claims(None),
    "recipes": defense_rows.recipes,
    "attacks": _attacks,
    "surfaces": _surfaces,
    "diagnostics": _diagnostics,
    "corruptions": _corruptions,
    "protocols": _protocols,
    "datasets": _datasets,
    "architectures": _architectures,
}
_SHOWN: dict[str, Callable[[Rows], Rows]] = {
    "defenses": defense_rows.shown_defenses,
    "combinations": defense_rows.shown_combinations,
    "quoted": defense_rows.shown_quoted,
    "recipes": defense_rows.shown_recipes,
    "claims": defense_rows.shown_claims,
}
"""What a table holds of them; --json has the rest."""


def _text(value: object) -> str:
    if isinstance(value, list):
        return (
            "x".join(map(str, value))
            if all(isinstance(v, int) for v in value)
            else ", ".join(value)
        )
    return str(value)
