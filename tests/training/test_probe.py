"""The training probe: which images it looks at, what it calls a collapse, what it leaves alone."""

import pytest
import torch
from scipy.stats import binom

from harness.batch import PerHead
from harness.errors import HarnessError
from harness.threat import ThreatModel
from harness.training import loop
from harness.training.loop import Training, train
from harness.training.probe import best_epoch, collapsed_at, divide, probe

LINF = ThreatModel.parse("linf", "1/5")


@pytest.mark.parametrize(("count", "probed"), [(10, 1), (200, 4), (1437, 29), (80_000, 1000)])
@pytest.mark.parametrize("scale", ["smoke", "reduced"])
def test_below_full_scale_no_probed_image_is_learnt(count, probed, scale):
    division = divide(count, scale)
    assert division.is_held_out
    assert len(division.probed) == probed
    both = torch.cat([division.learnt, division.probed])
    assert torch.equal(both.sort().values, torch.arange(count))


@pytest.mark.parametrize(("count", "probed"), [(200, 200), (5000, 1000)])
def test_at_full_scale_every_image_is_learnt(count, probed):
    division = divide(count, "full")
    assert not division.is_held_out
    assert torch.equal(division.learnt, torch.arange(count))
    assert len(division.probed.unique()) == probed


def test_the_division_is_the_same_for_every_seed_and_defense(tiny, few, tmp_path):
    torch.manual_seed(5)
    expected = divide(200, "smoke")
    for defense, seed in (("standard", 0), ("trades", 1)):
        found = Training(tiny(defense, seed=seed), few(), tmp_path, "cpu").division
        assert torch.equal(found.probed, expected.probed)
        assert torch.equal(found.learnt, expected.learnt)


def test_probed_images_are_spread_over_the_split():
    probed = divide(50_000, "reduced").probed.double()
    assert probed.mean().item() == pytest.approx(25_000, rel=0.1)
    assert probed.std().item() == pytest.approx(50_000 / 12**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("curve", "count", "epoch"),
    [
        ([], 1000, 0),
        ([0.3, 0.4, 0.42, 0.41], 1000, 0),
        ([0.3, 0.4, 0.0], 1000, 3),
        ([0.3, 0.4, 0.0, 0.1, 0.0], 1000, 3),  # it began there
        ([0.3, 0.4, 0.0, 0.4, 0.0], 1000, 5),  # it came back in between
        ([0.3, 0.4, 0.0, 0.4, 0.35], 1000, 0),  # and here for good
        ([0.4, 0.2], 1000, 0),  # exactly 20 points are not more than 20
        ([0.4, 0.19], 1000, 2),
        ([0.3, 0.25, 0.2, 0.15, 0.05], 1000, 5),  # from the best, not from the epoch before
        ([0.0, 0.5], 1000, 0),
        ([0.5, 0.25], 4, 0),  # one image of four: chance explains it
        ([1.0, 0.75], 4, 2),  # not where all four were right
    ],
)
def test_a_collapse_is_a_large_fall_that_chance_does_not_explain(curve, count, epoch):
    assert collapsed_at(curve, count) == epoch


@pytest.mark.parametrize("count", [4, 29, 100, 1000])
@pytest.mark.parametrize("best", [0.25, 0.5, 0.76, 0.98])
def test_chance_is_that_of_the_binomial_test(count, best):
    for right in range(count + 1):
        fell = best - right / count > 0.2
        is_chance = binom.cdf(right, count, best) >= 0.01
        assert collapsed_at([best, right / count], count) == (2 if fell and not is_chance else 0)


@pytest.mark.parametrize(
    ("robust", "clean", "epoch"),
    [
        ([], [], 0),
        ([0.1], [0.5], 1),
        ([0.1, 0.3, 0.2], [0.9, 0.5, 0.9], 2),
        ([0.3, 0.3, 0.3], [0.5, 0.7, 0.6], 2),  # ties by clean accuracy
        ([0.3, 0.3], [0.5, 0.5], 1),  # then the first
        ([0.0, 0.0], [0.1, 0.2], 2),
    ],
)
def test_the_best_epoch_has_the_highest_robust_accuracy(robust, clean, epoch):
    assert best_epoch(robust, clean) == epoch


@pytest.fixture
def learnt(tiny, few, tmp_path):
    request = tiny("standard", settings={"epochs": 20, "width": 8})
    data = few()
    return train(request, data, tmp_path).players.network, data


def test_pgd_never_makes_an_image_right_that_was_wrong(learnt):
    network, data = learnt
    clean, robust = probe(network, data.images, data.labels, LINF, PerHead())
    assert 0 <= robust < clean <= 1
    none = probe(network, data.images, data.labels, ThreatModel.parse("linf", "0"), PerHead())
    assert none == (clean, clean)


def test_clean_accuracy_is_that_of_the_deployed_decision(learnt):
    network, data = learnt
    with torch.no_grad():
        decided = network.eval()(data.images.float() / 255).logits.argmax(1)
    expected = (decided == data.labels).float().mean().item()
    clean, _ = probe(network.train(), data.images, data.labels, LINF, PerHead())
    assert clean == pytest.approx(expected)


def test_more_images_than_a_batch_are_all_counted(learnt, monkeypatch):
    network, data = learnt
    whole = probe(network, data.images, data.labels, LINF, PerHead())[0]
    monkeypatch.setattr("harness.training.probe._BATCH", 64)
    parts = probe(network, data.images, data.labels, LINF, PerHead())[0]
    assert parts == pytest.approx(whole, abs=0.011)  # kernels may round an image otherwise


@pytest.mark.parametrize("defense", ["trades_ancra", "trades_he"])
def test_the_probe_changes_nothing(defense, tiny, few, tmp_path):
    run = Training(tiny(defense), few(), tmp_path, "cpu")
    run.step(0, 0, run.order(0))
    network = run.players.network
    network.head.eval()  # a mixture of modes
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    memory, stream = dict(run.memory.values), torch.get_rng_state()
    run._probe()
    assert torch.equal(torch.get_rng_state(), stream)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert run.memory.values == memory
    assert len(run.progress.probe_pgd) == len(run.progress.probe_clean) == 1


def test_a_run_without_a_probe_ends_with_the_same_weights(tiny, few, tmp_path, monkeypatch):
    request, data = tiny("trades"), few()
    probed = train(request, data, tmp_path / "a").players.network.state_dict()
    monkeypatch.setattr(loop, "probe", lambda *_: (0.0, 0.0))
    without = train(request, data, tmp_path / "b").players.network.state_dict()
    assert all(torch.equal(value, without[name]) for name, value in probed.items())


def falling(monkeypatch, curve):
    """Runs whose probe sees this curve of PGD accuracies, over 1,000 images."""
    left = list(curve)
    monkeypatch.setattr(loop, "probe", lambda *_: (0.9, left.pop(0)))
    monkeypatch.setattr(loop, "collapsed_at", lambda accuracies, _: collapsed_at(accuracies, 1000))


def test_a_collapse_stops_the_run_where_the_recipe_says_so_and_keeps_it_stopped(
    tiny, few, tmp_path, monkeypatch
):
    falling(monkeypatch, [0.3, 0.5, 0.1, 0.2])
    asked = {"epochs": 4, "on_collapse": "stop"}
    request, data = tiny("standard", settings=asked), few(64)
    sentence = r"training collapsed at epoch 3: .* from 0\.50 to 0\.10\. .*on_collapse=flag"
    for _ in range(2):
        with pytest.raises(HarnessError, match=sentence):
            train(request, data, tmp_path)
    assert Training(request, data, tmp_path, "cpu").progress.steps == 3 * 2
    go_on = tiny("standard", settings={**asked, "on_collapse": "flag"})
    trained = train(go_on, data, tmp_path)
    assert (trained.collapse, trained.best_epoch) == (3, 2)
    assert trained.progress.probe_pgd == [0.3, 0.5, 0.1, 0.2]


def test_the_weights_of_the_best_epoch_are_kept(tiny, few, tmp_path, monkeypatch):
    falling(monkeypatch, [0.3, 0.5, 0.5, 0.1])
    request, data = tiny("standard", settings={"epochs": 4}), few(64)
    kept, real = [], Training._probe

    def spy(self):
        real(self)
        kept.append({k: v.clone() for k, v in self.players.network.state_dict().items()})
        if len(kept) == 3:
            raise KeyboardInterrupt  # the best one must come back with the state

    monkeypatch.setattr(Training, "_probe", spy)
    with pytest.raises(KeyboardInterrupt):
        train(request, data, tmp_path)
    kept.pop()
    falling(monkeypatch, [0.5, 0.1])
    kept.append({})  # epoch 3 is done again
    trained = train(request, data, tmp_path)
    assert trained.best_epoch == 2
    assert all(torch.equal(value, kept[1][name]) for name, value in trained.best.items())
    assert any((value != kept[-1][name]).any() for name, value in trained.best.items())


def test_an_image_that_only_the_attack_makes_right_is_not_robust(learnt, monkeypatch):
    network, data = learnt
    others = data.images.flip(0).float() / 255
    with torch.no_grad():
        labels = network.eval()(others).logits.argmax(1)  # right on the attacked images alone
    monkeypatch.setattr("harness.training.probe.ascend", lambda *_: others)
    clean, robust = probe(network, data.images, labels, LINF, PerHead())
    assert 0 < clean == robust < 1
