"""`harness list` and `show` about defenses: composition, settings, recipes, pairs, claims."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from rich.console import Console

from harness.catalogue import ADDITIONS, DEFENSES, QUOTED, pairs
from harness.claims import claims
from harness.cli.defense_rows import in_short
from harness.docstrings import argument_texts
from harness.recipe import RECIPES, scaled


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 90 columns."""
    terminal = Console(width=90, force_terminal=True, color_system=None)
    monkeypatch.setattr("harness.cli.tables.Console", lambda **_: terminal)


def words_of(text: str) -> str:
    return " ".join(text.split())


# list


def test_defenses_are_listed_with_family_composition_paper_and_scales(harness):
    rows = {row["name"]: row for row in harness("list", "defenses", "--json").json()}
    one = rows["trades_ancra"]

    assert set(rows) == {*DEFENSES}
    assert (one["family"], one["status"], one["recipe"]) == ("ANCRA", "published", "A-R18")
    assert (one["base"], one["additions"]) == ("trades", ["ancra"])
    assert one["scales"] == ["smoke", "reduced", "full"]
    assert one["paper"]["arxiv"] == "2310.03358"
    assert one["composition"]["hook"].startswith("reverse attention (blocks 2")
    assert (one["settings"]["zeta"], one["settings"]["inner"]) == (3.0, "ce")
    assert {"A-TIN", "A-WRN"} == {variant["recipe"] for variant in one["variants"]}
    assert one["claims"] == 60


@pytest.mark.parametrize("kind", ["defenses", "combinations", "quoted", "claims", "recipes"])
def test_a_list_fits_a_terminal_and_breaks_no_name(harness, narrow, kind):
    rows = harness("list", kind, "--json").json()
    lines = harness("list", kind).out.splitlines()

    assert max(map(len, lines)) <= 90
    key = {"combinations": "base", "claims": "defense"}.get(kind, "name")
    firsts = {line.partition(" ")[0] for line in lines}
    assert {row[key] for row in rows} <= firsts


@pytest.mark.parametrize(
    ("composition", "short"),
    [
        ({"objective": "trades (beta 6)", "head": "linear"}, "trades"),
        ({"maximiser": "early stopped pgd (ends (50, 90), noise 0)"}, "early stopped pgd"),
        ({"regularisers": "a (w 1), b (w 2)", "head": "linear"}, "a, b"),
    ],
)
def test_a_composition_in_short_has_every_part_and_no_setting(composition, short):
    assert in_short(composition) == short


def test_combinations_are_every_base_with_every_addition_and_say_why_not(harness):
    rows = harness("list", "combinations", "--json").json()
    found = {(row["base"], row["addition"]): row for row in rows}

    assert [*found] == [(base, added) for base, added, _, _ in pairs()]
    assert found["trades", "ancra"] == {
        **{"base": "trades", "addition": "ancra", "status": "published"},
        **{"name": "trades_ancra", "reason": ""},
    }
    refused = found["free_at", "ra"]
    assert (refused["status"], refused["name"]) == ("refused", "")
    assert "reverse attention" in refused["reason"]
    assert "reverse attention, whose label gate" in words_of(harness("list", "combinations").out)


def test_recipes_are_listed_with_every_number_and_who_trains_by_them(harness):
    rows = {row["name"]: row for row in harness("list", "recipes", "--json").json()}

    assert rows.keys() == {*RECIPES}
    assert (rows["A-R18"]["epochs"], rows["A-R18"]["drops"]) == (120, "75,90,100")
    assert {"trades_ancra", "mart_ancra"} <= {*rows["A-R18"]["defenses"]}
    assert "trades_ancra" in rows["A-TIN"]["defenses"]


def test_claims_are_counted_per_defense_and_source_and_whole_as_json(harness):
    rows = harness("list", "claims", "--json").json()
    lines = harness("list", "claims").out.splitlines()

    assert rows == [vars(claim) for claim in claims()]
    assert len(lines) < 100
    (line,) = (line for line in lines if line.startswith("trades_ancra ") and "_iclr" in line)
    assert line.split()[2:4] == ["ancra_iclr", "55"]


def test_claims_of_one_defense_are_listed_as_printed(harness):
    rows = harness("list", "claims", "--defense", "mart_ancra", "--json").json()
    told = harness("list", "claims", "--defense", "mart_ancra")

    assert len(rows) == 27
    assert {row["defense"] for row in rows} == {"mart_ancra"}
    assert all(row["printed"] in told.out for row in rows)
    assert "pgd 40, white box" in told.out


def test_a_defense_that_nobody_claims_anything_of_is_no_error(harness):
    assert (
        "No paper here has a figure of trades_wn."
        in harness(*("list", "claims", "--defense", "trades_wn")).out
    )
    assert harness("list", "claims", "--defense", "trades+awp", "--json").json() == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("list claims --defense trade_ancra", "Did you mean 'trades_ancra'?"),
        ("list attacks --defense trades", "goes with `harness list claims`"),
        ("show free_at+ra", "reverse attention"),
        ("show awp+awp", "twice"),
        ("show trades+aw", "no addition named 'aw'. Did you mean 'awp'?"),
        ("show trades+", "no addition named ''"),
    ],
)
def test_what_cannot_be_listed_or_shown_ends_with_code_2(home, harness, line, said):
    found = harness(*line.split())

    assert (found.code, found.out) == (2, "")
    assert said in found.err


def test_the_nearest_name_may_be_that_of_a_quoted_method(stored, harness, quoted_method):
    found = harness("show", quoted_method[:-1])

    assert found.code == 2
    assert f"Did you mean '{quoted_method}'?" in found.err


@pytest.mark.parametrize("line", ["show trades+aw", "show trades+awp=x"])
def test_an_unknown_addition_is_told_with_a_database_too(stored, harness, line):
    assert "no addition named 'aw" in harness(*line.split()).err


# show


@pytest.fixture
def quoted_method() -> str:
    """Some method that is only quoted."""
    return "las_trades"


def test_show_tells_why_a_method_is_only_quoted_and_what_is_claimed_of_it(harness, quoted_method):
    found = harness("show", quoted_method)

    assert found.code == 0
    assert QUOTED[quoted_method].reason in words_of(found.out)
    assert "frpat_supp 7" in found.out
    assert "Settings" not in found.out


@pytest.mark.parametrize("name", ["trades_ancra", "trades+awp", "standard", "fat"])
def test_show_tells_composition_settings_and_the_recipe_at_every_scale(harness, name):
    found = harness("show", name)
    entry = DEFENSES[name]

    assert found.code == 0
    assert found.out.startswith(f"{name}: ")
    assert f"{entry.family}, {entry.status}; scales smoke, reduced, full" in found.out
    for key in entry.settings:
        assert f"\n{key} " in found.out
    for text in entry.compose({})[0].composition().values():
        assert text in words_of(found.out)
    assert f"Recipe {entry.recipe_id} " in found.out
    (epochs,) = (line for line in found.out.splitlines() if line.startswith("epochs "))
    smoke, reduced = (scaled(entry.recipe, scale, "").epochs for scale in ("smoke", "reduced"))
    assert epochs.split()[1:4] == [str(smoke), str(reduced), str(entry.recipe.epochs)]
    assert epochs.split()[4:] == ["20", "40"]


def test_show_says_which_part_a_setting_belongs_to_and_where_it_comes_from(harness, monkeypatch):
    told = {"zeta": "weight of the contrast (ANCRA, eq. 1)."}
    monkeypatch.setattr("harness.docstrings.argument_texts", lambda _: told)
    found = harness("show", "trades_ancra").out
    (line,) = (line for line in found.splitlines() if line.startswith("zeta "))

    assert line.split()[1:3] == ["ancra", "3"]
    assert line.rstrip().endswith(told["zeta"])


def test_show_tells_what_differs_on_other_data_architectures_and_bases(harness):
    ancra, fat = (words_of(harness("show", name).out) for name in ("trades_ancra", "fat"))

    assert "architecture wrn_28_10 A-WRN zeta=6" in ancra
    assert "base=trades FAT-TRADES start=normal" in fat


def test_show_sums_up_claims_and_counts_those_above_clean_accuracy(harness):
    found = harness("show", "trades_ancra").out
    line = next(line for line in found.splitlines() if line.startswith("ancra_iclr 1 "))

    assert words_of(line) == ("ancra_iclr 1 cifar10 resnet18 81.70 59.70 autoattack, white box 6 3")
    assert "No paper here has a figure of it." in harness("show", "mart+awp").out


def test_a_published_combination_is_shown_under_its_name(harness):
    assert harness("show", "trades+ancra").out == harness("show", "trades_ancra").out


# docstrings


def test_every_setting_says_what_it_means_and_where_it_comes_from():
    functions = [DEFENSES[name].function for name in DEFENSES]
    functions += [ADDITIONS[name].apply for name in ADDITIONS]
    silent = [
        f"{Path(inspect.getfile(function)).name} {function.__name__}: {name}"
        for function in functions
        if function is not None
        for name, kind in inspect.signature(function).parameters.items()
        if kind.default is not inspect.Parameter.empty and not argument_texts(function).get(name)
    ]

    assert silent == []


def test_no_setting_cites_a_file_that_a_reader_cannot_open():
    functions = [DEFENSES[name].function for name in DEFENSES]
    functions += [ADDITIONS[name].apply for name in ADDITIONS]
    said = [text for one in functions if one for text in argument_texts(one).values()]
    assert [text for text in said if ".md" in text] == []


def documented(first, *, second=1, third=2, fourth=3):
    """One line.

    Args:
        first: what
            goes on here: with a colon.
        second, third: both in [0, 1].

    Returns:
        fourth: is no argument here.
    """


def test_arguments_are_read_over_several_lines_and_for_several_names():
    assert argument_texts(documented) == {
        "first": "what goes on here: with a colon.",
        "second": "both in [0, 1].",
        "third": "both in [0, 1].",
    }


def test_a_function_without_arguments_or_docstring_says_nothing():
    assert argument_texts(lambda: None) == {}
    assert argument_texts(words_of) == {}
