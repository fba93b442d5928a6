"""`harness train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.data.splits import Split
    from harness.identity import CheckpointRecord
    from harness.store.store import Store
    from harness.training.request import TrainingRequest


@click.command()
@click.argument("defense")
@click.option("--dataset", required=True, help="Name, folder:PATH or parquet:PATH.")
@options.DATA_DIR
@click.option("--arch", help="Architecture; default: the recipe's.")
@click.option("--scale", help="smoke, reduced or full; default: smoke on digits, else reduced.")
@click.option("--recipe", metavar="ID", help="Training recipe; default: the paper's.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--seed", type=options.SEED, default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@click.option("--teacher", metavar="NAME", help="Stored checkpoint as frozen second network.")
@click.option("--name", help="Default: DEFENSE-DATASET-ARCH-SCALE-sSEED.")
@options.NORM
@click.option("--epsilon", metavar="E", help="Such as 8/255; default: the recipe's or dataset's.")
@options.NO_DOWNLOAD
@options.DRY_RUN
@options.everywhere
def train(
    defense: str,
    dataset: str,
    data_dir: Path | None,
    arch: str | None,
    scale: str | None,
    recipe: str | None,
    epochs: int | None,
    seed: int,
    settings: tuple[str, ...],
    teacher: str | None,
    name: str | None,
    norm: str | None,
    epsilon: str | None,
    no_download: bool,
    dry_run: bool,
    db: str | None,
    device: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train DEFENSE and store the checkpoint. Run it again to go on after a kill.

    KEY of --set is a setting of the defense, the architecture or the recipe; write defense.KEY,
    arch.KEY or recipe.KEY where two of them have it. `harness show DEFENSE` lists them.
    """
    from harness.data import dataset as dataset_named
    from harness.data import load
    from harness.training.request import training_request
    from harness.training.state import only_one

    options.speak(quiet=quiet, verbose=verbose)
    known = dataset_named(dataset)
    frozen, weights = _stored(teacher, db) if teacher else (None, None)
    is_asked = norm is not None or epsilon is not None
    request = training_request(
        defense,
        known,
        architecture=arch,
        scale=scale,
        epochs=epochs,
        seed=seed,
        settings=options.parse_settings(settings),
        threat=options.chosen_threat(norm, epsilon, known.threat) if is_asked else None,
        name=name,
        recipe_id=recipe,
        teacher=frozen,
    )
    options.check_new_name(request.name)
    chosen = options.chosen_device(device)
    data = load(dataset, "train", data_dir=data_dir, download=not no_download)
    if data.is_exact is False:
        options.say(
            f"these are not the published pixels of {dataset}: every result will say so.",
            quiet=quiet,
        )
    if dry_run:
        _estimate(request, data, chosen, weights)
        return
    with options.open_store(db) as store:
        if _is_done(store, request, data):
            options.say(f"{request.name} is trained already: nothing to do.", quiet=quiet)
            return
        with only_one(options.checkpoint_folder(store), request.name, f"'{request.name}'"):
            if not _is_done(store, request, data):  # the one we would have met may have finished
                _train(store, request, data, chosen, quiet=quiet)


def _stored(name: str, db: str | None) -> tuple[CheckpointRecord, Path]:
    """The checkpoint of that name and the folder in which its weights lie."""
    from harness.rebuilding import weights_file

    with options.open_store(db, create=False) as store:
        record, folder = store.checkpoint(name), options.checkpoint_folder(store)
    weights_file(record, folder)
    return record, folder


def _is_done(store: Store, request: TrainingRequest, data: Split) -> bool:
    from harness.errors import HarnessError

    taken = {record.name: record for record in store.checkpoints()}.get(request.name)
    if taken is None:
        return False
    if taken.training.get("run") != request.digest(data):
        raise HarnessError(
            f"the name '{request.name}' is taken by another recipe. Choose --name, or remove it "
            f"with: harness remove {request.name}"
        )
    return True


def _train(
    store: Store, request: TrainingRequest, data: Split, device: str, *, quiet: bool
) -> None:
    from harness.cli.progress import Display, TrainingDisplay
    from harness.runlog import event
    from harness.training.checkpoint import checkpoint_record
    from harness.training.loop import discard_state, train

    folder = options.checkpoint_folder(store)
    run = store.start_run(
        f"train {request.name}", versions=options.versions(), device=options.device_name(device)
    )
    facts = {"name": request.name, "seed": request.seed}
    with options.logged(store, "train", device=device, **facts), Display(quiet=quiet) as display:
        report = TrainingDisplay(display, request.name)
        trained = train(request, data, folder, device=device, report=report)
        record = checkpoint_record(request, trained, data, folder)
        store.add_checkpoint(record)
        event("trained", name=record.name, checkpoint=record.digest, weights=record.weights_sha256)
    store.finish_run(run)
    discard_state(request, data, folder)
    if not quiet:
        click.echo(
            f"{record.name}: {record.parameters:,} parameters, trained in "
            f"{trained.progress.seconds:.0f} s, weights {record.weights_sha256[:12]}"
        )
    options.say(f"Next: harness eval {record.name} --adaptive", quiet=quiet)


def _estimate(request: TrainingRequest, data: Split, device: str, weights: Path | None) -> None:
    from harness.training.estimate import seconds_per_step, steps_per_epoch

    steps = steps_per_epoch(request, data)
    seconds = seconds_per_step(request, data, device, weights=weights)
    total = seconds * steps * request.recipe.epochs
    recipe = request.recipe
    click.echo(
        f"{request.name}: recipe {request.recipe_id}, {recipe.architecture}, {request.threat}, "
        f"{recipe.inner_steps} inner steps of {recipe.relative_step:.3g} epsilon, "
        f"{recipe.precision}"
    )
    click.echo(
        f"{request.name}: {request.recipe.epochs} epochs of {steps} steps at about {seconds:.2g} s "
        f"on {device}: about {options.duration(total)}. Nothing was trained."
    )
