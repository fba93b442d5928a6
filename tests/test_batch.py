"""The lazy record of a batch: everything at most once, attacks first and in evaluation mode."""

import pytest
import torch
from torch import nn

from harness.batch import (
    ADVERSARIAL,
    CLEAN,
    NEGATIVE,
    Answers,
    Batch,
    InnerBudget,
    Negatives,
    PerHead,
    evaluating,
)
from harness.heads.linear import Linear
from harness.outputs import Outputs
from harness.threat import ThreatModel


class Recorder(nn.Module):
    """Writes down every pass: mode, first pixel, selection."""

    hook = None

    def __init__(self):
        super().__init__()
        self.head = Linear().build(2, 2)
        self.passes = []

    def forward(self, images, *, select=None):
        gate = None if select is None else select.tolist()
        self.passes.append((self.training, round(float(images.flatten()[0]), 2), gate))
        features = images.flatten(1)[:, :2]
        return Outputs(self.head(features), (), features)


def image(value):
    return torch.full((2, 1, 1, 2), value)


def batch_of(network, **parts):
    return Batch(
        network,
        image(0.1),
        torch.tensor([0, 1]),
        budget=InnerBudget(ThreatModel.parse("linf", "1/5"), 1, 0.1),
        combine=PerHead(),
        generator=torch.Generator(),
        **parts,
    )


def attack(batch):
    with evaluating(batch.network):
        batch.answers(image(0.2), batch.labels, select=None)
    return image(0.3)


def source(batch):
    with evaluating(batch.network):
        batch.answers(image(0.4), batch.labels, select=None)
    return Negatives(image(0.5), torch.tensor([1, 0]), torch.tensor([True, True]))


def test_attacks_come_first_then_one_train_mode_pass_per_need_with_its_own_gate():
    network = Recorder().train()
    batch = batch_of(network, maximiser=attack, negatives=source, companion=Recorder().train())
    batch.prepare({CLEAN, ADVERSARIAL, NEGATIVE})
    for _ in range(2):
        _ = batch.clean, batch.adversarial, batch.negative, batch.teacher
    assert network.passes == [
        (False, 0.4, None),
        (False, 0.2, None),
        (True, 0.1, [0, 1]),
        (True, 0.3, [0, 1]),
        (True, 0.5, [1, 0]),
    ]
    assert batch.companion.passes == [(True, 0.1, None)]


def test_nothing_that_is_not_needed_is_computed():
    network = Recorder()
    batch = batch_of(network, maximiser=attack, negatives=source)
    batch.prepare({CLEAN})
    assert network.passes == []
    _ = batch.clean
    assert len(network.passes) == 1


def test_answers_scale_what_is_not_scaled_yet():
    logits = torch.tensor([[1.0, 2.0]])
    network = Recorder()
    plain = Answers(Outputs(logits, (logits + 1,)), torch.tensor([0]), network)
    assert plain.count == 2
    assert plain.scaled() is plain.deployed() is logits
    assert torch.equal(plain.deployed(1), logits + 1)
    scaled = Answers(Outputs(logits, logit_scale=15.0), torch.tensor([0]), network)
    assert torch.equal(scaled.scaled(), 15 * logits)
    assert torch.equal(scaled.deployed(), logits)


def test_answers_without_features_say_so():
    with pytest.raises(ValueError, match="no features"):
        _ = Answers(Outputs(torch.zeros(1, 2)), torch.tensor([0]), Recorder()).features


def test_evaluating_restores_every_mode_even_after_an_error():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()).train()
    network[1].eval()
    with pytest.raises(ZeroDivisionError), evaluating(network):
        print(1 / sum(module.training for module in network.modules()))
    assert [module.training for module in network.modules()] == [True, True, False]


def test_features_are_those_before_any_gate():
    network = Recorder()
    assert torch.equal(batch_of(network).clean.features, image(0.1).flatten(1))


@pytest.mark.parametrize(
    ("weight", "outputs", "total"), [(2.0, 3, 6.0), (0.5, 2, 2.0), (0.0, 3, 1.0)]
)
def test_per_head_weighs_the_mean_of_the_auxiliary_losses(weight, outputs, total):
    values = [torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([3.0])]
    assert PerHead(weight)(values.__getitem__, outputs).item() == total
