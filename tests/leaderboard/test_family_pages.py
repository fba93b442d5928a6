"""Pages of families: a gain is said only where the paired test says so, and seeds stand apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from page_reader import Read, read
from synthetic_boards import board, rate, record, standing

from harness.standings import Standing
from harness.standings.comparison import Comparison
from harness.statistics import paired_bootstrap
from leaderboard.addresses import family_page
from leaderboard.family import OTHER
from leaderboard.gains import Gain, gain_chart
from leaderboard.material import Material
from leaderboard.pages import PAGES, Draft
from leaderboard.site import _render
from leaderboard.texts import texts


def row(
    defense: str, seed: int = 0, robust: int = 100, name: str = "", **changes: object
) -> Standing:
    called = name or f"{defense}-s{seed}"
    made = record(called, defense=defense, seed=seed)
    given = {"standard": None, "robust": rate(robust, 200), **changes}
    return standing(called, checkpoint=made, **given)


def compared(
    defense: str = "trades_he",
    baseline: str = "trades",
    here: int = 30,
    there: int = 5,
    p: float | None = 0.001,
    seeds: int = 2,
) -> Comparison:
    mine = tuple(row(defense, seed, 110 + seed) for seed in range(seeds))
    theirs = tuple(row(baseline, seed) for seed in range(seeds)) if baseline else ()
    return Comparison(defense, baseline, mine, theirs, here, there, p)


def material(*comparisons: Comparison, extra: tuple[Standing, ...] = ()) -> Material:
    rows: dict[str, Standing] = {}
    for one in comparisons:
        rows |= {each.checkpoint.name: each for each in (*one.standings, *one.baselines)}
    return Material(boards=[board(*rows.values(), *extra)], comparisons=comparisons)


def drafts(found: Material) -> list[Draft]:
    return list(PAGES["families"](found))


def page(found: Material, family: str) -> Read:
    return read(_render(drafts(found))[family_page(family)])


def line(found: Read, name: str) -> list[str]:
    return next(cells for cells in found.rows if cells and cells[0].split()[:1] == [name])


@pytest.mark.parametrize(
    ("here", "there", "p", "kind"),
    [
        (30, 5, 0.001, "higher"),
        (5, 30, 0.001, "lower"),
        (30, 5, 0.05, "open"),
        (5, 30, 0.2, "open"),
        (200, 0, 0.051, "open"),
        (7, 7, 0.0, "open"),
    ],
)
def test_a_gain_is_said_only_below_five_percent_and_with_its_sign(here, there, p, kind):
    gain = Gain.of(compared(here=here, there=there, p=p))
    assert gain is not None
    assert gain.kind == kind


def test_without_a_baseline_there_is_no_gain_and_not_a_gain_of_zero():
    assert Gain.of(compared("trades", "", 0, 0, None)) is None
    cells = line(page(material(compared("trades", "", 0, 0, None)), "baseline"), "trades")
    assert cells[4:8] == ["–"] * 4


def test_the_interval_is_the_paired_bootstrap_whatever_the_order_of_the_images():
    gain = Gain.of(compared(here=40, there=10))
    assert gain is not None
    first = np.array([True] * 40 + [False] * 10 + [True] * 350)
    second = np.array([False] * 40 + [True] * 10 + [True] * 350)
    shuffled = np.random.default_rng(1).permutation(400)
    assert gain.interval == paired_bootstrap(first[shuffled], second[shuffled], seed=0)
    assert gain.interval[0] < gain.difference < gain.interval[1]


def test_two_that_decide_every_image_alike_have_no_interval():
    gain = Gain.of(compared(here=0, there=0, p=1.0))
    assert gain is not None
    assert gain.interval is None
    assert gain.interval_points == "–"


def test_the_page_says_higher_lower_and_not_told_apart_in_words():
    found = material(
        compared(),
        compared("trades_mhe", here=5, there=30),
        compared("trades_wn", here=6, there=5, p=1.0),
        compared("trades", "", 0, 0, None),
    )
    shown = page(found, "HE")
    assert [line(shown, name)[8] for name in ("trades_he", "trades_mhe", "trades_wn")] == [
        "higher",
        "lower",
        "not told apart",
    ]
    assert line(shown, "trades_he")[4:7] == ["+6.2 +3.5 to +9.0", "30", "5"]
    assert line(shown, "trades")[1] == "itself a baseline"  # of another family, shown beside it


def test_a_baseline_that_was_not_measured_is_said_and_no_number_made_up():
    one = replace(compared(here=0, there=0, p=None), baselines=())
    cells = line(page(material(one), "HE"), "trades_he")
    assert cells[4:] == ["–", "–", "–", "–", "its baseline was not measured here"]


def test_seeds_stand_apart_with_the_baseline_of_the_same_seed():
    one = compared(seeds=3)
    missing = replace(one, baselines=one.baselines[:2])
    shown = page(material(missing, compared("trades", "", 0, 0, None, seeds=2)), "HE")
    seeds = [cells for cells in shown.rows if len(cells) == 7 and cells[0] == "trades_he"]
    assert [cells[1] for cells in seeds] == ["0", "1", "2"]
    assert [cells[6] for cells in seeds] == ["+5.0", "+5.5", "–"]
    assert seeds[2][4:6] == ["–", "–"]


def test_a_difference_between_seeds_on_other_numbers_of_images_is_not_said():
    one = compared(seeds=1)
    fewer = replace(one, baselines=(row("trades", examples=100),))
    shown = page(material(fewer), "HE")
    assert [cells[6] for cells in shown.rows if len(cells) == 7][1:2] == ["–"]


def test_means_over_seeds_have_their_range_and_one_seed_has_none():
    cells = line(page(material(compared(seeds=3)), "HE"), "trades_he")
    assert cells[3] == "55.5 55.0–56.0"
    assert line(page(material(compared(seeds=1)), "HE"), "trades_he")[3] == "55.0"


def test_a_checkpoint_that_shares_a_line_is_named_and_one_of_another_seed_is_not():
    twin = row("trades_he", name="trades_he-zeta-s0")
    shown = page(material(compared(), extra=(twin,)), "HE")
    assert "share one line of the comparison, and the first name counts" in shown.text
    assert "../checkpoints/trades_he-zeta-s0.html" in shown.attributes("href")
    alone = page(material(compared(), extra=(row("trades_he", 7),)), "HE")
    assert "share one line" not in alone.text
    untested = row("trades_he", name="trades_he-zeta-s0", is_adaptive=False)
    assert "share one line" not in page(material(compared(), extra=(untested,)), "HE").text


def test_what_is_not_measured_is_listed_with_the_reason():
    standard_only = row("pgd_at_he", is_adaptive=False)
    late = row("pgd_at_mhe", seed=3)
    shown = page(material(compared(), extra=(standard_only, late)), "HE").text
    said = " ".join(shown.split())
    assert "pgd_at_he evaluated, but no adaptive protocol is complete" in said
    assert "pgd_at_mhe no row of training seed 0" in said
    assert "alp_he never evaluated here" in said
    quoted = page(material(), "quoted").text
    assert texts().defenses["las_trades"].description in quoted


def test_a_composition_that_nobody_published_has_a_family_of_its_own():
    found = material(compared("trades+awp+he", ""))
    assert "trades+awp+he" in page(found, OTHER).text
    assert family_page(OTHER) not in {draft.path for draft in drafts(material(compared()))}


def test_what_standard_attacks_would_hide_and_a_collapse_are_said_beside_the_verdict():
    masked = row("trades_he", standard=rate(150, 200))
    late = row("trades_he", 1)
    fallen = replace(late, checkpoint=replace(late.checkpoint, training={"collapsed_at": 7}))
    one = replace(compared(), standings=(masked, fallen))
    said = line(page(material(one), "HE"), "trades_he")[8]
    assert said == (
        "higher training collapsed (seed 1); standard attacks alone would hide up to 25.0 points"
    )


def test_small_scales_are_marked():
    shown = page(material(compared()), "HE")
    assert "Training was shorter than in the papers" in shown.text


def test_every_defense_of_the_texts_is_on_the_page_of_its_family():
    found = _render(drafts(material()))
    for text in texts().defenses.values():
        assert text.name in read(found[family_page(text.family)]).text


def test_the_drawing_has_a_dot_per_gain_inside_it_and_says_all_in_words():
    gains = [gain for gain in map(Gain.of, (compared(), compared("trades_wn", p=1.0))) if gain]
    chart = gain_chart(gains, "what")
    assert chart is not None
    assert len(chart.dots) == 2
    assert all(0 <= float(dot.x) <= chart.width for dot in chart.dots)
    assert all(0 <= float(dot.y) <= chart.height for dot in chart.dots)
    assert chart.label == "what: trades_he +6.2, higher; trades_wn +6.2, not told apart"
    assert [dot.kind for dot in chart.dots] == ["gain higher", "gain open"]
    assert gain_chart([], "what") is None


@pytest.mark.parametrize("difference", [0.001, 0.3, 1.0])
def test_gains_of_any_size_stay_inside_the_drawing_on_their_side_of_zero(difference):
    gain = Gain("x", difference, (difference - 0.0005, difference), 1, 0, 10, 0.01)
    chart = gain_chart([gain, replace(gain, difference=-difference, interval=None)], "what")
    assert chart is not None
    right, left = (float(dot.x) for dot in chart.dots)
    assert 0 <= left < chart.width / 2 < right <= chart.width


def test_a_row_of_another_family_does_not_draw_a_page_anew():
    one, other = compared(), compared("pgd_at_frpat", "pgd_at")
    before = {draft.path: repr(draft.facts) for draft in drafts(material(one, other))}
    after = {
        draft.path: repr(draft.facts)
        for draft in drafts(material(one, replace(other, only_here=31)))
    }
    assert {path for path in before if before[path] != after[path]} == {
        "families.html",
        family_page("FRPAT"),
    }


def test_hostile_names_of_defenses_and_architectures_are_text():
    evil = "<img src=x onerror=alert(1)>"
    bad = standing("a", checkpoint=record("a", defense=evil, seed=0, architecture=evil))
    found = Material(boards=[board(bad)], comparisons=[Comparison(evil, "", (bad,), ())])
    shown = page(found, OTHER)
    assert "img" not in shown.tags()
    assert evil in shown.text


def test_every_family_has_a_plain_address_of_its_own():
    families = {text.family for text in texts().defenses.values()} | {OTHER}
    pages = {family_page(name) for name in families}
    assert len(pages) == len(families)
    assert {"families/he.html", "families/ancra.html"} <= pages
    assert not [page for page in pages if "~" in page]
