"""A finished run becomes a checkpoint: weights by SHA-256 and one record of plain values."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

import harness
from harness.catalogue import DEFENSES
from harness.data import Split
from harness.identity import CheckpointRecord, digest
from harness.models.network import parameter_count
from harness.models.weights import write_weights
from harness.training.loop import Trained
from harness.training.request import TrainingRequest


def checkpoint_record(
    request: TrainingRequest, trained: Trained, data: Split, folder: Path
) -> CheckpointRecord:
    """Write the weights of the deployed network and describe it."""
    network = trained.players.network
    weights, sha256 = write_weights(network.state_dict(), folder)
    defense = request.compose()
    entry = DEFENSES[request.defense]
    progress = trained.progress
    _, best = write_weights(trained.best, folder) if trained.best else ("", "")
    return CheckpointRecord(
        name=request.name,
        digest=model_digest(request, sha256),
        kind="trained",
        dataset=request.dataset.name,
        threat=request.threat,
        weights=weights,
        weights_sha256=sha256,
        capabilities=defense.capabilities(network, len(request.dataset.classes)),
        defense=request.defense,
        composition=defense.composition(),
        settings=dict(request.settings),
        architecture=request.architecture,
        architecture_settings=dict(request.architecture_settings),
        recipe=request.recipe.to_json(),
        scale=request.scale,
        seed=request.seed,
        parameters=parameter_count(network),
        paper=entry.paper.to_json(),
        training={
            "run": request.digest(data),
            "recipe": request.recipe_id,
            "teacher": request.teacher.name if request.teacher else "",
            "probed": trained.probed,
            "probe_held_out": trained.is_held_out,
            "best_epoch": trained.best_epoch,
            "best_weights": best,
            "collapsed_at": trained.collapse,
            "seconds": round(progress.seconds, 3),
            "device": trained.device,
            "images": data.sha256,
            "exact_images": "unknown" if data.is_exact is None else str(data.is_exact).lower(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "harness": harness.__version__,
        },
        curves={
            "loss": tuple(progress.losses),
            "seconds": tuple(round(value, 3) for value in progress.epoch_seconds),
            "probe_clean": tuple(progress.probe_clean),
            "probe_pgd": tuple(progress.probe_pgd),
            **{name: tuple(values) for name, values in progress.measures.items()},
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def model_digest(request: TrainingRequest, weights_sha256: str) -> str:
    """Identity of the deployed function and of its training loss, which attackers may climb."""
    return digest(
        [
            weights_sha256,
            request.defense,
            dict(request.settings),
            request.architecture,
            dict(request.architecture_settings),
            request.dataset.name,
        ]
    )
