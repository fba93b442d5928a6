"""Training attacks climb on a folded copy: the same function, and nothing flows back."""

import pytest
import torch

from harness import batch as batch_module
from harness.training.loop import Training

DEFENSES = ["trades", "pgd_at_he", "trades_mhe", "trades_ancra", "pgd_at_frpat", "fat", "gairat"]
ARCHITECTURES = ["small_resnet", "small_preactresnet"]


def trained(request, data, folder, steps=3):
    """A run whose running statistics are those of images."""
    run = Training(request, data, folder, "cpu")
    for step in range(steps):
        run.step(0, step, run.order(0))
    return run


def in_double(run):
    """The next batch of a run, network and images in float64."""
    run.players.network.double()
    batch = run._batch(0, 3, run.order(0))
    batch.images = batch.images.double()
    return batch


def looked_at(batch, select=None):
    """Every output for the batch's images, and the gradient of their cross-entropies."""
    images = batch.images.clone().requires_grad_()
    answers = batch.answers(images, batch.labels, select=select)
    losses = [
        torch.nn.functional.cross_entropy(answers.training(k), batch.labels)
        for k in range(answers.count)
    ]
    (gradient,) = torch.autograd.grad(sum(losses), images)
    return [*(answers.deployed(k).detach() for k in range(answers.count)), gradient]


@pytest.fixture
def without_folding(monkeypatch):
    def of(action):
        with monkeypatch.context() as patch:
            patch.setattr("harness.training.loop.can_fold", lambda *_: False)
            return action()

    return of


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("defense", DEFENSES)
def test_a_copy_answers_in_float64_what_the_network_answers(
    defense, architecture, few, tiny, tmp_path
):
    request = tiny(defense, architecture=architecture, settings={"normalise": True, "width": 4})
    batch = in_double(trained(request, few(), tmp_path))
    for select in (None, batch.labels):
        with batch_module.evaluating(batch.network):
            live = looked_at(batch, select)
        with batch.attacking():
            copied = looked_at(batch, select)
        for one, other in zip(live, copied, strict=True):
            assert not torch.equal(one, other)  # it is another computation
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("defense", ["trades", "trades_ancra", "pgd_at_he"])
def test_an_attack_leaves_no_trace_in_the_network(defense, precision, few, tiny, tmp_path):
    run = trained(tiny(defense, settings={"precision": precision}), few(), tmp_path)
    run.optimiser.zero_grad()
    network = run.players.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    batch = run._batch(0, 3, run.order(0))
    batch.prepare(run.defense.needs)
    assert not torch.equal(batch.adversarial_images, batch.images)
    assert not batch.adversarial_images.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("changed", ["trunk.conv1.weight", "trunk.bn1.running_mean"])
def test_every_attack_sees_the_weights_of_its_moment(changed, few, tiny, tmp_path):
    batch = in_double(trained(tiny("trades"), few(), tmp_path))
    with batch.attacking():
        before = looked_at(batch)
    with torch.no_grad():
        batch.network.state_dict()[changed].add_(0.1)
    with batch.attacking():
        after = looked_at(batch)
    with batch_module.evaluating(batch.network):
        live = looked_at(batch)
    assert (before[0] - after[0]).abs().max() > 1e-3
    torch.testing.assert_close(after[0], live[0], rtol=1e-9, atol=1e-12)


def test_a_look_at_other_weights_attacks_those(few, tiny, tmp_path):
    batch = in_double(trained(tiny("trades"), few(), tmp_path))
    other = Training(tiny("trades", seed=1), few(), tmp_path, "cpu").players.network.double()
    with batch_module.evaluating(other):
        live = looked_at(batch.on(other))
    twin = batch.on(other)
    with batch.attacking(), twin.attacking():
        first, second = looked_at(batch), looked_at(twin)
    torch.testing.assert_close(second[0], live[0], rtol=1e-9, atol=1e-12)
    assert (first[0] - second[0]).abs().max() > 1e-3


def test_an_exact_pass_and_one_outside_an_attack_are_the_network_s_own(few, tiny, tmp_path):
    run = trained(tiny("trades", settings={"precision": "bfloat16"}), few(), tmp_path)
    batch = run._batch(0, 3, run.order(0))
    with torch.no_grad(), batch_module.evaluating(batch.network):
        live = batch.network(batch.images).logits
        with batch.attacking():
            exact = batch.answers(batch.images, batch.labels, select=None, exact=True).deployed()
            rough = batch.answers(batch.images, batch.labels, select=None).deployed()
        batch.precision = "float32"
        outside = batch.answers(batch.images, batch.labels, select=None).deployed()
    assert torch.equal(exact, live)
    assert torch.equal(outside, live)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, live)
    torch.testing.assert_close(rough, live, rtol=0.05, atol=0.05)


def test_what_is_not_trained_is_attacked_as_it_is(few, tiny, tmp_path):
    """An analysis asks a batch of its own for attacked images; its numbers must not move."""
    run = trained(tiny("trades"), few(), tmp_path)
    trains, rests = run._batch(0, 3, run.order(0)), run._batch(0, 3, run.order(0))
    rests._folds = False
    network = trains.network
    with torch.no_grad(), rests.attacking():
        rested = rests.answers(rests.images, rests.labels, select=None).deployed()
        assert torch.equal(rested, network(rests.images).logits)
    with torch.no_grad(), trains.attacking():
        copied = trains.answers(trains.images, trains.labels, select=None).deployed()
    assert not torch.equal(rested, copied)


@pytest.mark.parametrize("defense", ["trades", "trades_ancra", "pgd_at_he", "udr"])
def test_a_run_that_folds_learns_what_one_that_does_not_learns_up_to_rounding(
    defense, few, tiny, tmp_path, without_folding
):
    """In float64, where no sign of a gradient turns over."""
    states = []
    for wrap in (without_folding, lambda action: action()):
        run = Training(tiny(defense, settings={"attack_bn": "eval"}), few(), tmp_path, "cpu")
        run.players.network.double()
        real = run._batch

        def in_float64(*place, real=real):
            batch = real(*place)
            batch.images = batch.images.double()
            return batch

        run._batch = in_float64
        wrap(lambda run=run: [run.step(0, step, torch.arange(200)) for step in range(3)])
        states.append(run.players.network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-7, atol=1e-9)


def test_where_batchnorm_trains_during_the_attack_there_is_no_copy(few, tiny, tmp_path):
    run = trained(tiny("trades", settings={"attack_bn": "train"}), few(), tmp_path)
    batch = run._batch(0, 3, run.order(0))
    counted = batch.network.trunk.bn1.num_batches_tracked.item()
    batch.prepare(run.defense.needs)
    passes = 1 + run.recipe.inner_steps  # the clean answers, and each step
    assert batch.network.trunk.bn1.num_batches_tracked.item() == counted + passes
