"""AWP on real training steps: passes, second networks, and the authors' order of moves."""

import copy

import pytest
import torch
from torch import nn

from harness.catalogue import DEFENSES
from harness.data.datasets import DATASETS
from harness.errors import HarnessError
from harness.recipe import RECIPES
from harness.training.loop import Training
from harness.training.request import training_request


def run_of(request, data, folder, steps):
    run = Training(request, data, folder, "cpu")
    order = torch.arange(len(data))
    for step in range(steps):
        run.step(step // run.steps_per_epoch, step % run.steps_per_epoch, order)
    return run


def passes(network):
    return {
        int(module.num_batches_tracked)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    }


def at(tiny, name, **settings):
    return tiny(name, settings={"awp_first_epoch": 0, **settings})


def test_without_a_move_it_is_the_base_bit_for_bit(few, tiny, tmp_path, same_bits):
    base = run_of(tiny("trades"), few(64), tmp_path, 3).players.network
    still = run_of(at(tiny, "awp", awp_gamma=0.0), few(64), tmp_path, 3).players.network
    moved = run_of(at(tiny, "awp"), few(64), tmp_path, 3).players.network
    assert same_bits(dict(base.state_dict()), dict(still.state_dict()))
    assert not torch.equal(base.head.weight, moved.head.weight)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("pgd_at+awp", [{2}]),
        ("trades+awp", [{4}]),
        ("trades_frpat+awp", [{4}, {2}]),
        ("pgd_at+lbgat+awp", [{2}, {2}]),
    ],
)
def test_batch_norm_counts_no_pass_twice(name, counts, few, tiny, tmp_path):
    run = run_of(at(tiny, name, attack_bn="eval"), few(64), tmp_path, 2)
    assert [passes(network) for network in run.players.modules().values()] == counts


def test_a_second_network_learns_as_if_no_weight_were_moved(few, tiny, tmp_path, same_bits):
    plain = run_of(tiny("trades_frpat"), few(64), tmp_path, 4).players
    moved = run_of(at(tiny, "trades_frpat+awp"), few(64), tmp_path, 4).players
    teachers = [dict(players.companion.state_dict()) for players in (plain, moved)]
    assert same_bits(*teachers)
    assert not torch.equal(plain.network.head.weight, moved.network.head.weight)


def by_hand(network, loss, gamma, rate):
    """One update in the authors' order: a proxy steps, the model moves, steps and moves back."""
    proxy = copy.deepcopy(network)
    stepping = torch.optim.SGD(proxy.parameters(), lr=0.01)
    (-loss(proxy)).backward()
    stepping.step()
    theirs = proxy.state_dict()
    moves = {}
    for name, weight in network.state_dict().items():
        if "weight" in name and weight.dim() > 1:
            gap = theirs[name] - weight
            moves[name] = gamma * weight.norm() / (gap.norm() + 1e-20) * gap
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, move in moves.items():
            parameters[name] += move
    stepping = torch.optim.SGD(network.parameters(), lr=rate)
    loss(network).backward()
    stepping.step()
    with torch.no_grad():
        for name, move in moves.items():
            parameters[name] -= move
    return network


@pytest.mark.parametrize(("base", "gamma"), [("pgd_at", 0.01), ("trades", 0.005)])
def test_one_update_is_that_of_the_authors_order_of_moves(base, gamma, few, tiny, tmp_path):
    plain_sgd = {"weight_decay": 0.0, "momentum": 0.0, "schedule": "drops", "attack_bn": "eval"}
    request = at(tiny, "awp", base=base, awp_gamma=gamma, **plain_sgd)
    data = few(33)
    run = Training(request, data, tmp_path, "cpu")
    order = torch.arange(len(data))
    batch = run._batch(0, 0, order)
    defense = DEFENSES[base].compose({"start": "uniform"} if base == "pgd_at" else {})[0]
    batch.prepare(defense.needs)

    def loss(network):
        return defense.loss(batch.on(network))

    expected = by_hand(copy.deepcopy(run.players.network), loss, gamma, 0.1)
    run.step(0, 0, order)
    found = dict(run.players.network.named_parameters())
    for name, value in expected.named_parameters():
        torch.testing.assert_close(found[name], value, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("base", "settings", "recipe"),
    [
        ("trades", {"awp_gamma": 0.005, "awp_first_epoch": 10}, "AWP"),
        ("pgd_at", {"awp_gamma": 0.01, "awp_first_epoch": 0}, "AWP-AT"),
    ],
)
def test_each_base_has_the_authors_settings_and_recipe(base, settings, recipe, tiny):
    request = tiny("awp", settings={"base": base})
    assert request.settings == {"base": base, **settings}
    assert request.recipe.attack_bn == ("train" if base == "pgd_at" else "eval")
    cifar = training_request("awp", DATASETS["cifar10"], settings={"base": base})
    assert cifar.recipe_id == recipe
    assert cifar.recipe.normalise == RECIPES[recipe].normalise == (base == "pgd_at")


@pytest.mark.parametrize("name", ["mart", "alp", "sat", "s2o", "pgd_at_frpat", "trades_ancra"])
def test_any_defense_by_name_can_be_the_base(name, few, tiny, tmp_path):
    request = at(tiny, "awp", base=name)
    assert request.compose().objective == DEFENSES[name].compose({})[0].objective
    run_of(request, few(33), tmp_path, 1)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("awp", {"base": "awp"}, "perturbs its weights already"),
        ("awp", {"base": "free_at"}, "free training"),
        ("awp", {"base": "nothing"}, "no defense named 'nothing'"),
        ("trades+he+awp", {"weight_norm": "project"}, "choose weight_norm=divide"),
    ],
)
def test_what_cannot_be_perturbed_is_refused_with_the_reason(name, settings, message):
    with pytest.raises(HarnessError, match=message):
        DEFENSES[name].compose(settings)
