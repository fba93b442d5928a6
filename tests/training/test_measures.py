"""What parts measure becomes one number per epoch, whatever kills the run in between."""

import math

import pytest
import torch

from harness.defense import Defense
from harness.models.weights import read_weights
from harness.training import loop
from harness.training.loop import Taken, Training, train
from harness.training.state import state_file

STEPS = 7


@pytest.fixture
def measuring(monkeypatch):
    """Losses that measure their step, and from epoch 2 on something else at every other step."""
    real = Defense.loss

    def loss(self, batch):
        batch.measure("place", torch.tensor(10.0 * batch.epoch + batch.step))
        if batch.epoch > 1 and batch.step % 2:
            batch.measure("odd", torch.tensor(float(batch.step)))
        return real(self, batch)

    monkeypatch.setattr(Defense, "loss", loss)


EXPECTED = {"place": [13.0, 23.0], "odd": [math.nan, 3.0]}


def test_measures_are_means_of_the_steps_that_took_them(measuring, few, tiny, tmp_path, same_bits):
    assert same_bits(train(tiny("standard"), few(), tmp_path).progress.measures, EXPECTED)


@pytest.mark.parametrize(("epoch", "step"), [(0, 3), (1, 2), (1, 6)])
def test_measures_survive_a_kill_in_mid_epoch(
    epoch, step, measuring, few, tiny, tmp_path, monkeypatch, same_bits
):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "_CHECK_EVERY", 2)
    request, data, real = tiny("standard"), few(), Training.step

    def killed(self, *at):
        if at[:2] == (epoch, step):
            raise KeyboardInterrupt
        return real(self, *at)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(request, data, tmp_path)
    state = read_weights(state_file(tmp_path, request.digest(data)))
    assert state["progress"]["steps"] == epoch * STEPS + step  # in mid-epoch
    progress = train(request, data, tmp_path).progress
    assert same_bits(progress.measures, EXPECTED)
    assert progress.sums == {}


def test_a_curve_names_its_measures_in_the_same_order_in_every_process(few, tiny, tmp_path):
    run = Training(tiny("standard"), few(), tmp_path, "cpu")
    names = [f"name {n}" for n in range(20)]
    measures = {name: torch.tensor(1.0) for name in reversed(names)}
    run._look([Taken(torch.tensor(0.0), measures)], 0, 0)
    run._close_epoch()
    assert list(run.progress.measures) == sorted(names)
