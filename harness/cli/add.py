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
@options.everywhere
def add(
    name: str,
    model: str,
    weights: Path,
    dataset: str,
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
    """
    del device
    from harness.data import dataset as dataset_named
    from harness.evaluation.recording import explained
    from harness.evaluation.third_party import added_record

    options.speak(quiet=quiet, verbose=verbose)
    options.check_new_name(name)
    known = dataset_named(dataset)
    with options.open_store(db) as store, options.models_print_to_stderr():
        record = added_record(name, model, weights, known, options.checkpoint_folder(store))
        store.add_checkpoint(record)
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
