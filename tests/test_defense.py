"""Whole losses against `ancra.md` section 8, through the real parts; and what a defense says."""

import dataclasses

import pytest
import torch
from torch import nn

from harness.batch import (
    ADVERSARIAL,
    CLEAN,
    NEGATIVE,
    TEACHER,
    Batch,
    InnerBudget,
    Negatives,
    PerHead,
)
from harness.catalogue import DEFENSES, Paper, defense
from harness.defense import Build, Defense
from harness.errors import HarnessError
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.pgd import Pgd
from harness.models.network import Head
from harness.objectives.cross_entropy import CrossEntropy
from harness.objectives.trades import Trades
from harness.outputs import Outputs
from harness.regularisers.negative_contrast import NegativeContrast
from harness.threat import ThreatModel

CLEAN_IMAGE, ADVERSARIAL_IMAGE, NEGATIVE_IMAGE = 0.0, 0.25, 0.5

FINAL = {
    CLEAN_IMAGE: [[2, 0, -1], [0.5, 1, 0]],
    ADVERSARIAL_IMAGE: [[1, 0.5, -0.5], [1, 0.2, 0]],
    NEGATIVE_IMAGE: [[1, 0.2, 0], [0.1, 0, 0.9]],
}
AUXILIARY = (
    {
        CLEAN_IMAGE: [[1, 0, 0], [0, 1, 0]],
        ADVERSARIAL_IMAGE: [[0.5, 0.2, 0], [0.3, 0.4, 0]],
        NEGATIVE_IMAGE: [[0, 1, 0], [0.2, 0.8, 0]],
    },
    {
        CLEAN_IMAGE: [[1.5, 0, -0.5], [0.2, 1, 0]],
        ADVERSARIAL_IMAGE: [[0.8, 0.1, 0], [0.5, 0.6, 0]],
        NEGATIVE_IMAGE: [[0.9, 0, 0.3], [0, 0.7, 0.2]],
    },
)


class PlainHead(Head):
    def forward(self, features):
        return features


class Table(nn.Module):
    """Answers with the logits of `ancra.md` section 8; the images only say which ones."""

    def __init__(self, auxiliary):
        super().__init__()
        self.head = PlainHead()
        self.hook = ReverseAttention().build(HookedTrunk()) if auxiliary else None
        self.tables = (FINAL, *AUXILIARY) if auxiliary else (FINAL,)

    def forward(self, images, *, select=None):
        key = float(images.flatten()[0])
        logits = [
            torch.tensor(table[key], dtype=torch.float64, requires_grad=True)
            for table in self.tables
        ]
        return Outputs(logits[0], tuple(logits[1:]))


class HookedTrunk(nn.Module):
    blocks = (nn.Identity(), nn.Identity())


def image(value):
    return torch.full((2, 1, 1, 1), value)


def batch_of(composed, *, auxiliary):
    negatives = Negatives(image(NEGATIVE_IMAGE), torch.tensor([1, 0]), torch.tensor([True, True]))
    return Batch(
        Table(auxiliary),
        image(CLEAN_IMAGE),
        torch.tensor([0, 1]),
        budget=InnerBudget(ThreatModel.parse("linf", "8/255"), 1, 0.0),
        combine=composed.combine,
        generator=torch.Generator(),
        maximiser=lambda _: image(ADVERSARIAL_IMAGE),
        negatives=lambda _: negatives,
    )


CONTRAST = (NegativeContrast(weight=3.0),)


@pytest.mark.parametrize(
    ("objective", "regularisers", "auxiliary", "total"),
    [
        (Trades(beta=6), (), False, 1.530842),
        (Trades(beta=6), CONTRAST, False, 2.552975),
        (Trades(beta=6), (), True, 3.370233),
        (Trades(beta=6), CONTRAST, True, 6.885439),
        (CrossEntropy(on="adversarial"), (), False, 1.000716),
        (CrossEntropy(on="adversarial"), CONTRAST, False, 2.022849),
        (CrossEntropy(on="adversarial"), (), True, 2.681969),
        (CrossEntropy(on="adversarial"), CONTRAST, True, 6.197174),
        (CrossEntropy(on="clean"), (), False, 0.425058),
        (CrossEntropy(on="clean"), (), True, 1.428332),
    ],
)
def test_total_losses_are_those_of_the_check_cases(objective, regularisers, auxiliary, total):
    composed = Defense(objective, maximiser=Pgd(), regularisers=regularisers)
    loss = composed.loss(batch_of(composed, auxiliary=auxiliary))
    assert loss.item() == pytest.approx(total, abs=2e-6)


@pytest.mark.parametrize(
    ("objective", "values"),
    [
        (CrossEntropy(on="clean"), [0.425058, 0.551445, 0.451829]),
        (CrossEntropy(on="adversarial"), [1.000716, 0.899599, 0.781654]),
    ],
)
def test_cross_entropy_per_output_averages_to_the_check_cases(objective, values):
    batch = batch_of(Defense(objective, maximiser=Pgd()), auxiliary=True)
    per_image = [objective(batch, k) for k in range(3)]
    assert all(loss.shape == (2,) for loss in per_image)
    assert [loss.mean().item() for loss in per_image] == pytest.approx(values, abs=1e-6)


def test_trades_per_output_is_cross_entropy_plus_beta_times_the_divergence():
    batch = batch_of(Defense(Trades(), maximiser=Pgd()), auxiliary=True)
    values = [(Trades(beta=1)(batch, k) - Trades(beta=0)(batch, k)).mean().item() for k in range(3)]
    assert values == pytest.approx([0.184297, 0.062033, 0.077320], abs=1e-6)


def test_per_head_with_weight_two_is_the_plain_sum_of_three_outputs():
    values = [torch.tensor(value) for value in (0.184297, 0.062033, 0.077320)]
    assert PerHead(2.0)(values.__getitem__, 3).item() == pytest.approx(0.323650, abs=1e-6)


def test_per_head_without_auxiliary_outputs_is_the_final_loss_itself():
    final = torch.tensor([1.0, 2.0])
    assert PerHead(2.0)([final].__getitem__, 1) is final


def test_contrast_per_output_is_that_of_the_check_cases():
    batch = batch_of(Defense(Trades(), maximiser=Pgd()), auxiliary=True)
    per_output = []
    batch.combine = lambda loss, count: per_output.extend(loss(k) for k in range(count)) or loss(0)
    NegativeContrast(weight=1.0)(batch)
    assert [loss.mean().item() for loss in per_output] == pytest.approx(
        [0.340711, 0.268480, 0.562544], abs=1e-6
    )
    assert [int((loss > 0).sum()) for loss in per_output] == [1, 1, 2]


def test_contrast_is_combined_over_outputs_and_weighted():
    composed = Defense(Trades(), maximiser=Pgd())
    value = NegativeContrast(weight=3.0)(batch_of(composed, auxiliary=True))
    assert value.item() == pytest.approx(3 * 1.171735, abs=3e-6)


def test_anchors_without_a_negative_count_in_the_divisor_only():
    composed = Defense(Trades(), maximiser=Pgd())
    batch = batch_of(composed, auxiliary=False)
    batch.negatives = batch.negatives._replace(exists=torch.tensor([False, True]))
    assert NegativeContrast(weight=1.0)(batch).item() == 0.0  # only the first one matched
    batch = batch_of(composed, auxiliary=False)
    batch.negatives = batch.negatives._replace(exists=torch.tensor([True, False]))
    assert NegativeContrast(weight=1.0)(batch).item() == pytest.approx(0.340711, abs=1e-6)


def test_needs_are_those_of_all_parts():
    assert Defense(Trades(), maximiser=Pgd()).needs == {CLEAN, ADVERSARIAL}
    assert Defense(CrossEntropy("clean"), regularisers=CONTRAST).needs == {CLEAN, NEGATIVE}
    assert DEFENSES["trades_frpat"].compose({})[0].needs == {CLEAN, ADVERSARIAL, TEACHER}


def built(name, **settings):
    composed, full = DEFENSES[name].compose(settings)
    build = Build((1, 8, 8), 10, "small_resnet", {"width": 2})
    return composed, composed.build(build).network, full


@pytest.mark.parametrize(
    ("name", "auxiliary", "select", "scale", "training_loss"),
    [
        ("standard", 0, False, 1.0, False),
        ("pgd_at", 0, False, 1.0, False),
        ("trades", 0, False, 1.0, True),
        ("trades_ancra", 2, True, 1.0, True),
        ("trades_frpat", 0, False, 1.0, True),
        ("trades_he", 0, False, 15.0, True),
    ],
)
def test_capabilities_say_what_the_network_really_returns(
    name, auxiliary, select, scale, training_loss
):
    composed, network, _ = built(name)
    found = composed.capabilities(network, 10)
    outputs = network(torch.rand(3, 1, 8, 8))
    assert (found.classes, found.auxiliary, found.select) == (10, auxiliary, select)
    assert (found.scale, found.training_loss, found.features) == (scale, training_loss, True)
    assert (len(outputs.auxiliary), outputs.logit_scale) == (auxiliary, scale)
    assert outputs.logits.shape == (3, found.classes)


def test_the_composition_names_every_part_that_is_there():
    composed, *_ = built("trades_ancra")
    words = composed.composition()
    assert words["objective"] == "trades (beta 6, detach clean False)"
    assert words["regularisers"].startswith("negative contrast (weight 3, alpha 1")
    assert words["combine"] == "per head (auxiliary weight 2)"
    assert "companion" not in words
    assert set(built("standard")[0].composition()) == {"objective", "head"}
    assert built("trades_frpat")[0].composition()["companion"].startswith("companion")


def test_the_same_seed_gives_the_same_networks_and_another_seed_others():
    composed, _ = DEFENSES["trades_frpat"].compose({})
    build = Build((1, 8, 8), 10, "small_resnet", {"width": 2}, seed=3)
    once, again = composed.build(build), composed.build(build)
    for role, network in once.modules().items():
        for name, values in network.state_dict().items():
            assert torch.equal(values, again.modules()[role].state_dict()[name])
    other = composed.build(dataclasses.replace(build, seed=4))
    assert not torch.equal(other.network.trunk.conv1.weight, once.network.trunk.conv1.weight)
    assert not torch.equal(once.companion.trunk.conv1.weight, once.network.trunk.conv1.weight)


def test_building_leaves_the_global_random_numbers_alone():
    state = torch.get_rng_state()
    built("trades_frpat")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_student_starts_the_same_with_and_without_a_companion():
    with_teacher, without = built("trades_frpat")[1], built("trades")[1]
    for name, values in without.state_dict().items():
        assert torch.equal(values, with_teacher.state_dict()[name])


def test_a_teacher_of_another_architecture_takes_that_one_s_own_settings():
    composed, _ = DEFENSES["trades_frpat"].compose({})
    players = composed.build(
        Build((1, 8, 8), 10, "small_resnet", {"width": 2}, teacher="small_preactresnet")
    )
    assert players.network.trunk.conv1.weight.shape[0] == 2
    assert players.companion.trunk.conv1.weight.shape[0] == 16


def test_settings_are_filled_in_and_whole_numbers_become_decimals():
    composed, full = DEFENSES["trades"].compose({"beta": 2})
    assert full == {"beta": 2.0, "inner": "kl", "detach_clean": False}
    assert type(full["beta"]) is float
    assert composed.objective == Trades(beta=2.0)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("trades", {"bata": 1.0}, "Did you mean 'beta'"),
        ("trades", {"beta": "six"}, "beta takes a number but is 'six'"),
        ("trades", {"beta": True}, "beta takes a number"),
        ("trades", {"beta": -1.0}, "must lie in"),
        ("trades", {"beta": float("nan")}, "must lie in"),
        ("trades", {"beta": float("inf")}, "must lie in"),
        ("trades", {"inner": "margin"}, "no inner loss named 'margin'.*ce, kl"),
        ("trades_ancra", {"alpha": 1.5}, r"alpha must lie in \[0, 1\]"),
        ("trades_ancra", {"hooked_blocks": 1.0}, "hooked_blocks takes a whole number"),
        ("trades_ancra", {"detach_mask": 1}, "detach_mask takes true or false"),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, settings, sentence):
    with pytest.raises(HarnessError, match=sentence):
        DEFENSES[name].compose(settings)


@pytest.mark.parametrize("blocks", [0, 3])
def test_more_hooked_blocks_than_the_last_stage_has_are_refused(blocks):
    with pytest.raises(HarnessError, match=f"hooks {blocks} blocks.*has 2"):
        built("trades_ancra", hooked_blocks=blocks)


def test_two_defenses_of_one_name_are_refused():
    assert "trades" in DEFENSES

    def trades() -> Defense:
        return Defense(Trades(), maximiser=Pgd())

    with pytest.raises(HarnessError, match="two defenses are named 'trades'"):
        defense(paper=Paper("Another"))(trades)


def test_a_paper_without_an_arxiv_number_says_only_what_is_known():
    assert Paper("A", year=2023).to_json() == {"title": "A", "year": "2023"}


@pytest.mark.parametrize("on", ["adversarail", "", "negative"])
def test_cross_entropy_on_unknown_images_is_refused(on):
    with pytest.raises(HarnessError, match="no kind of image named"):
        CrossEntropy(on=on)


def test_a_loss_that_needs_what_the_defense_lacks_says_so():
    batch = Batch(
        Table(auxiliary=False),
        image(CLEAN_IMAGE),
        torch.tensor([0, 1]),
        budget=InnerBudget(ThreatModel.parse("linf", "8/255"), 1, 0.0),
        combine=PerHead(),
        generator=torch.Generator(),
    )
    for need in ("adversarial_images", "negatives", "teacher"):
        with pytest.raises(ValueError, match="a loss needs"):
            getattr(batch, need)


def test_pgd_with_a_trades_objective_is_what_trades_composes():
    composed, _ = DEFENSES["trades"].compose({"inner": "ce"})
    assert composed == Defense(Trades(beta=6.0), maximiser=Pgd(climbs="ce"))
