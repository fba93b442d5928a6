"""Weight perturbation (`baselines.md` sections 8 and 17): where it goes, what it keeps."""

import dataclasses

import pytest
import torch
from torch import nn

from harness.batch import Batch, InnerBudget, Memory, PerHead
from harness.defense import Companion, Defense
from harness.heads.linear import Linear
from harness.maximisers.pgd import Pgd
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.objectives.trades import Trades
from harness.steps.weight_perturbation import WeightPerturbation, direction
from harness.threat import ThreatModel

SHAPE = (1, 8, 8)


def network_of(seed=0):
    torch.manual_seed(seed)
    trunk = ARCHITECTURES["small_resnet"].build(SHAPE, width=2)
    return Network(trunk, Linear().build(trunk.features, 3)).train()


def batch_of(network, **parts):
    draws = torch.Generator().manual_seed(0)
    return Batch(
        network,
        torch.rand(6, *SHAPE, generator=draws),
        torch.arange(6) % 3,
        budget=InnerBudget(ThreatModel.parse("linf", "1/10"), 2, 0.03),
        combine=PerHead(),
        generator=draws,
        maximiser=Pgd(),
        **parts,
    )


TRADES = Defense(Trades(), maximiser=Pgd())


@pytest.mark.parametrize(("gamma", "moved"), [(0.01, [3, 3.95]), (0.005, [3, 3.975])])
def test_a_tensor_moves_by_its_own_norm_along_the_gradient(gamma, moved):
    weight = torch.tensor([[3.0, 4.0]])
    gradient = torch.tensor([[0.0, -2.0]])
    found = direction(weight, 0.01 * gradient)
    assert found.tolist() == [[0.0, -5.0]]
    assert (weight + gamma * found).flatten().tolist() == pytest.approx(moved)
    assert direction(weight, torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_inside_every_matrix_is_where_the_loss_of_the_copy_climbs_and_after_it_is_back():
    network = network_of()
    batch = batch_of(network)
    batch.prepare(TRADES.needs)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    twin = network_of()
    twin.load_state_dict(network.state_dict())
    twin_batch = batch_of(twin, memory=Memory(batch.labels))
    twin_batch.adversarial_images = batch.adversarial_images
    TRADES.loss(twin_batch).backward()
    gradients = {name: value.grad for name, value in twin.named_parameters()}
    with WeightPerturbation(gamma=0.01)(batch, TRADES.loss):
        for name, value in network.named_parameters():
            moved = value.detach() - before[name]
            if value.dim() > 1:
                gradient = gradients[name]
                expected = 0.01 * before[name].norm() * gradient / gradient.norm()
                torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-6)
            else:
                assert (moved == 0).all(), name
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name])


def test_the_loss_is_higher_where_the_weights_are_worst():
    network = network_of()
    batch = batch_of(network)
    batch.prepare(TRADES.needs)
    plain = TRADES.loss(batch.on(network)).item()
    with WeightPerturbation(gamma=0.05)(batch, TRADES.loss):
        assert TRADES.loss(batch.on(network)).item() > plain


def test_weights_come_back_after_an_error_too():
    network = network_of()
    batch = batch_of(network)
    batch.prepare(TRADES.needs)
    before = [value.detach().clone() for value in network.parameters()]
    with (
        pytest.raises(ZeroDivisionError),
        WeightPerturbation(gamma=0.5)(batch, TRADES.loss),
    ):
        print(1 / 0)
    assert all(map(torch.equal, network.parameters(), before))


def counting(batch):
    """A loss that remembers how often it was asked."""
    count = batch.memory.get("count", lambda: torch.zeros(()))
    batch.memory.put("count", count + 1)
    return TRADES.loss(batch)


def test_the_copy_leaves_statistics_gradients_memory_and_streams_alone():
    network = network_of()
    batch = batch_of(network)
    batch.prepare(TRADES.needs)
    state = {name: value.clone() for name, value in network.named_buffers()}
    stream, drawn = torch.get_rng_state(), batch.generator.get_state()
    with WeightPerturbation()(batch, counting):
        assert all(torch.equal(value, state[name]) for name, value in network.named_buffers())
        assert "count" not in batch.memory.values
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not {"clean", "adversarial"} & batch.__dict__.keys()
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(batch.generator.get_state(), drawn)


@pytest.mark.parametrize(
    ("perturbation", "epoch"),
    [(WeightPerturbation(gamma=0.0), 1), (WeightPerturbation(first_epoch=10), 9)],
    ids=["gamma 0", "before the first epoch"],
)
def test_where_nothing_moves_the_loss_is_not_even_asked(perturbation, epoch):
    batch = batch_of(network_of(), epoch=epoch, epochs=200)
    before = [value.detach().clone() for value in batch.network.parameters()]
    with perturbation(batch, None):
        assert all(map(torch.equal, batch.network.parameters(), before))


@pytest.mark.parametrize(
    ("epoch", "epochs", "moves"),
    [
        (9, 200, False),
        (10, 200, True),
        (1, 20, True),
        (1, 40, False),
        (2, 40, True),
        (9, 400, False),
    ],
)
def test_the_first_epoch_is_counted_in_the_run_of_the_authors(epoch, epochs, moves):
    network = network_of()
    batch = batch_of(network, epoch=epoch, epochs=epochs)
    batch.prepare(TRADES.needs)
    before = network.head.weight.detach().clone()
    with WeightPerturbation(gamma=0.1, first_epoch=10, run_length=200)(batch, TRADES.loss):
        assert (not torch.equal(network.head.weight, before)) == moves


def test_a_second_network_passes_once_and_does_not_move():
    taught = dataclasses.replace(TRADES, companion=Companion())
    teacher = network_of(1)
    batch = batch_of(network_of(), companion=teacher)
    batch.prepare(taught.needs)
    before = [value.detach().clone() for value in teacher.parameters()]
    with WeightPerturbation(gamma=0.1)(batch, taught.loss):
        assert all(map(torch.equal, teacher.parameters(), before))
        taught.loss(batch).backward()
    counts = {
        int(module.num_batches_tracked)
        for module in teacher.modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert counts == {1}
    assert all(parameter.grad is not None for parameter in teacher.parameters())
