"""`harness show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.identity import CheckpointRecord
    from harness.standings import Standing
    from harness.standings.corruptions import CorruptionStanding


@click.command()
@click.argument("name")
@options.everywhere
def show(name: str, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Show checkpoint NAME with all its attacks, or the composition of defense NAME."""
    del device, quiet, verbose
    from harness.defense import DEFENSES
    from harness.errors import unknown_name
    from harness.standings import boards
    from harness.standings.corruptions import corruption_standings

    if name in DEFENSES:
        _show_defense(name)
        return

    with options.open_store(db, create=False, read_only=True) as store:
        known = {record.name: record for record in store.checkpoints()}
        if name not in known:
            raise unknown_name("checkpoint or defense", name, [*known, *DEFENSES])
        record = known[name]
        found = [s for board in boards(store) for s in board.standings if s.checkpoint.name == name]
        corrupted = corruption_standings(store, record)
    _show_checkpoint(record)
    for standing in found:
        _show_standing(standing)
    for row in corrupted:
        _show_corruptions(row)
    if not found:
        click.echo(f"\nNot evaluated yet. Next: harness eval {name} --adaptive")


def _show_defense(name: str) -> None:
    from dataclasses import asdict

    from harness.cli.tables import table
    from harness.defense import DEFENSES

    entry = DEFENSES[name]
    defense, settings = entry.compose({})
    click.echo(f"{name}: {entry.description}")
    arxiv = f" (arXiv:{entry.paper.arxiv})" if entry.paper.arxiv else ""
    click.echo(f"{entry.paper.title}{arxiv}\n")
    table("Composition", ("part", "is"), [list(p) for p in defense.composition().items()])
    table("\nSettings (--set KEY=VALUE)", ("key", "default"), _pairs(settings))
    table("\nRecipe at scale full", ("key", "value"), _pairs(asdict(entry.recipe)))


def _show_checkpoint(record: CheckpointRecord) -> None:
    from harness.cli.tables import table

    source = record.defense or record.model
    click.echo(f"{record.name}: {source} on {record.dataset}, {record.threat}")
    facts = {
        "architecture": record.architecture,
        "parameters": f"{record.parameters:,}",
        "scale": record.scale,
        "seed": str(record.seed),
        "weights": record.weights_sha256,
        "created": record.created,
        **{f"setting {key}": str(value) for key, value in record.settings.items()},
        **{f"recipe {key}": str(value) for key, value in record.recipe.items()},
        **{f"training {key}": str(value) for key, value in record.training.items()},
        **dict(record.composition),
    }
    table("", ("key", "value"), [[key, value] for key, value in facts.items() if value])


def _show_standing(standing: Standing) -> None:
    from harness.cli.tables import percent, standings_table, table

    click.echo("")
    standings_table([(standing.checkpoint, standing)])
    table(
        "",
        ("attack", "attacked", "broke", "accuracy", "union", "alone", "forwards", "backwards", "s"),
        [
            (
                attack.label,
                str(attack.attacked),
                str(attack.broken),
                percent(attack.robust) if attack.robust else "in part",
                percent(attack.union_after),
                "-" if attack.sole_breaks is None else str(attack.sole_breaks),
                f"{attack.forwards:,}",
                f"{attack.backwards:,}",
                f"{attack.seconds:.1f}",
            )
            for attack in standing.attacks
        ],
    )
    _show_evidence(standing)
    for failure in standing.failures:
        click.echo(f"failed ({failure.status}): {failure.attack}: {failure.message}")


def _show_evidence(standing: Standing) -> None:
    from harness.cli.tables import findings_table
    from harness.standings.levels import TITLES

    click.echo(f"\nEvidence level: {standing.level or 'none'}")
    for sentence in standing.lacking:
        click.echo(f"  lacking: {sentence}")
    if not standing.findings:
        click.echo(f"No diagnostic was run. Next: harness diagnose {standing.checkpoint.name}")
        return
    findings_table(f"\nDiagnostics: {standing.verdict}", standing.findings, TITLES)


def _show_corruptions(row: CorruptionStanding) -> None:
    from harness.cli.tables import cells_table, corruptions_table

    click.echo("")
    corruptions_table(f"{row.dataset}, corrupted images {row.pixels} ({row.made_by})", [row])
    cells_table(row)
    for failure in row.failures:
        click.echo(f"failed ({failure.status}): {failure.attack}: {failure.message}")


def _pairs(mapping: Mapping[str, object]) -> list[list[str]]:
    return [[str(key), str(value)] for key, value in mapping.items()]
