"""Recipes: the papers' numbers at full scale, the same fractions below, types and limits."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import pytest

from harness.catalogue import DEFENSES
from harness.errors import HarnessError
from harness.recipe import RECIPE_KEYS, RECIPES, Recipe, scaled, shortened
from harness.steps.schedules import parse_drops
from harness.training.loop import learning_rate

ANCRA = RECIPES["A-R18"]
TRADES = replace(RECIPES["F-main"], epochs=76, drops="75", teacher="")

PAD = ("pad-4 crop 32, flip", True)
NO_PAD = ("none", False)


class Row(NamedTuple):
    """One row of the table of training recipes, typed from the papers' own words."""

    architecture: str
    rate: float
    lowered: dict[int, float]  # epoch -> share of the rate from then on
    epochs: int
    decay: float
    augmentation: tuple[str, bool]
    epsilon: float
    step: float
    inner_steps: int
    teacher: str = ""
    schedule: str = "drops"
    attack_bn: str = "eval"


EIGHT = 8 / 255
ROWS = {
    "A-R18": Row(
        "resnet18", 0.01, {75: 0.1, 90: 0.01, 100: 0.001}, 120, 2e-4, PAD, EIGHT, 0.007, 10
    ),
    "A-WRN": Row("wrn_34_10", 0.1, {75: 0.1}, 76, 2e-4, PAD, EIGHT, 0.007, 10),
    "A-TIN": Row(
        "preactresnet18", 0.1, {75: 0.1, 90: 0.01, 100: 0.001}, 120, 5e-4, NO_PAD, EIGHT, 0.007, 10
    ),
    "F-main": Row(
        "wrn_34_10", 0.1, {76: 0.1, 91: 0.01}, 100, 2e-4, PAD, 0.031, 0.007, 10, "resnet18"
    ),
    "F-new": Row(
        "wrn_34_10", 0.1, {101: 0.1, 106: 0.01}, 110, 5e-4, PAD, EIGHT, 0.007, 10, "resnet18"
    ),
    "F-TIN": Row(
        "wrn_34_10", 0.1, {76: 0.1, 91: 0.01}, 100, 2e-4, PAD, 0.031, 0.007, 10, "resnet18"
    ),
    "F-teacher": Row("resnet18", 0.1, {76: 0.1, 91: 0.01}, 100, 2e-4, PAD, EIGHT, 0.007, 10),
    "H-C10": Row("wrn_34_10", 0.1, {75: 0.1, 90: 0.01}, 100, 2e-4, PAD, EIGHT, 2 / 255, 10),
    "H-std": Row("wrn_34_10", 0.1, {75: 0.1, 90: 0.01}, 100, 2e-4, PAD, EIGHT, 2 / 255, 10),
    "H-Fast": Row(
        "preactresnet18", 0.2, {}, 30, 5e-4, PAD, EIGHT, 10 / 255, 1, "", "cyclic", "train"
    ),
    "H-Free": Row(
        "preactresnet18", 0.04, {}, 10, 5e-4, PAD, EIGHT, 8 / 255, 1, "", "cyclic", "train"
    ),
}
"""Training recipes by their id; 8/255 is the dataset's own threat and so is left empty there."""

NO_DATASET = {"H-IN"}
"""ImageNet's own, which no dataset of this project can run."""


@pytest.mark.parametrize("identity", sorted(ROWS.keys() & RECIPES.keys()))
def test_a_recipe_is_that_of_its_paper_to_the_letter(identity):
    recipe, row = RECIPES[identity], ROWS[identity]
    assert (recipe.architecture, recipe.teacher) == (row.architecture, row.teacher)
    assert (recipe.epochs, recipe.weight_decay) == (row.epochs, row.decay)
    assert (recipe.batch_size, recipe.momentum, recipe.warm_up) == (128, 0.9, 0.0)
    assert (recipe.schedule, recipe.attack_bn) == (row.schedule, row.attack_bn)
    assert recipe.augment == row.augmentation[1]
    assert recipe.inner_steps == row.inner_steps
    assert float(Fraction(recipe.epsilon or "8/255")) == row.epsilon
    assert recipe.relative_step * row.epsilon == pytest.approx(row.step, rel=1e-12)
    assert (recipe.precision, recipe.on_collapse) == ("float32", "flag")
    if row.schedule == "cyclic":
        assert recipe.drops == ""
        thirds = [learning_rate(recipe, 1, done) for done in (0, 0.25, 0.5, 1)]
        assert thirds == pytest.approx([0, row.rate / 2, row.rate, 0])
        return
    share = 1.0
    for epoch in range(1, row.epochs + 1):
        share = row.lowered.get(epoch, share)
        assert learning_rate(recipe, epoch, 0.5) == pytest.approx(row.rate * share, rel=1e-12)


def test_recipes_that_the_papers_state_are_all_there():
    assert ROWS.keys() <= RECIPES.keys()
    assert not NO_DATASET & RECIPES.keys()


def test_every_recipe_that_a_defense_names_exists():
    for name in DEFENSES:
        entry = DEFENSES[name]
        named = {entry.recipe_id, *(v.recipe for v in entry.variants)} - {""}
        assert named <= RECIPES.keys(), name


def test_the_recipe_of_trades_is_the_authors_own():
    assert RECIPES["TRADES"] == TRADES
    assert [learning_rate(TRADES, epoch, 0) for epoch in (74, 75, 76)] == pytest.approx(
        [0.1, 0.01, 0.01]
    )


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("standard", "F-teacher"),
        ("pgd_at", "A-R18"),
        ("trades_ancra", "A-R18"),
        ("trades_frpat", "F-main"),
        ("trades_he", "H-C10"),
        ("trades", "TRADES"),
    ],
)
def test_full_scale_is_the_paper_s_recipe(name, recipe):
    assert scaled(DEFENSES[name].recipe, "full", "cifar10") is RECIPES[recipe]


@pytest.mark.parametrize(
    ("recipe", "reduced", "smoke"),
    [
        (ANCRA, "19,23,26", "3"),
        (RECIPES["F-main"], "23,28", "3"),
        (RECIPES["H-C10"], "23,28", "3"),
        (TRADES, "30", "3"),
    ],
)
def test_shorter_runs_drop_at_the_same_fractions(recipe, reduced, smoke):
    shorter = scaled(recipe, "reduced", "cifar10")
    assert (shorter.epochs, shorter.architecture) == (30, "resnet18")
    assert shorter.drops == reduced
    for early, late in zip(parse_drops(shorter.drops), parse_drops(recipe.drops), strict=True):
        assert (early - 1) / 30 == pytest.approx((late - 1) / recipe.epochs, abs=0.51 / 30)
    smallest = scaled(recipe, "smoke", "cifar10")
    assert (smallest.epochs, smallest.inner_steps) == (3, 3)
    assert smallest.drops == smoke


@pytest.mark.parametrize("scale", ["reduced", "smoke"])
@pytest.mark.parametrize("recipe", [ANCRA, RECIPES["F-main"], RECIPES["H-C10"], TRADES])
def test_shorter_runs_keep_everything_else(recipe, scale):
    shorter = scaled(recipe, scale, "cifar10")
    for key in ("learning_rate", "schedule", "weight_decay", "batch_size", "momentum", "augment"):
        assert getattr(shorter, key) == getattr(recipe, key)
    assert shorter.teacher == ""
    if scale == "reduced":
        assert shorter.inner_steps == recipe.inner_steps
        assert shorter.relative_step == recipe.relative_step


@pytest.mark.parametrize("recipe", [ANCRA, RECIPES["F-main"]])
def test_digits_have_a_recipe_of_their_own_and_no_full_scale(recipe):
    smoke = scaled(recipe, "smoke", "digits")
    reduced = scaled(recipe, "reduced", "digits")
    assert (smoke.architecture, smoke.epochs, smoke.schedule) == ("small_resnet", 20, "one_cycle")
    assert smoke.inner_steps * smoke.relative_step == pytest.approx(2.5)
    assert reduced == replace(smoke, epochs=40)
    with pytest.raises(HarnessError, match="digits has no full scale"):
        scaled(recipe, "full", "digits")


def test_a_run_of_as_many_epochs_is_left_as_it_is():
    assert shortened(ANCRA, ANCRA.epochs) == ANCRA


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_an_unknown_scale_gets_the_nearest_name(dataset):
    with pytest.raises(HarnessError, match="Did you mean 'reduced'"):
        scaled(ANCRA, "reduce", dataset)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("epochs", 1, 10_000),
        ("batch_size", 2, 100_000),
        ("learning_rate", 0.0, 100.0),
        ("momentum", 0.0, 0.9999),
        ("weight_decay", 0.0, 10.0),
        ("inner_steps", 1, 10_000),
        ("relative_step", 1e-6, 10.0),
    ],
)
def test_numbers_stay_inside_their_limits(key, low, high):
    beyond = (low - 1, high + 1) if isinstance(low, int) else (low - 1e-7, high * 1.001, math.nan)
    for value in (low, high):
        assert getattr(ANCRA.changed(**{key: value}), key) == value
    for value in beyond:
        with pytest.raises(HarnessError, match=f"{key} must lie in"):
            ANCRA.changed(**{key: value})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 3.0}, "epochs takes a whole number but is '3.0'"),
        ({"epochs": True}, "epochs takes a whole number"),
        ({"epochs": "three"}, "epochs takes a whole number but is 'three'"),
        ({"learning_rate": "fast"}, "learning_rate takes a number"),
        ({"learning_rate": True}, "learning_rate takes a number"),
        ({"augment": 1}, "augment takes true or false"),
        ({"augment": "yes"}, "augment takes true or false"),
        ({"architecture": True}, "architecture takes a word"),
        ({"schedule": "cosine"}, "no schedule named 'cosine'"),
        ({"drops": "90,75"}, "must be positive and increase"),
    ],
)
def test_values_of_another_kind_are_refused(settings, sentence):
    with pytest.raises(HarnessError, match=sentence):
        ANCRA.changed(**settings)


def test_whole_numbers_become_decimals_and_one_drop_a_text():
    changed = ANCRA.changed(learning_rate=1, drops=75)
    assert type(changed.learning_rate) is float
    assert changed.drops == "75"
    assert ANCRA.drops == "75,90,100"  # the original is left alone


def test_a_recipe_is_recorded_whole():
    assert tuple(ANCRA.to_json()) == RECIPE_KEYS
    assert Recipe(**ANCRA.to_json()) == ANCRA


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"factors": "0.1"}, "factors '0.1' must be as many as drops '75,90,100', or none"),
        ({"factors": "2,1,1"}, "factors are numbers"),
        ({"attack_bn": "both"}, "no attack bn named 'both'"),
        ({"precision": "float16"}, "no precision named 'float16'"),
        ({"on_collapse": "ignore"}, "no on collapse named 'ignore'"),
        ({"epsilon": "eight"}, "eight"),
        ({"warm_up": -0.1}, "warm_up must lie in"),
    ],
)
def test_words_and_rates_that_mean_nothing_are_refused(settings, sentence):
    with pytest.raises(HarnessError, match=sentence):
        ANCRA.changed(**settings)


def test_a_warm_up_is_the_rate_of_the_first_epoch_alone():
    warm = ANCRA.changed(warm_up=0.002)
    assert [learning_rate(warm, epoch, 0.0) for epoch in (1, 2, 74)] == [0.002, 0.01, 0.01]
    assert [learning_rate(ANCRA, epoch, 0.0) for epoch in (1, 2)] == [0.01, 0.01]


def test_of_drops_that_fall_together_the_first_one_rules():
    smallest = shortened(ANCRA, 3)
    assert (smallest.drops, smallest.factors) == ("3", "")
    assert learning_rate(smallest, 2, 0.5) == 0.01
    assert learning_rate(smallest, 3, 0.9) == pytest.approx(1e-3)


def test_a_late_drop_is_not_lost_in_a_short_run():
    """TRADES drops for the last two of 76 epochs."""
    assert [shortened(TRADES, epochs).drops for epochs in (30, 10, 3)] == ["30", "10", "3"]
    assert shortened(TRADES, 1).drops == ""


def test_factors_move_with_their_drops():
    stepped = ANCRA.changed(drops="60,90,110", factors="0.1,0.01,0.005")
    third = shortened(stepped, 40)
    assert (third.drops, third.factors) == ("21,31,37", "0.1,0.01,0.005")
    assert shortened(stepped, 120) == stepped


@pytest.mark.parametrize("scale", ["smoke", "reduced"])
def test_shorter_runs_keep_single_steps_and_the_mode_of_their_attack(scale):
    for identity in ("H-Fast", "H-Free"):
        full = RECIPES[identity]
        found = scaled(full, scale, "cifar10")
        assert (found.inner_steps, found.relative_step) == (1, full.relative_step)
        assert found.attack_bn == scaled(full, scale, "digits").attack_bn == "train"
        assert found.epochs <= full.epochs
