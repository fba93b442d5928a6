"""The loop: a killed run ends as if it had not been killed, and a broken one says where."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from harness.catalogue import DEFENSES
from harness.data.augmentation import Augmentation
from harness.data.datasets import DATASETS
from harness.defense import Defense
from harness.errors import HarnessError
from harness.models.weights import read_weights
from harness.recipe import RECIPES
from harness.training import loop
from harness.training.estimate import seconds_per_step, steps_per_epoch
from harness.training.loop import Training, discard_state, learning_rate, step_count, train
from harness.training.probe import divide
from harness.training.state import state_file

EVERY_DEFENSE = sorted(DEFENSES)
STEPS = 7  # 200 images, 4 of them held out, in batches of 32


class Killed(Exception):
    """What a kill looks like from inside."""


class Killer:
    """A report that kills the run at one (epoch, step), or after an epoch."""

    def __init__(self, *, at=None, after_epoch=None):
        self.at, self.after_epoch = at, after_epoch
        self.told = []

    def started(self, epochs, steps, resumed_at):
        self.told.append(("started", epochs, steps, resumed_at))

    def stepped(self, epoch, step, loss):
        self.told.append((epoch, step, loss))
        if self.at == (epoch, step):
            raise Killed

    def finished_epoch(self, epoch, loss, seconds):
        self.told.append(("finished", epoch, loss))
        if self.after_epoch == epoch:
            raise Killed


def outcome(request, data, folder, **arguments):
    """Everything that a finished run leaves, times aside."""
    trained = train(request, data, folder, **arguments)
    state = read_weights(state_file(folder, request.digest(data)))
    progress = state["progress"]
    del progress["seconds"], progress["epoch_seconds"]
    assert progress["losses"] == trained.progress.losses
    for role, network in trained.players.modules().items():
        for name, values in network.state_dict().items():
            assert torch.equal(values, state["networks"][role][name])
    assert trained.best.keys() == state["best"].keys()
    return state


KILLS = {  # when; seconds between saves; the step from which the resumed run goes on
    "step": ({"at": (2, 5)}, 300.0, STEPS),  # back to the end of the first epoch
    "epoch": ({"after_epoch": 1}, 300.0, STEPS),
    "first epoch": ({"at": (1, 4)}, 0.0, 3),  # steps 1 to 3 were saved, 4 not yet
    "last step": ({"at": (2, 7)}, 0.0, STEPS + 6),
}
ONCE = [(name, list(KILLS)[n % len(KILLS)]) for n, name in enumerate(EVERY_DEFENSE)]
STATEFUL = ["free_at", "pgd_at_crd", "sat", "udr", "mca"]
"""With memory, replays or trainable modules of losses, besides the plainest of all."""
EVERY_KILL = [(name, kill) for name in ["pgd_at", *STATEFUL] for kill in KILLS]


@pytest.mark.parametrize(("defense", "kill"), sorted({*ONCE, *EVERY_KILL}))
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    defense, kill, few, tiny, same_bits, tmp_path, monkeypatch
):
    when, save_every, resumed_at = KILLS[kill]
    monkeypatch.setattr(loop, "SAVE_EVERY", save_every)
    monkeypatch.setattr(loop, "_CHECK_EVERY", 2)
    fewer = {"replays": 2} if "replays" in DEFENSES[defense].settings else {}
    request, data = tiny(defense, settings=fewer), few()
    with pytest.raises(Killed):
        train(request, data, tmp_path / "killed", report=Killer(**when))
    report = Killer()
    resumed = outcome(request, data, tmp_path / "killed", report=report)
    assert report.told[0] == ("started", 2, STEPS, resumed_at)
    assert same_bits(resumed, outcome(request, data, tmp_path / "whole"))


def test_when_the_loss_is_looked_at_changes_no_bit_of_its_curve(
    few, tiny, same_bits, tmp_path, monkeypatch
):
    curves = []
    for looks in (1, 2, 3, 16):
        monkeypatch.setattr(loop, "_CHECK_EVERY", looks)
        request = tiny("standard", settings={"epochs": 4})
        curves.append(train(request, few(), tmp_path / f"{looks}").progress.losses)
    assert all(same_bits(curves[0], other) for other in curves[1:])


def test_every_defense_that_remembers_is_killed_in_every_way(few, tiny, tmp_path):
    found = set()
    for name in EVERY_DEFENSE:
        request = tiny(name, settings={"epochs": 1})
        run = Training(request, few(40), tmp_path, "cpu")
        run.step(0, 0, run.order(0))
        if run.memory.values or run.players.extras or run.defense.policy.updates > 1:
            found.add(name)
    heads = {f"free_at_{head}" for head in ("he", "mhe", "fn", "wn", "fn_wn")}  # as free_at
    assert found - heads <= set(STATEFUL)


def test_a_run_with_augmentation_resumes_with_the_same_bits(
    few, tiny, same_bits, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "_CHECK_EVERY", 1)
    moving = dataclasses.replace(DATASETS["digits"], augmentation=Augmentation(pad=2, flip=True))
    request = tiny("trades", dataset=moving, settings={"augment": True})
    for step in (1, 3, 6):
        with pytest.raises(Killed):
            train(request, few(), tmp_path / "killed", report=Killer(at=(1, step)))
    resumed = outcome(request, few(), tmp_path / "killed")
    assert same_bits(resumed, outcome(request, few(), tmp_path / "whole"))
    still = outcome(tiny("trades", dataset=moving), few(), tmp_path / "still")
    assert not same_bits(resumed["networks"], still["networks"])


def test_a_finished_run_that_was_not_stored_yet_does_nothing_again(few, tiny, tmp_path):
    request, report = tiny("standard"), Killer()
    first = train(request, few(), tmp_path)
    again = train(request, few(), tmp_path, report=report)
    assert report.told == [("started", 2, STEPS, 2 * STEPS)]
    assert again.progress.losses == first.progress.losses
    assert not any(module.training for module in again.players.network.modules())
    discard_state(request, few(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    discard_state(request, few(), tmp_path)  # twice is no error


def test_the_report_tells_every_step_and_the_mean_loss_of_every_epoch(
    few, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "_CHECK_EVERY", 1)
    report = Killer()
    trained = train(tiny("standard"), few(), tmp_path, report=report)
    steps = [(told[0], told[1]) for told in report.told if isinstance(told[0], int)]
    assert steps == [(epoch, step) for epoch in (1, 2) for step in range(1, STEPS + 1)]
    finished = [told for told in report.told if told[0] == "finished"]
    assert finished == [("finished", n + 1, loss) for n, loss in enumerate(trained.progress.losses)]
    losses = torch.tensor([told[2] for told in report.told if isinstance(told[0], int)])
    means = losses.reshape(2, STEPS).mean(1).tolist()
    assert trained.progress.losses == pytest.approx(means, rel=1e-5)
    assert len(trained.progress.epoch_seconds) == 2
    assert sum(trained.progress.epoch_seconds) == pytest.approx(trained.progress.seconds)


def test_another_recipe_seed_or_split_does_not_pick_the_state_up(few, tiny, tmp_path):
    train(tiny("standard"), few(), tmp_path)
    others = [
        (tiny("standard", settings={"momentum": 0.5}), few()),
        (tiny("standard", seed=1), few()),
        (tiny("trades"), few()),
        (tiny("standard"), few(199)),
    ]
    for request, data in others:
        assert Training(request, data, tmp_path, "cpu").progress.steps == 0
    renamed = tiny("standard", name="other-name")
    assert Training(renamed, few(), tmp_path, "cpu").progress.steps == 2 * STEPS


def test_the_seed_decides_the_weights(few, tiny, tmp_path, same_bits):
    networks = [
        outcome(tiny("trades", seed=seed), few(), tmp_path / name)["networks"]
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert same_bits(networks[0], networks[1])
    assert not same_bits(networks[0], networks[2])


@pytest.mark.parametrize("defense", ["trades_ancra", "trades_frpat"])
def test_the_global_random_numbers_neither_count_nor_move(defense, few, tiny, tmp_path, same_bits):
    torch.manual_seed(1)
    first = outcome(tiny(defense), few(), tmp_path / "a")
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = outcome(tiny(defense), few(), tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(first, second)


@pytest.mark.parametrize(("value", "epoch", "step"), [(math.nan, 2, 3), (math.inf, 2, 7)])
def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_state(
    value, epoch, step, few, tiny, tmp_path, monkeypatch, same_bits
):
    request, data, real, seen = tiny("trades"), few(), Defense.loss, []

    def broken(self, batch):
        seen.append(batch)
        loss = real(self, batch)
        return loss * value if len(seen) == (epoch - 1) * STEPS + step else loss

    with monkeypatch.context() as patch:
        patch.setattr(Defense, "loss", broken)
        sentence = rf"the loss became {value} at epoch {epoch}, step {step}\. The last good state"
        with pytest.raises(HarnessError, match=sentence) as caught:
            train(request, data, tmp_path / "broken")
    assert "--set learning_rate=0.01" in str(caught.value)
    assert Training(request, data, tmp_path / "broken", "cpu").progress.steps == STEPS
    mended = outcome(request, data, tmp_path / "broken")
    assert same_bits(mended, outcome(request, data, tmp_path / "whole"))


def test_before_the_first_save_no_state_is_promised(few, tiny, tmp_path, monkeypatch):
    real = Defense.loss
    monkeypatch.setattr(Defense, "loss", lambda self, batch: real(self, batch) * math.nan)
    with pytest.raises(HarnessError, match=r"epoch 1, step 1\. Try a lower rate") as caught:
        train(tiny("standard"), few(), tmp_path)
    assert "good state" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_last_step_broke_are_not_saved(few, tiny, tmp_path, monkeypatch):
    """The loss of a step is that of the weights before it: it says nothing about the last one."""
    request, data, real = tiny("standard"), few(), Training.step

    def broken(self, epoch, step, order):
        taken = real(self, epoch, step, order)
        if (epoch, step) == (1, STEPS - 1):
            with torch.no_grad():
                self.players.network.head.weight[0, 0] = math.inf
        return taken

    monkeypatch.setattr(Training, "step", broken)
    sentence = f"head.weight became NaN or infinite at epoch 2, step {STEPS}. The last good state"
    with pytest.raises(HarnessError, match=sentence):
        train(request, data, tmp_path)
    assert Training(request, data, tmp_path, "cpu").progress.steps == STEPS


@pytest.mark.parametrize(
    ("count", "size", "steps"),
    [(200, 32, 7), (192, 32, 6), (193, 32, 6), (194, 32, 7), (2, 128, 1), (3, 2, 1), (129, 128, 1)],
)
def test_a_last_batch_of_one_image_is_left_out(count, size, steps):
    assert step_count(count, size) == steps


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_refused(count):
    with pytest.raises(HarnessError, match=f"{count} training images are too few"):
        step_count(count, 32)


@pytest.mark.parametrize(("count", "used"), [(66, 64), (71, 70)])
def test_every_epoch_sees_every_learnt_image_once_in_an_order_of_its_own(
    count, used, few, tiny, tmp_path, monkeypatch
):
    data, real, seen = few(count), Defense.loss, []

    def spy(self, batch):
        seen.append((batch.epoch, batch.images.flatten(1), batch.labels))
        return real(self, batch)

    monkeypatch.setattr(Defense, "loss", spy)
    train(tiny("standard"), data, tmp_path)
    known = (data.images.float() / 255).flatten(1).tolist()
    orders = []
    for epoch in (1, 2):
        images = torch.cat([one for when, one, _ in seen if when == epoch]).tolist()
        labels = torch.cat([one for when, _, one in seen if when == epoch])
        positions = [known.index(one) for one in images]
        assert len(set(positions)) == len(positions) == used
        assert not set(positions) & set(divide(count, "smoke").probed.tolist())
        assert torch.equal(data.labels[positions], labels)
        orders.append(positions)
    assert orders[0] != orders[1]


def test_every_step_augments_in_a_way_of_its_own(few, tiny, tmp_path, monkeypatch):
    data, real, seen = few(64), Defense.loss, []
    data.images[:] = torch.arange(64, dtype=torch.uint8).reshape(8, 8)  # 64 times one image
    moving = dataclasses.replace(DATASETS["digits"], augmentation=Augmentation(pad=2, flip=True))

    def spy(self, batch):
        seen.append(batch.images)
        return real(self, batch)

    monkeypatch.setattr(Defense, "loss", spy)
    for seed in (0, 1):
        request = tiny("standard", dataset=moving, settings={"augment": True}, seed=seed)
        train(request, data, tmp_path)
    assert len({tuple(images.flatten().tolist()) for images in seen}) == len(seen) == 8


def test_statistics_inside_the_model_are_those_of_the_training_images(few, tiny, tmp_path):
    data = few()
    request = tiny("trades", settings={"normalise": True})
    network = Training(request, data, tmp_path, "cpu").players.network
    images = data.images.double() / 255
    assert network.normalisation.mean.item() == pytest.approx(images.mean().item(), rel=1e-6)
    deviation = images.std(correction=0).item()
    assert network.normalisation.std.item() == pytest.approx(deviation, rel=1e-6)


def test_statistics_of_constant_channels_do_not_divide_by_zero():
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    images[:, 1] = 255
    images[:2, 2] = 51
    mean, deviation = loop._channel_statistics(images)
    torch.testing.assert_close(mean, torch.tensor([0.0, 1.0, 0.1]))
    assert (deviation > 0).all()
    assert deviation[2].item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(1, 0.01), (74, 0.01), (75, 1e-3), (90, 1e-4), (100, 1e-5), (120, 1e-5)]
)
def test_rates_follow_the_drops(epoch, rate):
    assert learning_rate(RECIPES["A-R18"], epoch, 0.5) == pytest.approx(rate)


@pytest.fixture
def rates(monkeypatch):
    """The rate of every step that any optimiser takes from here on."""
    found, real = [], torch.optim.SGD.step

    def spy(self, *arguments):
        found.extend(group["lr"] for group in self.param_groups)
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    return found


def test_one_cycle_gives_every_step_a_rate_of_its_own(few, tiny, tmp_path, rates):
    request = tiny("trades_frpat")
    train(request, few(), tmp_path)
    steps = 2 * STEPS
    assert rates == [learning_rate(request.recipe, 0, step / steps) for step in range(steps)]
    assert len(set(rates)) == steps


def test_drops_begin_with_their_epoch(few, tiny, tmp_path, rates):
    train(tiny("standard", settings={"schedule": "drops", "drops": 2}), few(), tmp_path)
    assert rates == pytest.approx([0.1] * STEPS + [0.01] * STEPS)


def test_every_step_of_every_seed_draws_from_streams_of_its_own(few, tiny, tmp_path, monkeypatch):
    attacks, orders, real = [], [], Defense.loss

    def spy(self, batch):
        attacks.append(batch.generator.initial_seed())
        if len(attacks) % STEPS == 1:
            orders.append(tuple(batch.labels.tolist()))
        return real(self, batch)

    monkeypatch.setattr(Defense, "loss", spy)
    for seed in (0, 1):
        train(tiny("standard", seed=seed), few(), tmp_path)
    assert len(set(attacks)) == len(attacks) == 4 * STEPS
    assert len(set(orders)) == len(orders) == 4  # seeds and epochs


def test_training_learns(few, tiny, tmp_path):
    data = few()
    request = tiny("standard", settings={"epochs": 12, "width": 8})
    trained = train(request, data, tmp_path)
    assert trained.progress.losses[-1] < 0.5 * trained.progress.losses[0]
    with torch.no_grad():
        logits = trained.players.network(data.images.float() / 255).logits
    assert (logits.argmax(1) == data.labels).float().mean() > 0.9
    assert isinstance(trained.players.network.trunk.bn1, nn.BatchNorm2d)


def test_the_estimate_leaves_no_state_behind(few, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    request = tiny("trades")
    assert steps_per_epoch(request, few()) == STEPS
    assert seconds_per_step(request, few(), "cpu") > 0
    assert list(tmp_path.iterdir()) == []
