"""ANCRA's compositions: the totals of `ancra.md` section 8, and what real training steps do."""

import dataclasses

import pytest
import torch
from torch import nn

from harness.batch import ADVERSARIAL, CLEAN, NEGATIVE, Batch, InnerBudget, Negatives
from harness.catalogue import DEFENSES
from harness.data.datasets import DATASETS
from harness.errors import HarnessError
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.pgd import Pgd
from harness.models.network import Head
from harness.objectives.mart import Mart
from harness.outputs import Outputs
from harness.regularisers.negative_contrast import NegativeContrast
from harness.threat import ThreatModel
from harness.training.loop import Training, train
from harness.training.request import training_request

LOGITS = {
    0.0: (  # clean: final, first and second auxiliary output
        [[2, 0, -1], [0.5, 1, 0]],
        [[1, 0, 0], [0, 1, 0]],
        [[1.5, 0, -0.5], [0.2, 1, 0]],
    ),
    0.25: (  # adversarial
        [[1, 0.5, -0.5], [1, 0.2, 0]],
        [[0.5, 0.2, 0], [0.3, 0.4, 0]],
        [[0.8, 0.1, 0], [0.5, 0.6, 0]],
    ),
    0.5: (  # negative
        [[1, 0.2, 0], [0.1, 0, 0.9]],
        [[0, 1, 0], [0.2, 0.8, 0]],
        [[0.9, 0, 0.3], [0, 0.7, 0.2]],
    ),
}


class PlainHead(Head):
    def forward(self, features):
        return features


class TwoBlocks(nn.Module):
    blocks = (nn.Identity(), nn.Identity())


class Table(nn.Module):
    """Answers with the logits of the check case that the images name; as leaves."""

    def __init__(self, outputs):
        super().__init__()
        self.head = PlainHead()
        self.hook = ReverseAttention().build(TwoBlocks()) if outputs > 1 else None
        self.outputs = outputs
        self.found = {}

    def forward(self, images, *, select=None):
        key = float(images.flatten()[0])
        self.found[key] = leaves = [
            torch.tensor(rows, dtype=torch.float64, requires_grad=True)
            for rows in LOGITS[key][: self.outputs]
        ]
        return Outputs(leaves[0], tuple(leaves[1:]))


def image(value):
    return torch.full((2, 1, 1, 1), value)


def check_case(composed):
    there = torch.ones(2, dtype=torch.bool)
    return Batch(
        Table(3 if composed.hook else 1),
        image(0.0),
        torch.tensor([0, 1]),
        budget=InnerBudget(ThreatModel.parse("linf", "8/255"), 1, 0.0),
        combine=composed.combine,
        generator=torch.Generator(),
        maximiser=lambda _: image(0.25),
        negatives=lambda _: Negatives(image(0.5), torch.tensor([1, 0]), there),
    )


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("pgd_at", 1.000716),
        ("pgd_at+anc", 2.022849),
        ("pgd_at+ra", 2.681969),
        ("pgd_at_ancra", 6.197174),
        ("trades", 1.530842),
        ("trades_anc", 2.552975),
        ("trades_ra", 3.370233),
        ("trades_ancra", 6.885439),
        ("mart", 1.887605),
        ("mart+ra", 4.606931),
        ("mart_ancra", 8.122136),
    ],
)
def test_the_loss_of_a_composed_defense_is_the_total_of_the_check_case(name, total):
    composed, _ = DEFENSES[name].compose({})
    batch = check_case(composed)
    assert composed.loss(batch).item() == pytest.approx(total, abs=2e-6)


def test_both_parts_of_mart_are_those_of_the_check_case_for_every_output():
    composed, _ = DEFENSES["mart_ancra"].compose({})
    batch, outputs = check_case(composed), range(3)
    boosted = [Mart(beta=0.0)(batch, k).mean().item() for k in outputs]
    weighted = [Mart(beta=1.0)(batch, k).mean().item() - boosted[k] for k in outputs]
    assert boosted == pytest.approx([1.601470, 1.305501, 1.158868], abs=1e-6)
    assert weighted == pytest.approx([0.057227, 0.026295, 0.024697], abs=1e-6)


@pytest.mark.parametrize("anchor_bn", ["train", "eval"])
@pytest.mark.parametrize("name", ["pgd_at_ancra", "trades_ancra", "mart_ancra"])
def test_neither_the_mode_of_the_anchors_nor_alpha_changes_the_value(name, anchor_bn):
    totals = set()
    for alpha in (0.0, 0.3, 1.0):
        composed, _ = DEFENSES[name].compose({"anchor_bn": anchor_bn, "alpha": alpha})
        totals.add(round(composed.loss(check_case(composed)).item(), 9))
    usual, _ = DEFENSES[name].compose({})
    assert totals == {round(usual.loss(check_case(usual)).item(), 9)}


@pytest.mark.parametrize("name", ["trades_ancra", "mart_ancra"])
def test_with_alpha_one_contrast_adds_no_gradient_to_the_anchors_of_any_output(name):
    found = []
    for zeta in (0.0, 3.0):
        composed, _ = DEFENSES[name].compose({"zeta": zeta})
        batch = check_case(composed)
        composed.loss(batch).backward()
        found.append([leaf.grad for leaf in batch.network.found[0.0]])
    for without, with_contrast in zip(*found, strict=True):
        assert torch.equal(without, with_contrast)
    contrasted, _ = DEFENSES[name].compose({"alpha": 0.9})
    batch = check_case(contrasted)
    contrasted.loss(batch).backward()
    assert not torch.equal(batch.network.found[0.0][1].grad, found[0][1])


def test_match_rates_of_the_check_case_are_one_half_one_half_and_one():
    composed, _ = DEFENSES["trades_ancra"].compose({})
    batch = check_case(composed)
    composed.loss(batch)
    rates = {name: value.item() for name, value in batch.measures.items()}
    assert rates == {"match_rate_0": 0.5, "match_rate_1": 0.5, "match_rate_2": 1.0}


NAMED = ["pgd_at_ancra", "trades_ancra", "mart_ancra", "trades_anc", "trades_ra"]


def test_the_papers_combinations_are_published_and_the_others_are_not():
    assert {DEFENSES[name].status for name in NAMED} == {"published"}
    for name in ("pgd_at+anc", "pgd_at+ra", "mart+anc", "mart+ra", "standard+ancra"):
        DEFENSES[name].compose({})
        assert DEFENSES[name].status == "unvalidated"
    assert DEFENSES["trades+ancra"].name == "trades_ancra"


@pytest.mark.parametrize("name", ["trades+anc+ra", "trades_anc+ra", "trades_ra+anc"])
def test_contrast_and_reverse_attention_together_are_asked_for_by_their_name(name):
    with pytest.raises(HarnessError, match=r"trades\+ancra"):
        DEFENSES[name].compose({})


@pytest.mark.parametrize(
    ("name", "needs", "has_hook"),
    [
        ("pgd_at_ancra", {ADVERSARIAL, NEGATIVE}, True),
        ("trades_ancra", {CLEAN, ADVERSARIAL, NEGATIVE}, True),
        ("mart_ancra", {CLEAN, ADVERSARIAL, NEGATIVE}, True),
        ("trades_anc", {CLEAN, ADVERSARIAL, NEGATIVE}, False),
        ("trades_ra", {CLEAN, ADVERSARIAL}, True),
    ],
)
def test_every_combination_climbs_cross_entropy_and_has_the_parts_of_its_name(
    name, needs, has_hook
):
    composed, _ = DEFENSES[name].compose({})
    assert composed.maximiser == Pgd(climbs="ce")
    assert composed.needs == needs
    assert (composed.hook is not None) == has_hook


@pytest.mark.parametrize(
    ("name", "dataset", "architecture", "recipe", "zeta"),
    [
        ("trades_ancra", "cifar10", None, ("resnet18", 120, 0.01, "75,90,100"), 3.0),
        ("pgd_at_ancra", "cifar100", None, ("resnet18", 120, 0.01, "75,90,100"), 3.0),
        ("trades_ancra", "cifar10", "wrn_28_10", ("wrn_28_10", 76, 0.1, "75"), 6.0),
        ("trades_ancra", "cifar10", "wrn_34_10", ("wrn_34_10", 76, 0.1, "75"), 3.0),
        ("mart_ancra", "tiny_imagenet", None, ("preactresnet18", 120, 0.1, "75,90,100"), 3.0),
        ("trades_ra", "tiny_imagenet", None, ("preactresnet18", 120, 0.1, "75,90,100"), None),
        ("trades_anc", "cifar10", "wrn_28_10", ("wrn_28_10", 76, 0.1, "75"), 6.0),
    ],
)
def test_recipes_and_zeta_are_those_of_the_paper(name, dataset, architecture, recipe, zeta):
    request = training_request(name, DATASETS[dataset], scale="full", architecture=architecture)
    found = request.recipe
    assert (found.architecture, found.epochs, found.learning_rate, found.drops) == recipe
    assert request.settings.get("zeta") == zeta
    is_tiny = dataset == "tiny_imagenet"
    assert (found.weight_decay, found.augment) == ((5e-4, False) if is_tiny else (2e-4, True))
    assert request.settings.get("beta") == {"trades": 6.0, "mart": 5.0}.get(name.split("_")[0])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"negatives": "hard"}, "no choice of negatives named 'hard'"),
        ({"anchor_bn": "evl"}, "no mode of the anchors named 'evl'"),
        ({"final_bn": "own"}, "no mode of the final normalisation named 'own'"),
        ({"detach_mask": 1}, "detach_mask takes true or false"),
        ({"alpha": 2.0}, r"alpha must lie in \[0, 1\]"),
        ({"alpha": 2.0, "zeta": 0.0}, r"alpha must lie in \[0, 1\]"),
    ],
)
def test_settings_that_mean_nothing_are_refused_for_every_base(settings, sentence):
    for name in ("pgd_at_ancra", "trades_ancra"):
        with pytest.raises(HarnessError, match=sentence):
            DEFENSES[name].compose(settings)


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


@pytest.mark.parametrize(
    ("name", "settings", "passes"),
    [
        ("pgd_at_ancra", {}, 3),
        ("pgd_at_ancra", {"alpha": 0.5}, 3),
        ("pgd_at_ancra", {"anchor_bn": "eval"}, 2),
        ("pgd_at_ancra", {"zeta": 0.0}, 1),
        ("trades_ancra", {}, 3),
        ("trades_ancra", {"anchor_bn": "eval"}, 3),
        ("trades_ancra", {"negatives": "easy"}, 3),
        ("mart_ancra", {}, 3),
        ("trades_anc", {}, 3),
        ("trades_ra", {}, 2),
    ],
)
def test_batch_norm_sees_as_many_train_mode_passes_as_the_method_has(
    name, settings, passes, few, tiny, tmp_path
):
    run = run_of(tiny(name, settings=settings), few(64), tmp_path, 2)
    assert updates(run.players.network) == {2 * passes}
    assert all(module.training for module in run.players.network.modules())


@pytest.mark.parametrize(("final_bn", "counts"), [("shared", {3, 6}), ("per_block", {3})])
def test_a_final_normalisation_is_updated_once_per_pass_and_block_it_serves(
    final_bn, counts, few, tiny, tmp_path
):
    request = tiny(
        "trades_ancra", architecture="small_preactresnet", settings={"final_bn": final_bn}
    )
    run = run_of(request, few(64), tmp_path, 1)
    assert updates(run.players.network) == counts
    before = run_of(request, few(64), tmp_path).players.network.named_parameters()
    moved = dict(run.players.network.named_parameters())
    assert all((value != moved[name]).any() for name, value in before)


def same(first, second):
    state = second.players.network.state_dict()
    return all(torch.equal(v, state[k]) for k, v in first.players.network.state_dict().items())


@pytest.mark.parametrize("base", ["trades", "mart", "pgd_at"])
def test_without_contrast_on_a_plain_trunk_the_base_is_left_step_for_step(
    base, few, tiny, tmp_path
):
    ancra, _ = DEFENSES[f"{base}_ancra"].compose({"zeta": 0.0})
    plain = dataclasses.replace(ancra, hook=None)
    request = tiny(base, settings={"inner": "ce"} if base == "trades" else {})
    first = run_of(request, few(), tmp_path, 9)
    assert same(first, run_of(request, few(), tmp_path, 9, composed=plain))


def test_without_contrast_ancra_is_reverse_attention_and_without_gates_it_is_contrast(
    few, tiny, tmp_path
):
    request = tiny("trades_ra")
    gated, _ = DEFENSES["trades_ancra"].compose({"zeta": 0.0})
    first = run_of(request, few(), tmp_path, 5)
    assert same(first, run_of(request, few(), tmp_path, 5, composed=gated))
    request = tiny("trades_anc")
    whole, _ = DEFENSES["trades_ancra"].compose({})
    contrasted = dataclasses.replace(whole, hook=None)
    second = run_of(request, few(), tmp_path, 5)
    assert same(second, run_of(request, few(), tmp_path, 5, composed=contrasted))


@pytest.mark.parametrize("setting", [{"negatives": "soft_ls_adv"}, {"detach_mask": True}])
def test_a_setting_changes_what_is_learnt(setting, few, tiny, tmp_path):
    usual = run_of(tiny("trades_ancra"), few(), tmp_path, 5)
    other = run_of(tiny("trades_ancra", settings=setting), few(), tmp_path, 5)
    assert not same(usual, other)


@pytest.mark.parametrize("name", ["pgd_at_ancra", "trades_ancra", "mart_ancra", "trades_anc"])
def test_in_a_real_network_the_frozen_anchors_get_no_gradient(name, few, tiny, tmp_path):
    request, data = tiny(name), few(16)
    run = run_of(request, data, tmp_path)
    batch = run._batch(0, 0, torch.arange(16))
    value = NegativeContrast(weight=3.0)(batch)
    outputs = range(batch.clean.count)
    anchors = [batch.clean.deployed(k) for k in outputs]
    negatives = [batch.negative.deployed(k) for k in outputs]
    found = torch.autograd.grad(value, [*anchors, *negatives], allow_unused=True)
    assert value.item() > 0
    for gradient in found[: len(outputs)]:
        assert gradient is None or torch.count_nonzero(gradient) == 0
    assert any(torch.count_nonzero(gradient) > 0 for gradient in found[len(outputs) :])


def test_match_rates_are_in_the_training_curves(few, tiny, tmp_path):
    trained = train(tiny("trades_ancra", settings={"epochs": 1}), few(64), tmp_path)
    curves = trained.progress.measures
    assert set(curves) == {"match_rate_0", "match_rate_1", "match_rate_2"}
    assert all(len(curve) == 1 and 0 <= curve[0] <= 1 for curve in curves.values())


def test_a_run_with_a_normalisation_per_block_is_resumed_bit_for_bit(
    few, tiny, tmp_path, same_bits
):
    request = tiny(
        "trades_ancra", architecture="small_preactresnet", settings={"final_bn": "per_block"}
    )
    data = few(64)
    whole = train(request, data, tmp_path / "whole")
    half = Training(request, data, tmp_path / "half", "cpu")
    half.one_epoch(None)
    resumed = train(request, data, tmp_path / "half")
    states = [one.players.network.state_dict() for one in (whole, resumed)]
    assert same_bits(*states)
    assert "hook.norms.0.running_mean" in states[0]
