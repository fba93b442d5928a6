"""The page of the results says what was measured, and nothing that was not."""

from pathlib import Path

import measured
import pytest
from measured import MIXED, PEER, of

from benchmarks.goals import GOALS, reached, spread
from benchmarks.reading import read_results
from benchmarks.report import performance
from benchmarks.results import Comparison, Run, Side

HERE = Path(__file__).parents[2]
SAFE = next(goal for goal in GOALS if goal.side == "mixed" and goal.base == "pyautoattack")
SECONDS = next(goal for goal in GOALS if goal.images == 10_000)


def test_the_page_in_the_repository_is_the_one_of_its_results():
    stored = HERE / "benchmarks" / "results.json"
    page = performance(read_results(stored) if stored.exists() else {})
    assert (HERE / "docs" / "performance.md").read_text() == page, "run `make bench`"


def test_the_fastest_rounds_make_the_ratio_and_neighbours_its_spread():
    page = performance({"cpu": measured.whole(PEER, MIXED)})
    assert "|  | mixed | 4 | 2 | 4.00 | 3.60 to 4.55 | 3 | 0 | 200 | 150 |" in page
    assert "| whole | pyautoattack | 4 | 8 | 1.00 | – | 3 | – | 400 | 300 |" in page
    assert spread(of(MIXED, seconds=(2.0,)), PEER) is None


def test_a_ratio_reaches_its_goal_or_says_that_it_does_not():
    assert reached(SAFE, {"cpu": measured.whole(PEER, MIXED)}, "cpu") == "4.00, reached"
    slow = of(MIXED, seconds=(4.0, 4.0, 4.0))
    assert reached(SAFE, {"cpu": measured.whole(PEER, slow)}, "cpu") == "2.00, not reached"


def test_a_fast_search_that_breaks_other_images_reaches_nothing():
    other = of(MIXED, outcomes="0101")
    assert (
        reached(SAFE, {"cpu": measured.whole(PEER, other)}, "cpu") == "4.00, reached"
    )  # 1 of so few
    worse = of(MIXED, outcomes="0011")
    found = reached(SAFE, {"cpu": measured.whole(PEER, worse)}, "cpu")
    assert found == "4.00, but 3 of 4 outcomes differ"


@pytest.mark.parametrize(("differ", "counts"), [(0, True), (2, True), (3, False)])
def test_one_outcome_in_two_hundred_may_differ(differ, counts):
    peer = of(PEER, outcomes="0" * 400)
    side = of(MIXED, outcomes="1" * differ + "0" * (400 - differ))
    found = reached(SAFE, {"cpu": measured.whole(peer, side)}, "cpu")
    assert found.endswith("reached") is counts


def test_fewer_than_three_rounds_reach_nothing():
    once = of(MIXED, seconds=(2.0, 2.0))
    found = reached(SAFE, {"cpu": measured.whole(PEER, once)}, "cpu")
    assert found == "4.00 in fewer than 3 rounds"


def test_what_was_not_run_is_a_dash_and_never_a_number():
    assert reached(SAFE, {}, "cpu") == "–"
    assert reached(SAFE, {"cpu": Run(measured.SETTING, {})}, "cpu") == "–"
    absent = Side("pyautoattack", note="not installed")
    run = measured.whole(absent, MIXED)
    assert reached(SAFE, {"cpu": run}, "cpu") == "–"
    assert "| whole | pyautoattack (not installed) |" + " – |" * 8 in performance({"cpu": run})


def test_a_goal_of_a_gpu_counts_there_alone_for_its_images_and_its_size_of_model():
    run = measured.whole(PEER, MIXED)

    def found(device="cuda", *, images=10_000, parameters=11_000_000, on="cuda"):
        setting = of(measured.SETTING, images=images, parameters=parameters, device=on)
        return reached(SECONDS, {"large": Run(setting, run.sections)}, device)

    assert found() == "2 s, reached"
    assert found("cpu") == found(on="cpu") == found("cpu", on="cpu") == "–"
    assert found(images=9_999) == found(parameters=700_000) == "–"
    assert reached(SECONDS, {"cuda": Run(measured.SETTING, run.sections)}, "cuda") == "–"


def test_an_attack_that_may_break_more_is_judged_by_what_it_misses():
    goal = next(goal for goal in GOALS if goal.is_stronger)
    peer, more = Side(goal.base, (9.0,) * 3, "0001"), Side(goal.side, (0.9,) * 3, "1111")

    def found(*sides):
        run = Run(measured.SETTING, {"pgd": (Comparison("pgd-40", sides),)})
        return reached(goal, {"cpu": run}, "cpu")

    assert found(peer, more) == "10.00, reached"
    assert found(of(peer, outcomes="1111"), of(more, outcomes="0001")).startswith("10.00, but 3 of")


def test_nothing_measured_says_so():
    page = performance({})
    assert "Nothing was measured yet" in page
    assert page.count("Not measured yet.") == 4
    assert "<!--" not in page


def test_two_devices_have_a_column_each():
    run = measured.whole(PEER, MIXED)
    slow = measured.whole(PEER, of(MIXED, seconds=(4.0, 4.0, 4.0)))
    gpu = Run(of(measured.SETTING, device="cuda"), slow.sections)
    page = performance({"cpu": run, "cuda": gpu})
    assert "| 4.00, reached | 2.00, not reached |" in page
    assert performance({"cpu": run, "cuda": gpu}) == page


HOSTILE = "a|b\n# head <script>`x`[l](javascript:1)*_\\\x1b[31m\u202e"


def test_texts_of_a_file_add_no_column_no_line_and_no_markup():
    setting = of(measured.SETTING, machine=HOSTILE, commit=HOSTILE, versions={HOSTILE: HOSTILE})
    sides = (of(PEER, name=HOSTILE, note=HOSTILE), MIXED)
    page = performance({"cpu": Run(setting, {"autoattack": (Comparison(HOSTILE, sides),)})})
    plain = performance({"cpu": measured.whole(PEER, MIXED)})
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "\n# head" not in page
    assert "](" not in page.replace("\\](", "")
    columns = {line.replace("\\|", "").count("|") for line in page.splitlines() if "|" in line}
    assert columns <= {line.count("|") for line in plain.splitlines() if "|" in line}
