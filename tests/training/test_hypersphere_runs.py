"""Runs of the hypersphere family: stored, loaded back, resumed, and attacked by their own loss."""

import pytest
import torch
from torch.nn import functional

from harness.attacks.surfaces import Points
from harness.data.datasets import DATASETS
from harness.evaluation.subject import load_subject
from harness.training.checkpoint import checkpoint_record
from harness.training.loop import Training, train

RUNS = [
    ("pgd_at_fn", {"margin": 0.3}),
    ("pgd_at_wn", {"scale": 4.0, "margin": 0.3}),
    ("pgd_at_fn_wn", {}),
    ("pgd_at_he", {}),
    ("pgd_at_mhe", {}),
    ("pgd_at_he", {"weight_norm": "project"}),
    ("pgd_at_mhe", {"weight_norm": "project", "inner_scale": "1"}),
]


@pytest.mark.parametrize(("name", "settings"), RUNS)
def test_a_loaded_checkpoint_decides_as_trained_and_its_loss_has_scale_and_margin(
    name, settings, few, tiny, tmp_path
):
    request, data = tiny(name, settings=settings, epochs=1), few(64)
    trained = train(request, data, tmp_path)
    record = checkpoint_record(request, trained, data, tmp_path)
    subject = load_subject(record, tmp_path, DATASETS["digits"])
    images = (data.images.float() / 255)[:16]
    labels = data.labels[:16]
    deployed = subject.model(images).logits
    torch.testing.assert_close(deployed, trained.players.network(images).logits)
    value = subject.training_loss.value(images, Points(images, labels))
    full = request.settings
    margin = full.get("margin", 0.0) * functional.one_hot(labels, 10)
    expected = functional.cross_entropy(
        full["scale"] * (deployed - margin), labels, reduction="none"
    )
    torch.testing.assert_close(value, expected)
    assert subject.model.state_digest() == subject.state  # judging changed no weight


def test_a_projecting_run_goes_on_with_the_same_bits(few, tiny, tmp_path, same_bits):
    request, data = tiny("trades_he", settings={"weight_norm": "project"}), few(96)
    whole = train(request, data, tmp_path / "whole")
    run = Training(request, data, tmp_path / "parts", "cpu")
    run.one_epoch(None)
    resumed = train(request, data, tmp_path / "parts")
    assert same_bits(
        dict(whole.players.network.state_dict()), dict(resumed.players.network.state_dict())
    )


def test_projection_and_division_train_differently_from_the_second_step_on(few, tiny, tmp_path):
    runs = []
    for weight_norm in ("divide", "project"):
        request = tiny("pgd_at_he", settings={"weight_norm": weight_norm})
        run = Training(request, few(96), tmp_path, "cpu")
        run.step(0, 0, torch.arange(96))
        lengths = run.players.network.head.weight.norm(dim=1)
        runs.append((run.players.network.head.rows.detach(), lengths))
    (divided, short), (projected, unit) = runs
    assert not torch.equal(divided, projected)
    assert unit.sub(1).abs().max() < 0.2 < short.sub(1).abs().min()
