"""Self-adaptive training in real runs: its targets are those of the learnt images, and resume."""

import torch
from torch.nn import functional

from harness.training.loop import Training, train


def test_a_resumed_run_ends_with_the_bits_and_the_targets_of_one_in_a_piece(
    few, tiny, tmp_path, same_bits
):
    request, data = tiny("sat", settings={"target_first_epoch": 1}), few(96)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    train(request, data, whole)
    Training(request, data, parts, "cpu").one_epoch(None)  # and killed
    train(request, data, parts)
    first, second = (Training(request, data, folder, "cpu") for folder in (whole, parts))
    assert first.memory.values.keys() == {"self_adaptive.targets", "self_adaptive.latest"}
    assert same_bits(first.memory.values, second.memory.values)
    assert same_bits(first.players.network.state_dict(), second.players.network.state_dict())


def test_targets_belong_to_the_learnt_images_whatever_their_order(few, tiny, tmp_path):
    request, data = tiny("sat", settings={"target_first_epoch": 1}), few(96)
    run = Training(request, data, tmp_path, "cpu")
    run.one_epoch(None)
    targets = run.memory.values["self_adaptive.targets"]
    labels = functional.one_hot(data.labels, 10).float()
    has_moved = (targets != labels).any(1)
    assert has_moved.nonzero().flatten().tolist() == run.division.learnt.tolist()
    assert torch.equal(targets.argmax(1), data.labels)  # one step leaves 0.9 on the label
    assert (targets.sum(1) - 1).abs().max() < 1e-6
