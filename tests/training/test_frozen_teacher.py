"""A stored checkpoint as the second network: it teaches and learns no more."""

import pytest
import torch

from harness.data.datasets import DATASETS
from harness.errors import HarnessError
from harness.training.checkpoint import checkpoint_record
from harness.training.estimate import seconds_per_step
from harness.training.loop import Training, train

DIGITS = DATASETS["digits"]


@pytest.fixture
def teacher(few, tiny, tmp_path):
    request, data = tiny("standard", settings={"epochs": 1, "width": 3}), few(64)
    return checkpoint_record(request, train(request, data, tmp_path), data, tmp_path)


@pytest.mark.parametrize("defense", ["trades_frpat", "trades_lbgat", "pgd_at_crd"])
def test_nothing_of_a_frozen_teacher_moves(defense, teacher, few, tiny, tmp_path):
    request, data = tiny(defense, teacher=teacher), few(64)
    run = Training(request, data, tmp_path, "cpu")
    companion = run.players.companion
    before = {name: value.clone() for name, value in companion.state_dict().items()}
    learning = {id(one) for group in run.optimiser.param_groups for one in group["params"]}
    assert not learning & {id(parameter) for parameter in companion.parameters()}
    assert learning >= {id(parameter) for parameter in run.players.network.parameters()}
    for step in range(2):
        run.step(0, step, run.order(0))
    assert not any(module.training for module in companion.modules())
    assert all(parameter.grad is None for parameter in companion.parameters())
    assert all(torch.equal(value, before[name]) for name, value in companion.state_dict().items())
    assert companion.trunk.conv1.weight.shape[0] == 3  # its own width, not the student's


def test_the_student_learns_something_else_than_beside_a_learning_teacher(
    teacher, few, tiny, tmp_path
):
    losses = [
        train(tiny("trades_frpat", teacher=chosen), few(64), tmp_path).progress.losses
        for chosen in (teacher, None)
    ]
    assert losses[0] != losses[1]


def test_a_run_with_a_frozen_teacher_is_another_run_and_says_whose_it_was(
    teacher, few, tiny, tmp_path
):
    data = few(64)
    alone = tiny("trades_frpat")
    request = tiny("trades_frpat", teacher=teacher)
    assert request.digest(data) != alone.digest(data)
    record = checkpoint_record(request, train(request, data, tmp_path), data, tmp_path)
    assert record.training["teacher"] == teacher.name
    assert "frozen True" in record.composition["companion"]


def test_a_killed_run_goes_on_with_the_same_teacher(
    teacher, few, tiny, tmp_path, same_bits, monkeypatch
):
    request, data = tiny("trades_frpat", teacher=teacher), few(64)
    whole = train(request, data, tmp_path).players.network.state_dict()
    for path in tmp_path.glob("unfinished-*"):
        path.unlink()
    real = Training._probe

    def killed(self):
        if len(self.progress.losses) == 2:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_probe", killed)
        with pytest.raises(KeyboardInterrupt):
            train(request, data, tmp_path)
    resumed = train(request, data, tmp_path)
    assert same_bits(dict(resumed.players.network.state_dict()), dict(whole))
    assert not resumed.players.companion.training


def test_a_teacher_whose_weights_are_gone_is_told(teacher, few, tiny, tmp_path):
    with pytest.raises(HarnessError, match=f"weights of '{teacher.name}' are not here"):
        Training(tiny("trades_frpat", teacher=teacher), few(64), tmp_path / "elsewhere", "cpu")


def test_an_estimate_finds_the_teacher_where_its_weights_are(teacher, few, tiny, tmp_path):
    request = tiny("trades_frpat", teacher=teacher)
    assert seconds_per_step(request, few(64), "cpu", weights=tmp_path) > 0
