"""A kill costs at most 10 minutes of training, however slow a step is, and no number of it."""

from __future__ import annotations

import pytest
import torch

from harness.training import loop
from harness.training.loop import Training, train

PROMISED = 600.0


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("step", "probe"), [(1.0, 520.0), (40.0, 300.0), (250.0, 540.0)])
def test_never_more_than_10_minutes_of_training_are_not_on_the_disk(
    few, tiny, tmp_path, monkeypatch, step, probe
):
    request, data = tiny("standard", settings={"batch_size": 8}), few()
    clock, saved, longest = Clock(), [1000.0], [0.0]

    def passing(function, seconds):
        def passed(*arguments):
            clock.now += seconds
            longest.append(clock.now - saved[-1])
            return function(*arguments)

        return passed

    def save(*_):
        saved.append(clock.now)

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "save_state", save)
    monkeypatch.setattr(Training, "step", passing(Training.step, step))
    monkeypatch.setattr(Training, "_probe", passing(Training._probe, probe))
    train(request, data, tmp_path)
    assert max(longest) <= PROMISED
    assert len(saved) >= 3


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run goes on after it."""


def test_a_run_that_was_killed_while_it_was_probed_probes_again_and_ends_the_same(
    few, tiny, tmp_path, monkeypatch
):
    request, data = tiny("trades"), few()
    whole = train(request, data, tmp_path / "whole")
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_probe", kill)
        with pytest.raises(Killed):
            train(request, data, tmp_path / "killed")
    run = Training(request, data, tmp_path / "killed", "cpu")
    assert (run.progress.steps, len(run.progress.probe_pgd)) == (run.steps_per_epoch, 0)
    resumed = train(request, data, tmp_path / "killed")
    for name, values in whole.players.network.state_dict().items():
        assert torch.equal(values, resumed.players.network.state_dict()[name])
    assert resumed.progress.probe_pgd == whole.progress.probe_pgd
    assert resumed.progress.losses == whole.progress.losses  # though they were added up otherwise
    assert resumed.best.keys() == whole.best.keys()


def kill(*_: object) -> None:
    raise Killed
