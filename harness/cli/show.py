"""`harness show`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from harness.cli import options
from harness.cli.catalogue_cache import are_texts, remembered
from harness.cli.defense_page import Block, defense_page, is_page, print_page, quoted_page
from harness.cli.options import tell
from harness.errors import HarnessError
from harness.identity import EXACT

if TYPE_CHECKING:
    from harness.identity import CheckpointRecord
    from harness.standings import AttackStanding, Standing
    from harness.standings.corruptions import CorruptionStanding

Names = dict[str, list[str]]


@click.command()
@click.argument("name")
@options.everywhere
def show(name: str, db: str | None, device: str, quiet: bool, verbose: bool) -> None:
    """Show checkpoint NAME with all its attacks, or how defense NAME is made.

    A defense is a name of `harness list defenses` or BASE+ADDITION.
    """
    del device, quiet, verbose
    names = _names()
    if _is_defense(name, names) or name in names["quoted"]:
        print_page(remembered(f"show {name}", lambda: _page(name), is_page))
        return
    from harness.standings import boards
    from harness.standings.corruptions import corruption_standings

    try:
        store = options.open_store(db, create=False, read_only=True)
    except HarnessError:
        if name.partition("+")[0] in names["defenses"]:  # parts: no checkpoint can be meant
            raise _nothing(name, (), names) from None
        raise
    with store:
        known = {record.name: record for record in store.checkpoints()}
        if name not in known:
            raise _nothing(name, known, names)
        record = known[name]
        found = [s for board in boards(store) for s in board.standings if s.checkpoint.name == name]
        corrupted = corruption_standings(store, record)
    _show_checkpoint(record)
    for standing in found:
        _show_standing(standing)
    for row in corrupted:
        _show_corruptions(row)
    if not found:
        tell(f"\nNot evaluated yet. Next: harness eval {name} --adaptive")


def _page(name: str) -> list[Block]:
    from harness.catalogue import DEFENSES

    return [*(defense_page(name) if name in DEFENSES else quoted_page(name))]


def _names() -> Names:
    """Every name of the catalogue: of `defenses`, `additions` and what is only `quoted`."""
    found: Names = remembered("names", _listed_names, _are_names)
    return found


def _listed_names() -> Names:
    from harness.catalogue import ADDITIONS, DEFENSES, QUOTED

    return {"defenses": [*DEFENSES], "additions": [*ADDITIONS], "quoted": [*QUOTED]}


def _are_names(found: object) -> bool:
    kinds = ("defenses", "additions", "quoted")
    return isinstance(found, dict) and all(are_texts(found.get(kind)) for kind in kinds)


def _is_defense(name: str, known: Names) -> bool:
    base, *additions = name.split("+")
    return base in known["defenses"] and {*additions} <= {*known["additions"]}


def _nothing(name: str, checkpoints: Iterable[str], known: Names) -> HarnessError:
    """The error for a name that neither a checkpoint nor a defense has."""
    from harness.errors import unknown_name

    base, *additions = name.split("+")
    if additions and base in known["defenses"]:
        wrong = next(one for one in additions if one not in known["additions"])
        return unknown_name("addition", wrong, known["additions"])
    every = [*checkpoints, *known["defenses"], *known["quoted"]]
    return unknown_name("checkpoint or defense", name, every)


def _show_checkpoint(record: CheckpointRecord) -> None:
    from harness.cli.tables import table

    source = record.defense or record.model
    tell(f"{record.name}: {source} on {record.dataset}, {record.threat}")
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
        **{f"paper {key.replace('_', ' ')}": value for key, value in record.paper.items()},
    }
    table("", ("key", "value"), [[key, value] for key, value in facts.items() if value])


def _show_standing(standing: Standing) -> None:
    from harness.cli.tables import percent, standings_table, table

    tell("")
    standings_table([(standing.checkpoint, standing)])
    table(
        "",
        ("attack", "attacked", "broke", "accuracy", "union", "alone", "forwards", "backwards", "s"),
        [
            (
                _label(attack),
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
        tell(f"failed ({failure.status}): {failure.attack}: {failure.message}")


def _show_evidence(standing: Standing) -> None:
    from harness.cli.tables import findings_table
    from harness.standings.levels import TITLES

    tell(f"\nEvidence level: {standing.level or 'none'}")
    for sentence in standing.lacking:
        tell(f"  lacking: {sentence}")
    if not standing.findings:
        tell(f"No diagnostic was run. Next: harness diagnose {standing.checkpoint.name}")
        return
    findings_table(f"\nDiagnostics: {standing.verdict}", standing.findings, TITLES)


def _show_corruptions(row: CorruptionStanding) -> None:
    from harness.cli.tables import cells_table, corruptions_table

    tell("")
    corruptions_table(f"{row.dataset}, corrupted images {row.pixels} ({row.made_by})", [row])
    cells_table(row)
    for failure in row.failures:
        tell(f"failed ({failure.status}): {failure.attack}: {failure.message}")


def _label(attack: AttackStanding) -> str:
    """What an attack is called, and what it differentiated where that is not the model itself."""
    if attack.precisions == (EXACT,):
        return attack.label
    return f"{attack.label} ({', '.join(attack.precisions)})"
