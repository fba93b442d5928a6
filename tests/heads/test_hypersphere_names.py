"""The 25 names of the hypersphere family: settings, recipes, status, and what is refused."""

import dataclasses
from fractions import Fraction

import pytest
import torch

from harness.batch import Batch, InnerBudget
from harness.catalogue import ADDITIONS, DEFENSES
from harness.data.datasets import DATASETS
from harness.defense import Build
from harness.errors import HarnessError
from harness.hooks.reverse_attention import ReverseAttention
from harness.protocols import PROTOCOLS, Target
from harness.recipe import RECIPES
from harness.steps.weight_perturbation import WeightPerturbation
from harness.threat import ThreatModel
from harness.training.request import training_request

HEADS = ("fn", "wn", "fn_wn", "he", "mhe")
BASES = ("pgd_at", "trades", "alp", "free_at", "fast_at")
NAMES = [f"{base}_{head}" for base in BASES for head in HEADS]
UNTRIED = {
    *("trades_fn", "trades_wn"),
    *(f"{base}_{head}" for base in BASES[2:] for head in ("fn", "wn", "fn_wn")),
}
S_AND_M = {
    **{f"{base}_fn": (10, 0) for base in BASES},
    **{f"{base}_wn": (1, 0) for base in BASES},
    **{f"{base}_mhe": (15, 0.1) for base in BASES},
    **{"pgd_at_he": (10, 0.2), "trades_he": (15, 0.2), "alp_he": (20, 0.3)},
    **{"free_at_he": (15, 0.2), "fast_at_he": (15, 0.2)},
    **{"pgd_at_fn_wn": (10, 0), "trades_fn_wn": (15, 0), "alp_fn_wn": (20, 0)},
    **{"free_at_fn_wn": (15, 0), "fast_at_fn_wn": (15, 0)},
}


def network_of(composed, **build):
    return composed.build(Build((1, 8, 8), 10, "small_resnet", {"width": 2}, **build)).network


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_margin_are_those_of_the_read_me_of_the_code(name):
    composed, settings = DEFENSES[name].compose({})
    assert (composed.head.scale, composed.head.margin) == S_AND_M[name]
    assert settings["scale"] == S_AND_M[name][0]
    assert settings.get("margin", 0.0) == S_AND_M[name][1]
    assert DEFENSES[name].recipe.normalise


@pytest.mark.parametrize("name", NAMES)
def test_what_no_paper_tried_is_marked(name):
    entry = DEFENSES[name]
    assert entry.status == ("unvalidated" if name in UNTRIED else "published")
    assert entry.description.endswith("no paper tried this.") is (name in UNTRIED)
    assert entry.family == "HE"
    assert DEFENSES[f"{entry.base}+{entry.additions[0]}"] is entry


@pytest.mark.parametrize("name", NAMES)
def test_only_the_head_differs_from_the_base(name):
    composed, _ = DEFENSES[name].compose({})
    base, _ = DEFENSES[DEFENSES[name].base].compose({})
    assert dataclasses.replace(composed, head=base.head) == base


@pytest.mark.parametrize(
    ("name", "units", "view"),
    [
        ("pgd_at_fn", "features", "cosine"),
        ("pgd_at_wn", "weights", "cosine"),
        ("pgd_at_fn_wn", "both", "cosine"),
        ("pgd_at_he", "both", "cosine"),
        ("pgd_at_mhe", "both", "angle"),
    ],
)
def test_each_name_is_the_head_that_it_says(name, units, view):
    head = DEFENSES[name].compose({})[0].head
    assert (head.units, head.view, head.projects) == (units, view, False)


@pytest.mark.parametrize(
    ("name", "architecture", "recipe"),
    [
        *((f"{base}_{head}", None, "H-C10") for base in BASES[:3] for head in HEADS),
        *((f"free_at_{head}", None, "H-Free") for head in HEADS),
        *((f"fast_at_{head}", None, "H-Fast") for head in HEADS),
        ("pgd_at_he", "wrn_34_20", "H-C10-wd"),
        ("trades_he", "wrn_34_20", "H-C10"),
    ],
)
def test_recipes_are_those_of_the_tables(name, architecture, recipe):
    request = training_request(name, DATASETS["cifar10"], scale="full", architecture=architecture)
    assert request.recipe_id == recipe
    assert request.architecture == (architecture or RECIPES[recipe].architecture)


def test_the_recipe_of_table_6_decays_more_and_changes_nothing_else():
    assert RECIPES["H-C10-wd"].weight_decay == 5e-4
    assert dataclasses.replace(RECIPES["H-C10-wd"], weight_decay=2e-4) == RECIPES["H-C10"]


def test_the_recipe_of_the_code_stops_after_77_epochs_at_another_epsilon():
    request = training_request(
        "pgd_at_he", DATASETS["cifar10"], scale="full", recipe_id="H-C10-code"
    )
    recipe = request.recipe
    assert (recipe.epochs, recipe.drops) == (77, "75")
    assert request.threat.epsilon == Fraction("0.031")
    assert recipe.relative_step * 0.031 == pytest.approx(0.007)
    assert recipe.weight_decay == 2e-4


@pytest.mark.parametrize("second", HEADS)
@pytest.mark.parametrize("first", HEADS)
def test_a_second_head_is_refused(first, second):
    once = ADDITIONS[first].apply(DEFENSES["pgd_at"].compose({})[0])
    with pytest.raises(HarnessError, match="two heads: a network has one classifier"):
        ADDITIONS[second].apply(once)
    if first != second:
        with pytest.raises(HarnessError):
            DEFENSES[f"trades+{first}+{second}"].compose({})


@pytest.mark.parametrize("head", ["wn", "fn_wn", "he", "mhe"])
def test_weights_that_are_put_back_at_each_pass_are_not_perturbed(head):
    entry = DEFENSES[f"trades+awp+{head}"]
    composed, _ = entry.compose({})
    assert entry.status == "unvalidated"
    assert isinstance(composed.perturbation, WeightPerturbation)
    with pytest.raises(HarnessError, match="choose weight_norm=divide"):
        entry.compose({"weight_norm": "project"})
    projecting = DEFENSES[f"trades+{head}"].compose({"weight_norm": "project"})[0]
    with pytest.raises(HarnessError):
        ADDITIONS["awp"].apply(projecting)


@pytest.mark.parametrize("head", HEADS)
def test_reverse_attention_multiplies_by_the_rows_of_the_forward_pass(head):
    entry = DEFENSES[f"trades+{head}"]
    assert DEFENSES[f"trades+ancra+{head}"].status == "unvalidated"
    composed, _ = entry.compose({})
    composed = dataclasses.replace(composed, hook=ReverseAttention())
    network = network_of(composed).eval()
    with torch.no_grad():
        network.head.weight.mul_(3)
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 3, 9, 3])
    outputs = network(images, select=labels)
    masks = network.head.rows[labels]
    torch.testing.assert_close(outputs.gated, outputs.vectors[-1] * masks)
    assert len(outputs.auxiliary) == 2
    torch.testing.assert_close(outputs.auxiliary[0], network.head(outputs.vectors[0]))


@pytest.mark.parametrize("name", NAMES)
def test_attackers_are_told_the_scale_and_climb_the_margin(name):
    composed, settings = DEFENSES[name].compose({})
    network = network_of(composed).eval()
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 3, 9, 3])
    found = composed.capabilities(network, 10)
    outputs = network(images)
    assert found.scale == outputs.logit_scale == settings["scale"]
    view, units = composed.head.view, composed.head.units
    assert ("bounded_logits" in found.signs) is (units == "both")
    assert ("angular_logits" in found.signs) is (view == "angle")
    if settings["scale"] == 1.0:
        return  # a linear layer's loss, as far as an attacker is concerned
    assert found.needs_adaptive
    adaptive = PROTOCOLS["adaptive"].wanted(Target(found))
    losses = {spec.loss for spec, _ in adaptive if spec.surface == "logits"}
    assert f"ce({settings['scale']:g})" in losses
    assert ("cosine" in {spec.surface for spec, _ in adaptive}) is (view == "angle")
    assert found.training_loss
    assert "training_loss" in {spec.surface for spec, _ in adaptive}
    batch = Batch(
        network,
        images,
        labels,
        budget=InnerBudget(ThreatModel.parse("linf", "8/255"), 1, 0.0),
        combine=composed.combine,
        generator=torch.Generator(),
        maximiser=lambda _: images,
    )
    margin = settings.get("margin", 0.0) * torch.nn.functional.one_hot(labels, 10)
    lowered = settings["scale"] * (outputs.logits - margin)
    torch.testing.assert_close(
        composed.per_image(batch),
        torch.nn.functional.cross_entropy(lowered, labels, reduction="none"),
    )


@pytest.mark.parametrize("head", HEADS)
def test_settings_reach_the_head(head):
    given = {"scale": 3, "margin": 0.4, "weight_norm": "project", "inner_scale": 1}
    entry = DEFENSES[f"alp_{head}"]
    given = {key: value for key, value in given.items() if key in entry.settings}
    composed, _ = entry.compose(given)
    assert "inner_scale" in given
    for key, value in given.items():
        assert str(getattr(composed.head, key)) in {str(value), f"{value}.0"}
    assert composed.head.projects is ("weight_norm" in given) is (head != "fn")


@pytest.mark.parametrize("head", HEADS)
def test_the_trunk_starts_as_that_of_the_base(head):
    base = dict(network_of(DEFENSES["pgd_at"].compose({})[0], seed=3).named_parameters())
    found = dict(network_of(DEFENSES[f"pgd_at_{head}"].compose({})[0], seed=3).named_parameters())
    assert set(base) - set(found) == {"head.bias"}
    assert all(torch.equal(values, base[name]) for name, values in found.items())
