"""Recipes: the papers' numbers at full scale, the same fractions below, types and limits."""

import dataclasses
import math

import pytest

from harness.defense import DEFENSES
from harness.errors import HarnessError
from harness.recipe import (
    ANCRA,
    FRPAT,
    HYPERSPHERE,
    RECIPE_KEYS,
    STANDARD,
    TRADES,
    Recipe,
    scaled,
    shortened,
)
from harness.steps.schedules import parse_drops
from harness.training.loop import learning_rate

EPSILON = 8 / 255


@pytest.mark.parametrize(
    ("recipe", "architecture", "rate", "rates", "epochs", "decay", "step"),
    [  # the rate, and its factors around each drop
        (ANCRA, "resnet18", 0.01, {74: 1, 75: 0.1, 90: 0.01, 100: 1e-3}, 120, 2e-4, 0.007),
        (FRPAT, "wrn_34_10", 0.1, {75: 1, 76: 0.1, 90: 0.1, 91: 0.01}, 100, 2e-4, 0.007),
        (HYPERSPHERE, "wrn_34_10", 0.1, {74: 1, 75: 0.1, 89: 0.1, 90: 0.01}, 100, 2e-4, 2 / 255),
        (STANDARD, "resnet18", 0.1, {75: 1, 76: 0.1, 90: 0.1, 91: 0.01}, 100, 2e-4, 0.007),
        (TRADES, "wrn_34_10", 0.1, {74: 1, 75: 0.1, 76: 0.1}, 76, 2e-4, 0.007),
    ],
    ids=["A-R18", "F-main", "H-C10", "F-teacher", "TRADES"],
)  # fmt: skip
def test_full_recipes_are_those_of_the_papers(
    recipe, architecture, rate, rates, epochs, decay, step
):
    assert (recipe.architecture, recipe.epochs) == (architecture, epochs)
    assert (recipe.learning_rate, recipe.weight_decay) == (rate, decay)
    assert (recipe.batch_size, recipe.momentum, recipe.augment) == (128, 0.9, True)
    assert recipe.inner_steps == 10
    assert recipe.relative_step * EPSILON == pytest.approx(step, rel=1e-12)
    for epoch, factor in {1: 1, **rates}.items():
        assert learning_rate(recipe, epoch, 0.0) == pytest.approx(rate * factor)


def test_frpat_s_teacher_is_a_resnet18():
    assert FRPAT.teacher == "resnet18"
    assert {recipe.teacher for recipe in (ANCRA, HYPERSPHERE, TRADES)} == {""}


@pytest.mark.parametrize(
    ("name", "recipe"), [("standard", STANDARD), ("pgd_at", ANCRA), ("trades_ancra", ANCRA)]
)
def test_full_scale_is_the_paper_s_recipe(name, recipe):
    assert scaled(DEFENSES[name].recipe, "full", "cifar10") == recipe


@pytest.mark.parametrize(
    ("recipe", "reduced", "smoke"),
    [
        (ANCRA, "19,23,26", "3"),
        (FRPAT, "23,28", "3"),
        (HYPERSPHERE, "23,28", "3"),
        (TRADES, "30", ""),
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
@pytest.mark.parametrize("recipe", [ANCRA, FRPAT, HYPERSPHERE, TRADES])
def test_shorter_runs_keep_everything_else(recipe, scale):
    shorter = scaled(recipe, scale, "cifar10")
    for key in ("learning_rate", "schedule", "weight_decay", "batch_size", "momentum", "augment"):
        assert getattr(shorter, key) == getattr(recipe, key)
    assert shorter.teacher == ""
    if scale == "reduced":
        assert shorter.inner_steps == recipe.inner_steps
        assert shorter.relative_step == recipe.relative_step


@pytest.mark.parametrize("recipe", [ANCRA, FRPAT])
def test_digits_have_a_recipe_of_their_own_and_no_full_scale(recipe):
    smoke = scaled(recipe, "smoke", "digits")
    reduced = scaled(recipe, "reduced", "digits")
    assert (smoke.architecture, smoke.epochs, smoke.schedule) == ("small_resnet", 20, "one_cycle")
    assert smoke.inner_steps * smoke.relative_step == pytest.approx(2.5)
    assert reduced == dataclasses.replace(smoke, epochs=40)
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
