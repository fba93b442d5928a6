"""The lazy record of a batch: everything at most once, attacks first and in evaluation mode."""

from dataclasses import replace

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
    Memory,
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


LABELS = torch.tensor([0, 1])


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
    network.head.scale = 15.0
    scaled = Answers(Outputs(logits), torch.tensor([0]), network)
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


# Memory, twins, schedules


def test_memory_makes_a_value_once_and_gives_what_was_written_last():
    memory = Memory(torch.zeros(3).long())
    made = []

    def fresh():
        made.append(1)
        return torch.zeros(2)

    first = memory.get("x", fresh)
    assert memory.get("x", fresh) is first
    memory.put("x", torch.ones(2, requires_grad=True) * 2)
    assert memory.get("x", fresh).tolist() == [2.0, 2.0]
    assert not memory.get("x", fresh).requires_grad
    assert len(made) == 1


def test_what_is_written_aside_is_forgotten():
    memory = Memory(torch.zeros(3).long())
    memory.put("known", torch.tensor(1.0))
    aside = memory.aside()
    assert aside.labels is memory.labels
    aside.put("known", torch.tensor(2.0))
    aside.get("fresh", lambda: torch.tensor(3.0))
    assert aside.values["known"].item() == 2.0
    assert {name: value.item() for name, value in memory.values.items()} == {"known": 1.0}


def test_a_look_at_another_network_keeps_the_attacked_images_and_forgets_what_it_writes():
    network, other, teacher = Recorder(), Recorder(), Recorder()
    batch = batch_of(
        network, maximiser=attack, negatives=source, companion=teacher, memory=Memory(LABELS),
        epoch=3, epochs=7, step=5, indices=torch.tensor([8, 9]), extras={"part": nn.Identity()},
        precision="float32",
    )  # fmt: skip
    batch.prepare({ADVERSARIAL, NEGATIVE})
    batch.survived = torch.tensor([1, 2])
    _ = batch.clean
    seen = len(network.passes)
    twin = batch.on(other)
    assert twin.adversarial_images is batch.adversarial_images
    assert twin.negatives is batch.negatives
    assert twin.survived is batch.survived
    for name in ("images", "labels", "epoch", "epochs", "step", "indices", "extras", "budget"):
        assert getattr(twin, name) is getattr(batch, name), name
    _ = twin.clean, twin.adversarial, twin.negative, twin.teacher
    twin.memory.put("state", torch.tensor(1.0))
    assert len(other.passes) == 3
    assert len(network.passes) == seen
    assert batch.memory.values == {}
    assert batch.teacher is twin.teacher
    assert len(teacher.passes) == 1


def test_the_teacher_passes_once_whichever_of_two_asks_first():
    teacher = Recorder()
    batch = batch_of(Recorder(), maximiser=attack, companion=teacher)
    _ = batch.teacher, batch.teacher_adversarial
    twin = batch.on(Recorder())
    assert twin.teacher is batch.teacher
    assert twin.teacher_adversarial is batch.teacher_adversarial
    assert len(teacher.passes) == 2


def test_a_batch_with_other_adversarial_images_computes_everything_anew():
    network = Recorder()
    batch = batch_of(network, maximiser=attack, memory=Memory(LABELS))
    batch.prepare({ADVERSARIAL})
    _ = batch.clean
    twin = batch.with_adversarial(image(0.7))
    before = len(network.passes)
    _ = twin.clean, twin.adversarial
    assert [first for _, first, _ in network.passes[before:]] == [0.1, 0.7]
    twin.memory.put("state", torch.tensor(1.0))
    assert batch.memory is twin.memory
    twin.measure("angle", torch.tensor(2.0, requires_grad=True))
    assert batch.measures["angle"].item() == 2.0
    assert not batch.measures["angle"].requires_grad


@pytest.mark.parametrize(("bn", "mode"), [("eval", False), ("train", True)])
def test_attacks_see_the_mode_that_the_recipe_names(bn, mode):
    network = Recorder().train()
    batch = batch_of(network)
    batch.budget = replace(batch.budget, bn=bn)
    with batch.attacking():
        assert network.training == mode
    assert network.training


@pytest.mark.parametrize(
    ("epoch", "epochs", "length", "stands_for"),
    [(70, 100, 100, 70), (70, 120, 100, 70), (15, 30, 100, 50), (1, 2, 100, 50), (2, 2, 100, 100)],
)
def test_an_epoch_stands_for_one_of_the_paper_s_run(epoch, epochs, length, stands_for):
    batch = batch_of(Recorder(), epoch=epoch, epochs=epochs)
    assert batch.epoch_of(length) == pytest.approx(stands_for)
