"""The catalogue: what a name stands for, and what `BASE+ADDITION` may be."""

import dataclasses
import re

import pytest

from harness import catalogue
from harness.catalogue import (
    ADDITIONS,
    DEFENSES,
    PUBLISHED,
    QUOTED,
    UNVALIDATED,
    Paper,
    Variant,
    addition,
    composed,
    pairs,
    quoted,
)
from harness.errors import HarnessError
from harness.recipe import RECIPES


def test_a_combination_that_a_paper_has_is_found_under_its_name():
    assert DEFENSES["trades+he"] is DEFENSES["trades_he"]
    assert DEFENSES["pgd_at+ancra"] is DEFENSES["pgd_at_ancra"]
    assert DEFENSES["trades+frpat+lbgat"] is DEFENSES["trades_lbgat_frpat"]
    assert DEFENSES["trades_frpat+lbgat"] is DEFENSES["trades_lbgat_frpat"]
    assert DEFENSES["trades+he"].status == PUBLISHED


def test_of_two_with_the_same_parts_the_one_with_fewer_defaults_of_its_own_is_meant():
    assert DEFENSES["pgd_at+lbgat"].name == "pgd_at_lbgat"
    assert DEFENSES["pgd_at_lbgat_detach+frpat"].name == "pgd_at_lbgat_detach+frpat"
    detached = DEFENSES["pgd_at_lbgat_detach"].defaults
    assert DEFENSES["pgd_at_lbgat_detach+frpat"].defaults == detached != {}


@pytest.mark.parametrize(
    "name", ["mart+awp+he", "mart+awp", "trades_ancra+awp", "mart+he", "sat+he+awp"]
)
def test_any_other_combination_is_marked_and_found_again_under_its_own_name(name):
    entry = DEFENSES[name]
    assert (entry.status, entry.family) == (UNVALIDATED, "combination")
    assert DEFENSES[entry.name] == entry
    assert "no paper tried this" in entry.description
    base, *additions = name.split("+")
    assert entry.name == "+".join([base, *sorted(additions)])


@pytest.mark.parametrize(
    ("name", "recipe", "gamma"), [("trades+awp", "AWP", 0.005), ("pgd_at+awp", "AWP-AT", 0.01)]
)
def test_an_addition_is_published_on_the_bases_that_its_own_defense_names(name, recipe, gamma):
    entry = DEFENSES[name]
    base = name.partition("+")[0]
    assert (entry.name, entry.status, entry.recipe_id) == (name, PUBLISHED, recipe)
    defense, full = entry.compose({})
    assert full["awp_gamma"] == gamma
    assert full.keys() > DEFENSES[base].settings.keys()  # the base's own can still be set
    assert defense.objective == DEFENSES[base].compose({})[0].objective
    assert DEFENSES["s2o"].compose({"base": "trades"})[0].objective == (
        DEFENSES["trades+s2o"].compose({})[0].objective
    )


def test_the_order_of_additions_changes_nothing():
    one, other = DEFENSES["mart+he+awp"], DEFENSES["mart+awp+he"]
    assert one == other
    assert one.name == "mart+awp+he"
    assert one.compose({}) == other.compose({})


def test_what_is_added_to_a_published_combination_keeps_its_defaults_and_recipe():
    entry = DEFENSES["trades_ancra+awp"]
    assert entry.settings["inner"] == "ce"
    assert entry.recipe_id == "A-R18"
    assert entry.variant("tiny_imagenet").recipe == "A-TIN"
    defense, full = entry.compose({"zeta": 1})
    assert (full["inner"], full["zeta"], full["awp_gamma"]) == ("ce", 1.0, 0.005)
    assert defense.hook is not None
    assert defense.perturbation is not None
    plain = DEFENSES["trades+ancra+awp"]
    assert plain.settings["inner"] == DEFENSES["trades"].settings["inner"] == "kl"
    assert plain.name != entry.name  # other defaults, another name


def test_a_combination_composes_what_its_parts_make_one_after_the_other():
    built, full = DEFENSES["mart+awp+he"].compose({"margin": 0.1})
    plain, _ = DEFENSES["mart"].compose({})
    step = ADDITIONS["awp"].apply(plain)
    assert built == ADDITIONS["he"].apply(step, margin=0.1)
    assert full["margin"] == 0.1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trades+he+he", r"'trades\+he\+he' adds the same part twice"),
        ("trades_he+he", r"'trades_he\+he' adds the same part twice"),
        ("awp+awp", "adds the same part twice"),
        ("trades+hee", "no addition named 'hee'"),
        ("trades+", "no addition named ''"),
        ("trade+he", "no defense named 'trade'. Did you mean 'trades'"),
        ("trades he", "no defense named 'trades he'"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, sentence):
    with pytest.raises(HarnessError, match=sentence):
        _ = DEFENSES[name]


def test_names_are_known_without_composing_anything():
    assert "trades+he" in DEFENSES
    assert "trades_ancra+awp" in DEFENSES
    assert "trades+nothing" not in DEFENSES
    assert "nothing+he" not in DEFENSES
    assert all("+" not in name for name in DEFENSES)


ALL_PAIRS = list(pairs())


def test_pairs_are_every_base_with_every_addition():
    bases = [name for name in DEFENSES if not DEFENSES[name].additions]
    assert {(base, added) for base, added, *_ in ALL_PAIRS} == {
        (base, added) for base in bases for added in ADDITIONS
    }
    assert {status for *_, status, _ in ALL_PAIRS} == {PUBLISHED, UNVALIDATED, "refused"}


def test_a_pair_that_is_not_refused_composes_with_every_setting_of_its_parts():
    for base, added, status, name in ALL_PAIRS:
        if status == "refused":
            continue
        _, full = DEFENSES[name].compose({})
        assert full.keys() == {*DEFENSES[base].settings, *ADDITIONS[added].settings}


def test_a_refused_pair_says_why_and_not_that_two_settings_share_a_name():
    refused = [
        (base, added, reason) for base, added, status, reason in ALL_PAIRS if status == "refused"
    ]
    assert refused
    for base, added, reason in refused:
        assert "both have a setting" not in reason, (base, added)
        assert re.search(r"[Cc]hoose|add|once", reason), (base, added, reason)


@pytest.fixture
def scratch(monkeypatch):
    """Registries whose new entries are forgotten after the test."""
    for registry in (DEFENSES, ADDITIONS, QUOTED):
        list(registry)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


PAPER = Paper("A paper")


def test_parts_that_share_a_setting_cannot_be_combined(scratch):
    @addition(paper=PAPER)
    def louder(base, *, beta: float = 1.0):
        """Louder."""
        return base

    with pytest.raises(
        HarnessError,
        match=r"trades\+louder: 'louder' and a part before it both have a setting 'beta'",
    ):
        DEFENSES["trades+louder"].compose({})
    assert DEFENSES["pgd_at+louder"].compose({})[1]["beta"] == 1.0


def test_a_default_for_a_setting_that_no_part_has_is_refused(scratch):
    common = {"paper": PAPER, "recipe": "A-R18", "family": "baseline", "description": ""}
    composed("trades", "awp", **common, name="mine", defaults={"betta": 1.0})
    with pytest.raises(HarnessError, match=r"no setting of mine named 'betta'.*'beta'"):
        DEFENSES["mine"].compose({})


def test_what_is_quoted_cannot_be_trained_and_says_so(scratch):
    quoted("only_told", PAPER, "Its code was never published.")
    assert "only_told" not in DEFENSES
    with pytest.raises(
        HarnessError, match=r"only quoted.*Its code was never published.*list quoted"
    ):
        _ = DEFENSES["only_told"]


def test_no_name_is_both_quoted_and_built():
    assert not set(QUOTED) & set(DEFENSES)


def test_every_default_of_a_variant_is_a_setting_and_every_recipe_exists():
    for name in DEFENSES:
        entry = DEFENSES[name]
        for variant in (Variant(), *entry.variants):
            entry.compose({}, variant)
            assert variant.settings.keys() <= entry.settings.keys(), name
            assert variant.recipe in {"", *RECIPES}, name
        assert entry.recipe == RECIPES[entry.recipe_id]
        assert entry.description.endswith("."), name


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (("cifar10", "", ""), 0),
        (("cifar10", "wide", ""), 1),
        (("cifar100", "wide", ""), 2),
        (("cifar100", "", ""), 2),
        (("cifar10", "", "mart"), 3),
        (("cifar10", "wide", "mart"), 1),  # the first that applies
    ],
)
def test_the_first_variant_that_applies_decides(where, found):
    variants = (
        Variant(dataset="cifar10", architecture="wide", recipe="1"),
        Variant(dataset="cifar100", recipe="2"),
        Variant(base="mart", recipe="3"),
    )
    entry = dataclasses.replace(DEFENSES["trades"], variants=variants)
    assert entry.variant(*where) == (Variant() if found == 0 else variants[found - 1])


def test_the_default_base_chooses_a_variant_too():
    assert DEFENSES["awp"].settings["base"] == "trades"
    variants = (Variant(base="trades", recipe="1"), Variant(base="pgd_at", recipe="2"))
    entry = dataclasses.replace(DEFENSES["awp"], variants=variants)
    assert entry.variant("cifar10").recipe == "1"
    assert entry.variant("cifar10", "", "pgd_at").recipe == "2"


@pytest.mark.parametrize("value", [-1, 1_000_001])
@pytest.mark.parametrize("name", ["awp.awp_first_epoch", "gairat.weighted_from", "trades.beta"])
def test_no_number_of_a_defense_is_negative_or_above_a_million(name, value):
    defense, key = name.split(".")

    with pytest.raises(HarnessError, match=rf"{key} must lie in \[0, 1e6\] but is {value}"):
        DEFENSES[defense].compose({key: value})


def test_asked_settings_go_before_those_of_a_variant_and_these_before_the_defaults():
    entry, variant = DEFENSES["trades"], Variant(settings={"beta": 2.0})
    assert entry.compose({}, variant)[1]["beta"] == 2.0
    assert entry.compose({"beta": 3.0}, variant)[1]["beta"] == 3.0
    assert entry.compose({})[1]["beta"] == 6.0


def test_nothing_published_is_missing_its_family_paper_or_status():
    for name in DEFENSES:
        entry = DEFENSES[name]
        assert entry.status in {PUBLISHED, UNVALIDATED}
        assert entry.family
        assert entry.paper.title
    assert catalogue.PUBLISHED != catalogue.UNVALIDATED
