"""What keeps the compositions honest (`composition.md` section 6), on real training steps."""

import dataclasses

import pytest
import torch
from passes import PASSES
from torch import nn

from harness.batch import Batch, InnerBudget, PerHead
from harness.catalogue import DEFENSES
from harness.claims import claims
from harness.defense import Defense
from harness.maximisers.pgd import Pgd
from harness.objectives.trades import Trades
from harness.regularisers.flexible_relations import FlexibleRelations
from harness.regularisers.negative_contrast import NegativeContrast
from harness.steps.free_replay import FreeReplay
from harness.training.loop import Training


def run_of(request, data, folder, steps=0, *, composed=None):
    run = Training(request, data, folder, "cpu")
    run.defense = composed or run.defense
    order = torch.arange(len(data))
    for step in range(steps):
        run.step(step // run.steps_per_epoch, step % run.steps_per_epoch, order)
    return run


def updates(network):
    return {
        int(module.num_batches_tracked)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    }


EVERY_DEFENSE = sorted(DEFENSES)


def test_the_passes_of_every_defense_of_the_papers_are_in_the_table():
    published = {claim.defense for claim in claims()}
    theirs = {name for name in DEFENSES if name in published or DEFENSES[name].additions}
    assert theirs - set(PASSES) == set(), "add these to tests/training/passes.py"
    assert set(PASSES) - set(DEFENSES) == set(), "nothing of that name is registered"


@pytest.mark.parametrize("defense", sorted(set(PASSES) & set(EVERY_DEFENSE)))
def test_batch_norm_sees_as_many_passes_as_the_losses_have_needs(defense, few, tiny, tmp_path):
    run = run_of(tiny(defense, settings={"attack_bn": "eval"}), few(64), tmp_path, 2)
    counts = [updates(network) for network in run.players.modules().values()]
    assert counts == [{2 * count} for count in PASSES[defense] if count]


@pytest.mark.parametrize(("defense", "steps"), [("pgd_at", 2), ("trades", 3), ("fast_at", 1)])
def test_attacks_in_train_mode_add_a_pass_for_each_of_their_looks(
    defense, steps, few, tiny, tmp_path
):
    """Two inner steps; TRADES looks at the clean images first, FastAT takes one step only."""
    run = run_of(tiny(defense, settings={"attack_bn": "train"}), few(64), tmp_path, 1)
    assert updates(run.players.network) == {PASSES[defense][0] + steps}


def test_the_shared_normalisation_of_a_pre_activation_net_is_updated_once_per_gate(
    few, tiny, tmp_path
):
    run = run_of(tiny("trades_ancra", architecture="small_preactresnet"), few(64), tmp_path, 1)
    assert int(run.players.network.trunk.bn.num_batches_tracked) == 2 * 3
    assert updates(run.players.network) == {3, 6}


@pytest.mark.parametrize("defense", EVERY_DEFENSE)
def test_networks_are_in_train_mode_after_a_step_and_every_weight_has_moved(
    defense, few, tiny, tmp_path
):
    fresh, run = (run_of(tiny(defense), few(64), tmp_path, steps) for steps in (0, 1))
    for role, network in run.run.modules().items():
        assert all(module.training for module in network.modules())
        before = dict(fresh.run.modules()[role].named_parameters())
        assert all((value != before[name]).any() for name, value in network.named_parameters())


def assert_same_students(first, second):
    state = second.players.network.state_dict()
    for name, values in first.players.network.state_dict().items():
        assert torch.equal(values, state[name]), name


def test_ancra_without_contrast_on_a_plain_trunk_is_trades_with_a_ce_attack(few, tiny, tmp_path):
    ancra, _ = DEFENSES["trades_ancra"].compose({"zeta": 0.0})
    request = tiny("trades", settings={"inner": "ce"})
    plain = dataclasses.replace(ancra, hook=None)
    first = run_of(request, few(), tmp_path, 10)
    assert_same_students(first, run_of(request, few(), tmp_path, 10, composed=plain))
    other = run_of(tiny("trades", settings={"inner": "kl"}), few(), tmp_path, 10)
    assert not torch.equal(first.players.network.head.weight, other.players.network.head.weight)


def test_ancra_without_contrast_makes_no_negatives(few, tiny, tmp_path):
    run = run_of(tiny("trades_ancra", settings={"zeta": 0.0}), few(64), tmp_path, 1)
    assert updates(run.players.network) == {2}
    assert "negatives" not in run.defense.composition()


def test_without_relations_the_student_of_frpat_is_that_of_trades_bit_for_bit(few, tiny, tmp_path):
    first = run_of(tiny("trades"), few(), tmp_path, 14)
    second = run_of(tiny("trades_frpat", settings={"relation_weight": 0.0}), few(), tmp_path, 14)
    assert_same_students(first, second)
    third = run_of(tiny("trades_frpat"), few(), tmp_path, 14)
    assert not torch.equal(first.players.network.head.weight, third.players.network.head.weight)


def test_the_teacher_of_frpat_learns_as_if_it_were_alone(few, tiny, tmp_path):
    steps, teachers = 9, []
    for weight in (0.0, 50.0):
        request = tiny("trades_frpat", settings={"relation_weight": weight})
        teachers.append(run_of(request, few(), tmp_path, steps).players.companion)
    for one, other in zip(*(teacher.parameters() for teacher in teachers), strict=True):
        assert torch.equal(one, other)


def batch_of(players, images, labels, **parts):
    return Batch(
        players.network,
        images,
        labels,
        budget=InnerBudget(parts.pop("threat"), 2, 0.05),
        combine=PerHead(),
        generator=torch.Generator().manual_seed(0),
        companion=players.companion,
        **parts,
    )


@pytest.fixture
def frpat(few, tiny, tmp_path):
    request, data = tiny("trades_frpat"), few(16)
    players = run_of(request, data, tmp_path).players
    images = data.images.float() / 255
    return players, batch_of(
        players, images, data.labels, threat=request.threat, maximiser=Pgd(), epoch=10
    )


def test_relations_send_no_gradient_to_the_teacher(frpat):
    players, batch = frpat
    FlexibleRelations(weight=5.0)(batch).backward()
    assert all(parameter.grad is None for parameter in players.companion.parameters())
    gradients = [p.grad for p in players.network.trunk.parameters()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert players.network.head.weight.grad is None  # features alone


def test_relations_ramp_up_with_the_epoch_when_asked(frpat):
    _, batch = frpat
    plain = FlexibleRelations(weight=5.0)(batch)
    ramped = FlexibleRelations(weight=20.0, schedule="ramp")(batch)
    assert (ramped / plain).item() == pytest.approx(4 * 0.462117, rel=1e-5)


def test_the_frozen_anchor_gets_no_gradient_in_a_real_network(few, tiny, tmp_path):
    request, data = tiny("trades_ancra"), few(16)
    run = run_of(request, data, tmp_path)
    batch = batch_of(
        run.players,
        data.images.float() / 255,
        data.labels,
        threat=request.threat,
        negatives=run.defense.negatives,
    )
    value = NegativeContrast(weight=3.0)(batch)
    anchors = [batch.clean.deployed(k) for k in range(3)]
    negatives = [batch.negative.deployed(k) for k in range(3)]
    found = torch.autograd.grad(value, [*anchors, *negatives])
    assert value.item() > 0
    assert all(torch.count_nonzero(gradient) == 0 for gradient in found[:3])
    assert any(gradient.abs().max() > 0 for gradient in found[3:])


@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_objective_is_an_average_of_losses_per_image(k, few, tiny, tmp_path):
    request, data = tiny("trades_ancra"), few(16)
    run = run_of(request, data, tmp_path)
    run.players.network.eval()  # so that batch mates do not matter
    images = data.images.float() / 255
    moved = (images + 0.1).clamp(max=1)
    whole = batch_of(
        run.players, images, data.labels, threat=request.threat, maximiser=lambda _: moved
    )
    single = batch_of(
        run.players,
        images[3:4],
        data.labels[3:4],
        threat=request.threat,
        maximiser=lambda _: moved[3:4],
    )
    torch.testing.assert_close(Trades()(single, k)[0], Trades()(whole, k)[3], rtol=1e-4, atol=1e-5)


def test_the_scalar_is_objective_regularisers_and_the_teacher_s_cross_entropy(frpat):
    _, batch = frpat
    composed = Defense(
        Trades(beta=6.0),
        maximiser=Pgd(),
        regularisers=(FlexibleRelations(weight=5.0),),
        companion=DEFENSES["trades_frpat"].compose({})[0].companion,
    )
    teacher = nn.functional.cross_entropy(batch.teacher.deployed(), batch.labels)
    parts = Trades()(batch, 0).mean() + FlexibleRelations(weight=5.0)(batch) + teacher
    torch.testing.assert_close(composed.loss(batch), parts)


def test_one_replay_with_an_empty_buffer_and_no_step_is_standard_training_bit_for_bit(
    few, tiny, tmp_path
):
    standard = run_of(tiny("standard"), few(), tmp_path, 10)
    plain, _ = DEFENSES["free_at"].compose({"replays": 1, "free_step": 0.0})
    assert_same_students(standard, run_of(tiny("standard"), few(), tmp_path, 10, composed=plain))
    moving = dataclasses.replace(plain, policy=FreeReplay(replays=1, relative_step=1.0))
    other = run_of(tiny("standard"), few(), tmp_path, 10, composed=moving)
    assert not torch.equal(standard.players.network.head.weight, other.players.network.head.weight)


@pytest.mark.parametrize("replays", [1, 3])
def test_every_replay_has_a_rate_of_its_own(replays, few, tiny, tmp_path, monkeypatch):
    rates, real = [], torch.optim.SGD.step

    def spy(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    asked = {"replays": replays, "schedule": "cyclic", "learning_rate": 0.04}
    run = run_of(tiny("free_at", settings=asked), few(66), tmp_path, 4)
    updates = 2 * run.steps_per_epoch * replays
    expected = [0.04 * (1 - abs(2 * n / updates - 1)) for n in range(4 * replays)]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_awp_without_a_move_is_its_base_bit_for_bit(few, tiny, tmp_path):
    plain = run_of(tiny("trades"), few(), tmp_path, 10)
    still, _ = DEFENSES["trades+awp"].compose({"awp_gamma": 0.0})
    assert_same_students(plain, run_of(tiny("trades"), few(), tmp_path, 10, composed=still))
    moving, _ = DEFENSES["trades+awp"].compose({"awp_first_epoch": 0})
    other = run_of(tiny("trades"), few(), tmp_path, 10, composed=moving)
    assert not torch.equal(plain.players.network.head.weight, other.players.network.head.weight)


@pytest.mark.parametrize("defense", ["trades_frpat+awp", "trades_lbgat+awp"])
def test_under_awp_student_and_teacher_pass_as_often_as_without(defense, few, tiny, tmp_path):
    request = tiny(defense, settings={"awp_first_epoch": 0})
    run = run_of(request, few(64), tmp_path, 2)
    assert [updates(network) for network in run.players.modules().values()] == [{4}, {2}]
