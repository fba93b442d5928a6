"""FreeAT, FastAT, UDR, FAT and GAIRAT as compositions, on real training steps."""

import dataclasses

import pytest
import torch

from harness.catalogue import ADDITIONS, DEFENSES
from harness.data.datasets import DATASETS
from harness.defense import Build
from harness.errors import HarnessError
from harness.maximisers.counting import CountingPgd
from harness.maximisers.early_stopped import EarlyStoppedPgd
from harness.maximisers.fast import RandomFgsm
from harness.maximisers.soft_ball import SoftBallPgd
from harness.objectives.reweighted import Reweighted
from harness.objectives.trades import Trades
from harness.recipe import RECIPES
from harness.steps.free_replay import FreeReplay
from harness.training.loop import Training, learning_rate
from harness.training.request import training_request

CIFAR = DATASETS["cifar10"]


def composed(name, **settings):
    return DEFENSES[name].compose(settings)[0]


def run_of(request, data, folder, steps=0, *, defense=None):
    run = Training(request, data, folder, "cpu")
    run.defense = defense or run.defense
    order = torch.arange(len(data))
    for step in range(steps):
        run.step(step // run.steps_per_epoch, step % run.steps_per_epoch, order)
    return run


def test_each_name_is_the_composition_of_its_paper():
    assert composed("fast_at").maximiser == RandomFgsm(relative_step=1.25, margin=False)
    assert composed("free_at").policy == FreeReplay(replays=8, relative_step=1.0)
    assert composed("gairat").objective == Reweighted(shift=-1.0, first_epoch=60, run_length=120)
    assert composed("gairat").maximiser == CountingPgd(climbs="ce", start="uniform")
    assert composed("udr").maximiser == SoftBallPgd("ce", "uniform", 0.001, 0.02, 10)
    assert composed("fat").maximiser == EarlyStoppedPgd(
        "ce", "uniform", 0.001, (50, 90), 120, escape=0.001
    )


def test_settings_reach_the_parts():
    assert composed("fast_at", fast_step=0.5, inner_margin=True).maximiser == RandomFgsm(0.5, True)
    assert composed("free_at", replays=4, free_step=0.5).policy == FreeReplay(4, 0.5)
    weighted = composed("gairat", concentration=0, weighted_from=30, weighted_epochs=100).objective
    assert weighted == Reweighted(shift=0.0, first_epoch=30, run_length=100)
    soft = composed("udr", lambda_rate=0.1, lambda_period=3).maximiser
    assert (soft.lambda_rate, soft.lambda_period) == (0.1, 3)
    assert composed("fat", patience_ends="", escape=0).maximiser.patience_ends == ()


@pytest.mark.parametrize("name", ["udr", "fat"])
def test_a_base_may_be_chosen_by_name(name):
    chosen = composed(name, base="trades")
    assert chosen.objective == Trades(beta=6.0)
    assert chosen.maximiser.climbs == "kl"
    assert composed(name, base="mart").maximiser.climbs == "ce"


def test_udr_can_be_added_to_what_attacks_with_plain_pgd():
    assert ADDITIONS["udr"].settings == {"lambda_rate": 0.02, "lambda_period": 10}
    added = composed("trades+udr", beta=2.0, lambda_rate=0.1)
    assert added.objective == Trades(beta=2.0)
    assert added.maximiser == SoftBallPgd("kl", "normal", 0.001, 0.1, 10)
    assert composed("pgd_at+udr").maximiser == SoftBallPgd("ce", "normal")


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("fast_at+udr", {}, r"udr softens the ball of plain PGD.*here is random fgsm"),
        ("standard+udr", {}, "udr softens.*here is none. Choose pgd_at"),
        ("fat+udr", {}, "udr softens.*here is early stopped pgd"),
        ("udr", {"base": "gairat"}, "udr softens.*here is counting pgd"),
        ("udr", {"base": "udr"}, "udr softens.*here is soft ball pgd"),
        ("fat", {"base": "free_at"}, "fat stops plain PGD early.*of free_at is none"),
        ("fat", {"base": "udr"}, "fat stops plain PGD early.*of udr is soft ball pgd"),
        ("fat", {"base": "trade"}, "no defense named 'trade'. Did you mean 'trades'"),
        ("fat", {"patience_ends": "90,50"}, "patience_ends are increasing epochs.*'90,50'"),
        ("fat", {"start": "far"}, "no start named 'far'"),
        ("free_at", {"replays": 0}, "replays must lie in"),
        ("udr", {"lambda_period": 0}, "lambda_period must be at least 1"),
    ],
)
def test_what_excludes_each_other_is_refused_with_the_reason(name, settings, sentence):
    with pytest.raises(HarnessError, match=sentence):
        composed(name, **settings)


def test_weights_that_mates_decide_are_no_training_loss_of_an_attacker():
    defense = composed("gairat+he")
    network = defense.build(Build((1, 8, 8), 10, "small_resnet", {"width": 2})).network
    assert not defense.capabilities(network, 10).training_loss
    assert composed("fast_at+he").capabilities(network, 10).training_loss


@pytest.mark.parametrize("name", ["fast_at", "free_at", "udr"])
def test_images_are_normalised_inside_as_in_the_authors_loader(name):
    assert DEFENSES[name].recipe.normalise


@pytest.mark.parametrize("name", ["fat", "gairat"])
def test_rates_drop_to_the_factors_of_the_paper(name):
    recipe = RECIPES[name.upper()]
    epochs = {59: 0.1, 60: 0.01, 89: 0.01, 90: 0.001, 109: 0.001, 110: 0.0005, 120: 0.0005}
    rates = {epoch: learning_rate(recipe, epoch, 0.5) for epoch in epochs}
    assert rates == pytest.approx(epochs)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("fast_at", {}, ("preactresnet18", 15, 0.2, "8/255", 5e-4, "train")),
        ("free_at", {}, ("preactresnet18", 10, 0.04, "8/255", 5e-4, "train")),
        ("udr", {}, ("resnet18", 200, 0.1, "8/255", 5e-4, "train")),
        ("fat", {}, ("wrn_34_10", 120, 0.1, "31/1000", 2e-4, "eval")),
        ("fat", {"base": "trades"}, ("wrn_34_10", 85, 0.1, "31/1000", 2e-4, "eval")),
        ("gairat", {}, ("wrn_34_10", 120, 0.1, "31/1000", 2e-4, "eval")),
    ],
)
def test_full_runs_are_those_of_the_papers(name, settings, expected):
    request = training_request(name, CIFAR, scale="full", settings=settings)
    recipe = request.recipe
    assert (
        recipe.architecture,
        recipe.epochs,
        recipe.learning_rate,
        str(request.threat.epsilon),
        recipe.weight_decay,
        recipe.attack_bn,
    ) == expected
    assert recipe.batch_size == 128
    assert recipe.teacher == ""


def test_fat_on_trades_has_the_schedule_of_its_own_script():
    request = training_request("fat", CIFAR, scale="full", settings={"base": "trades"})
    stopped = request.compose().maximiser
    assert stopped == EarlyStoppedPgd("kl", "normal", 0.001, (30, 50, 70), 85, escape=0.0)
    assert request.recipe_id == "FAT-TRADES"


def assert_same_students(first, second):
    state = second.players.network.state_dict()
    for name, values in first.players.network.state_dict().items():
        assert torch.equal(values, state[name]), name


def test_free_training_that_neither_replays_nor_steps_is_standard_training(few, tiny, tmp_path):
    request = tiny("free_at", settings={"replays": 1, "free_step": 0.0})
    plain = composed("standard")
    first = run_of(request, few(), tmp_path, 9)
    assert_same_students(first, run_of(request, few(), tmp_path, 9, defense=plain))
    moved = run_of(tiny("free_at", settings={"replays": 1}), few(), tmp_path, 9)
    assert not torch.equal(first.players.network.head.weight, moved.players.network.head.weight)


def test_the_rate_of_free_training_moves_with_every_replay(few, tiny, tmp_path, monkeypatch):
    settings = {"replays": 4, "schedule": "cyclic", "learning_rate": 0.04, "epochs": 1}
    run = run_of(tiny("free_at", settings=settings), few(), tmp_path)
    rates, step = [], run.optimiser.step
    monkeypatch.setattr(
        run.optimiser, "step", lambda: (rates.append(run.optimiser.param_groups[0]["lr"]), step())
    )
    for number in range(run.steps_per_epoch):
        run.step(0, number, torch.arange(200))
    updates = 4 * run.steps_per_epoch
    assert rates == pytest.approx(
        [0.04 * min(t, updates - t) * 2 / updates for t in range(updates)]
    )


def test_fat_with_endless_patience_and_no_noise_is_its_base(few, tiny, tmp_path):
    settings = {"patience_ends": "", "start": "normal", "escape": 0.0}
    stopped = composed("fat", **settings)
    endless = dataclasses.replace(stopped.maximiser, patience_ends=(0, 0))
    defense = dataclasses.replace(stopped, maximiser=endless)
    first = run_of(tiny("pgd_at"), few(), tmp_path, 9)
    assert_same_students(first, run_of(tiny("pgd_at"), few(), tmp_path, 9, defense=defense))
    other = run_of(tiny("pgd_at"), few(), tmp_path, 9, defense=stopped)
    assert not torch.equal(first.players.network.head.weight, other.players.network.head.weight)


def test_gairat_is_uniform_pgd_at_until_half_of_the_run(few, tiny, tmp_path):
    request = tiny("pgd_at", settings={"start": "uniform", "epochs": 4})
    for steps, is_same in ((7, True), (14, False)):  # 7 an epoch; epoch 2 of 4 is the 60th of 120
        first = run_of(request, few(), tmp_path, steps)
        second = run_of(request, few(), tmp_path, steps, defense=composed("gairat"))
        weights = [run.players.network.head.weight for run in (first, second)]
        assert torch.equal(*weights) == is_same


def test_at_rate_zero_udr_keeps_lambda_and_otherwise_leaves_the_ball(few, tiny, tmp_path):
    kept = run_of(tiny("udr", settings={"lambda_rate": 0.0}), few(), tmp_path, 12)
    assert kept.memory.values["soft_ball.lambda"].item() == 1.0
    run = run_of(tiny("udr", settings={"lambda_rate": 5.0}), few(), tmp_path, 12)
    assert run.memory.values["soft_ball.lambda"].item() < 1.0
    batch = run._batch(1, 0, torch.arange(200))
    moved = (batch.adversarial_images - batch.images).abs().max().item()
    assert moved > 1.05 * float(batch.budget.threat.epsilon)


@pytest.mark.parametrize("name", ["udr", "free_at"])
def test_what_an_attack_remembers_survives_a_stop_between_epochs(name, few, tiny, tmp_path):
    settings = {"epochs": 3}
    settings |= {"lambda_period": 3, "lambda_rate": 1.0} if name == "udr" else {"replays": 2}
    request, data = tiny(name, settings=settings), few()
    whole = Training(request, data, tmp_path / "whole", "cpu")
    for folder in (tmp_path / "whole", tmp_path / "stopped"):
        folder.mkdir()
    for _ in range(3):
        whole.one_epoch(None)
        stopped = Training(request, data, tmp_path / "stopped", "cpu")
        stopped.one_epoch(None)
    assert_same_students(whole, stopped)
    assert whole.memory.values.keys() == stopped.memory.values.keys()
    for key, value in whole.memory.values.items():
        assert torch.equal(value, stopped.memory.values[key]), key


def test_the_curve_of_lambda_is_kept_with_the_run(few, tiny, tmp_path):
    run = Training(tiny("udr", settings={"lambda_rate": 5.0}), few(), tmp_path, "cpu")
    for _ in range(2):
        run.one_epoch(None)
    curve = run.progress.measures["soft_ball_lambda"]
    assert len(curve) == 2
    assert curve[0] == 1.0  # 7 steps an epoch, and lambda moves after 10
    assert 0 < curve[1] < 1.0
