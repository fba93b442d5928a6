"""`harness add`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options


@click.command()
@click.argument("name")
@click.option(
    "--model", required=True, help="FILE.py:CALLABLE, package.module:CALLABLE or architecture."
)
@click.option("--weights", required=True, type=click.Path(path_type=Path), help="State dict.")
@click.option("--dataset", required=True, help="What it decides on.")
@click.option(
    "--card", type=click.Path(path_type=Path), help="YAML: paper, extra_data, note; see below."
)
@options.everywhere
def add(
    name: str,
    model: str,
    weights: Path,
    dataset: str,
    card: Path | None,
    db: str | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Add a model trained elsewhere, unchanged, as checkpoint NAME.

    CALLABLE takes no argument and returns an nn.Module from images [N, C, H, W] in [0, 1] to
    logits [N, K], or to harness.outputs.Outputs. Its code runs; the weights are only read, as
    safetensors or a plain PyTorch state dict. Plain networks in the public layouts need no code:
    name their architecture (harness list architectures).

    One forward pass is recorded: hard operations, hidden heads, randomness and other signs that
    standard attacks would see a wrong gradient are printed with the attacks that answer them.

    A card may say where the model comes from: `paper` with `title`, `authors`, `venue`, `year`,
    `arxiv` and `url`, `extra_data` (what else it was trained on) and `note`. It is shown as text.
    """
    from dataclasses import replace

    from harness.cards import read_card
    from harness.data import dataset as dataset_named
    from harness.evaluation.recording import explained
    from harness.evaluation.third_party import added_record
    from harness.runlog import event

    options.speak(quiet=quiet, verbose=verbose)
    options.check_new_name(name)
    paper = read_card(card) if card else {}
    known = dataset_named(dataset)
    with (
        options.open_store(db) as store,
        options.logged(store, "add", device=options.chosen_device(device)),
        options.models_print_to_stderr(),
    ):
        record = added_record(name, model, weights, known, options.checkpoint_folder(store))
        record = replace(record, paper=paper)
        store.add_checkpoint(record)
        event("added", name=name, checkpoint=record.digest, weights=record.weights_sha256)
    seen = record.capabilities
    if not quiet:
        click.echo(
            f"{name}: {record.parameters:,} parameters, {seen.classes} classes, "
            f"{seen.auxiliary} auxiliary outputs"
            f"{', a class-conditional gate' if seen.select else ''}"
        )
        for line in explained(seen):
            click.echo(f"  {line}")
        if seen.needs_adaptive:
            click.echo(
                "Standard attacks may miss this: the adaptive protocol is compulsory, without it "
                "the row stays at level E1."
            )
    options.say(f"Next: harness eval {name} --adaptive", quiet=quiet)
