"""The parts of a checkpoint's page: each number where it belongs, nothing from numbers that lie."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_boards import attack, board, finding, rate, record, standing
from synthetic_panels import (
    ATTACK,
    LEVELS,
    MEASUREMENTS,
    SECURITY,
    SOURCE,
    detailed,
    looked_into,
    mapped,
    measurement,
)

from harness.identity import CORRECT, Capabilities
from harness.standings.insight import ClassStanding, Insight
from leaderboard import wording
from leaderboard.charts import Step, falling_union
from leaderboard.evaluations import Fact
from leaderboard.evidence import DiagnosticRow
from leaderboard.panels.classes import MOST_IN_MATRIX, Classes, shade
from leaderboard.panels.diagnosed import DefinedRow, behind_diagnostics
from leaderboard.panels.epsilon import security_curve
from leaderboard.panels.feature_map import FeatureMap
from leaderboard.panels.features import Features, by_place
from leaderboard.panels.figures import Axis, Line, Marks, lines
from leaderboard.panels.heads import Heads, has_heads
from leaderboard.panels.progress import Progress
from leaderboard.panels.surfaces import Surfaces
from leaderboard.panels.transfer import Transfer, digits_of, mentioned
from leaderboard.texts import texts

NUMBERS = st.floats(-1e6, 1e6)


def with_details(diagnostic: str, **details: object):
    """A row with one diagnostic that stored these numbers."""
    return standing(findings=(finding(diagnostic, details=details),))


def coordinates(chart):
    for shape in chart.shapes:
        yield from (float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", shape.path))


# drawings


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40), NUMBERS, NUMBERS)
def test_lines_and_their_marks_stay_inside_the_drawing(points, place, level):
    across, up = Axis("x", -10.0, 10.0, ((0.0, "0"),)), Axis("", 0.0, 1.0, ((0.5, "half"),))
    marks = Marks(((place, "here"),), ((level, "there"),))
    chart = lines("any", [Line("a", tuple(points))], across, up, marks=marks)
    assert all(0 <= number <= chart.width for number in coordinates(chart))
    for one in (*chart.texts, *chart.dots):
        assert 0 <= float(one.x) <= chart.width
        assert 0 <= float(one.y) <= chart.height


def test_six_lines_have_five_dashes_between_them():
    series = [Line(str(n), ((0.0, n), (1.0, n))) for n in range(6)]
    chart = lines("any", series, Axis("x", 0.0, 1.0, ()))
    kinds = [shape.kind for shape in chart.shapes if shape.kind.startswith("line")]
    assert len(set(kinds)) == 5
    assert kinds[0] == kinds[5]


@given(st.floats(0, 1), st.none() | st.floats(0, 1))
def test_the_labels_of_the_union_cover_neither_a_tick_nor_each_other(last, standard):
    chart = falling_union(1.0, [Step("a", last)], standard)
    ticks = [float(text.y) for text in chart.texts if text.kind == "tick middle"]
    notes = [float(text.y) for text in chart.texts if text.kind in {"value end", "note end"}]
    assert all(abs(note - tick) >= 14 for note in notes for tick in ticks)
    assert len(notes) == 1 or abs(notes[0] - notes[1]) >= 15.9
    assert min(notes) >= 0


# epsilon


def test_the_security_curve_is_of_all_images_and_marks_the_board():
    figure = security_curve(detailed())
    assert figure is not None
    assert [row[0] for row in figure.table.rows] == [f"{level:g}/255" for level in LEVELS]
    assert [row[1] for row in figure.table.rows] == [f"{0.96 * one:.1f}" for one in SECURITY]
    assert figure.table.rows[5][1:] == ("89.3", "90.2")
    said = [text.text for text in figure.chart.texts if "note" in text.kind]
    assert said == ["this board: 1/5", "guessing: 10 %"]
    assert [key.name for key in figure.keys] == ["security curve", "each attack as it ran"]


def test_one_line_is_drawn_where_both_curves_are_the_same():
    figure = security_curve(
        with_details(
            "D08",
            epsilon_255ths=LEVELS,
            as_run=SECURITY,
            security_curve=SECURITY,
            clean=(96.0,),
        )
    )
    assert figure is not None
    assert figure.keys == ()
    assert sum(shape.kind.startswith("line") for shape in figure.chart.shapes) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"as_run": SECURITY[1:]},
        {"as_run": (*SECURITY[1:], math.nan)},
        {"clean": ()},
        {"clean": (math.inf,)},
        {"epsilon_255ths": (-5.0, *LEVELS[1:])},
        {"security_curve": ()},
        dict.fromkeys(("epsilon_255ths", "as_run", "security_curve"), (1.0,) * 65),
    ],
)
def test_numbers_that_are_no_curve_are_not_drawn(changed):
    sound = {
        "epsilon_255ths": LEVELS,
        "as_run": SECURITY,
        "security_curve": SECURITY,
        "clean": (96.0,),
    }
    assert security_curve(with_details("D08", **sound)) is not None
    assert security_curve(with_details("D08", **{**sound, **changed})) is None


def test_without_the_diagnostic_there_is_no_curve():
    assert security_curve(standing(findings=())) is None


# diagnostics


def test_the_curves_of_four_diagnostics_are_drawn_with_their_numbers():
    drawn = {figure.title[:3]: figure for figure in behind_diagnostics(detailed())}
    assert list(drawn) == ["D03", "D12", "D13", "D15"]
    assert drawn["D03"].table.rows[4] == ("500", "76.0", "76.0")
    assert drawn["D12"].table.rows[1] == ("0.025", "90.0", "0.2")
    assert drawn["D13"].table.rows[0] == ("1", "80.0", "75.0")
    assert drawn["D15"].table.rows == (
        ("0.1", "70.0"), ("1", "75.0"), ("10", "80.0"), ("20", "90.0"),
    )  # fmt: skip


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("diagnostic", ["D03", "D12", "D13", "D15"])
def test_a_curve_with_a_number_that_is_not_finite_is_left_out(diagnostic, number):
    row = detailed()
    found = next(one for one in row.findings if one.diagnostic == diagnostic)
    spoilt = {name: (number,) * len(values) for name, values in found.details.items()}
    kept = tuple(one for one in row.findings if one.diagnostic != diagnostic)
    row = replace(row, findings=(*kept, replace(found, details=spoilt)))
    titles = [figure.title[:3] for figure in behind_diagnostics(row)]
    assert titles == [one for one in ("D03", "D12", "D13", "D15") if one != diagnostic]


@given(st.lists(st.floats(), max_size=6), st.lists(st.floats(), max_size=6))
def test_any_details_of_a_database_give_a_page(first, second):
    details = {"steps": tuple(first), "every_iterate": tuple(second), "last_iterate": tuple(second)}
    for diagnostic in ("D03", "D13"):
        behind_diagnostics(with_details(diagnostic, **details))


def test_a_diagnostic_says_what_it_compares_and_when_it_warns():
    known = texts().diagnostics["D02"]
    row = DefinedRow.of(DiagnosticRow.missing("D02"), known)
    assert row.description == known.description
    assert row.limits == (f"Amber: {known.amber}.", f"Red: {known.red}.")
    assert DefinedRow.of(DiagnosticRow.missing("X99"), None).limits == ()


# surfaces and heads


def surfaces(*attacks):
    found = Surfaces.of(standing(attacks=attacks), {"auxiliary": "one head alone"})
    assert found is not None
    return found


DEPLOYED = attack("pgd@logits:ce", CORRECT, 140, 140, 200)


def test_a_surface_that_is_weaker_than_the_deployed_logits_is_named_with_both_numbers():
    found = surfaces(DEPLOYED, attack("pgd@auxiliary(1):ce", CORRECT, 90, 90, 200))
    assert "deployed logits leaves 70.0 % right; one that climbs auxiliary(1) leaves 45.0 %" in (
        found.said
    )
    assert [(row.name, row.meaning, row.weakest.percent) for row in found.rows] == [
        ("logits", "", "70.0"),
        ("auxiliary(1)", "one head alone", "45.0"),
    ]


def test_a_surface_tried_on_survivors_has_no_accuracy_but_what_it_broke():
    later = replace(
        attack("pgd@auxiliary(0):ce", "survivors:standard-1", None, 110, 200),
        attacked=140,
        broken=30,
    )
    found = surfaces(DEPLOYED, later)
    assert "Of the 140 images that an earlier stage had left" in found.said
    assert "one that climbs auxiliary(0) broke 30." in found.said
    assert (found.rows[1].weakest.percent, found.rows[1].most) == ("–", "30 of 140")
    assert found.rows[1].bar == ()
    assert found.rows[1].sole_breaks == "–"


def test_a_surface_that_does_no_better_is_not_blamed():
    found = surfaces(DEPLOYED, attack("pgd@sum:ce", CORRECT, 150, 140, 200))
    assert "nothing that climbed another surface did better" in found.said
    assert "Nothing but the deployed logits was climbed" in surfaces(DEPLOYED).said


def test_models_elsewhere_are_one_surface_and_nothing_attacked_is_none():
    found = surfaces(
        attack("mim@surrogate(aaaaaaaaaaaa):ce", CORRECT, 180, 180, 200),
        attack("mim@surrogate(bbbbbbbbbbbb):ce", CORRECT, 170, 170, 200),
    )
    assert [(row.name, row.attacks, row.weakest.percent) for row in found.rows] == [
        ("surrogate", "2", "85.0")
    ]
    assert Surfaces.of(standing(attacks=()), {}) is None


def test_heads_show_agreement_margins_and_what_flips():
    found = Heads.of(detailed(), MEASUREMENTS)
    assert found is not None
    agreement, decisions = found.tables
    assert agreement.rows == (
        ("auxiliary(0)", "100.0", "99.5", "9.37", "0.841"),
        ("auxiliary(1)", "87.5", "50.0", "1.18", "−0.25"),
    )
    assert decisions.rows[0] == ("auxiliary(0)", "clean", "100.0", "95.0", "–")
    assert decisions.rows[3] == ("auxiliary(1)", ATTACK, "70.0", "40.0", "25.0")
    assert any(
        f"Under {ATTACK}, 55.0 % of the images go through the gate of another class" in said
        and "43.0 % change the deployed decision" in said
        for said in found.said
    )


def test_heads_of_another_board_are_not_shown_here():
    elsewhere = [replace(one, images="00" * 32) for one in MEASUREMENTS]
    assert Heads.of(standing(findings=()), elsewhere) is None
    assert Heads.of(standing(findings=()), MEASUREMENTS) is not None


# classes


def test_every_image_of_the_matrix_is_in_the_row_of_its_class():
    found = Classes.of(looked_into())
    assert found is not None
    assert [sum(int(count) for _, count in row.cells) for row in found.matrix] == [20] * 10
    assert found.matrix[3].cells[3] == ("s0", "0")
    assert found.matrix[3].cells[4] == ("s5", "20")
    assert (found.rows[0].robust.percent, found.rows[3].robust.percent) == ("100.0", "0.0")
    assert "is that of class 3 (0.0 %), the largest that of class 0 (100.0 %)." in found.said
    assert "overlap" not in found.said


def test_classes_that_chance_may_explain_are_said_to_overlap():
    alike = Insight(
        classes=tuple(ClassStanding(name, rate(9, 10), rate(count, 10)) for name, count in
                      (("cat", 5), ("dog", 6))),
        confusion=((5, 5), (4, 6)),
        unknown=3,
    )  # fmt: skip
    found = Classes.of(alike)
    assert found is not None
    assert "overlap" in found.said
    assert found.unknown.startswith("3 images left out")


def test_many_classes_become_a_list_of_the_worst_confusions():
    count = MOST_IN_MATRIX + 1
    table = [[0] * count for _ in range(count)]
    table[2][7], table[5][1], table[4][4] = 3, 9, 50
    found = Classes.of(
        Insight(
            classes=tuple(ClassStanding(f"c{n}", rate(5, 5), rate(3, 5)) for n in range(count)),
            confusion=tuple(map(tuple, table)),
        )
    )
    assert found is not None
    assert (found.matrix, found.names) == ((), ())
    assert [(one.true, one.decided, one.images) for one in found.mistakes] == [
        ("c5", "c1", "9"),
        ("c2", "c7", "3"),
    ]


def test_classes_of_which_no_image_is_known_are_left_out():
    empty = ClassStanding("rare", rate(0, 0), rate(0, 0))
    seen = ClassStanding("common", rate(4, 5), rate(3, 5))
    found = Classes.of(Insight(classes=(empty, seen), confusion=((0, 0), (2, 3))))
    assert found is not None
    assert [row.name for row in found.rows] == ["common"]
    assert Classes.of(Insight(classes=(empty,), confusion=((0,),))) is None
    assert Classes.of(None) is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_is_never_paler(one, other):
    low, high = sorted((one, other))
    assert int(shade(low)[1:]) <= int(shade(high)[1:])
    assert (shade(0.0), shade(1.0)) == ("s0", "s5")
    assert low == 0 or shade(low) != "s0"


# transfer and history


def test_a_source_on_the_boards_has_its_name_and_any_other_its_digits():
    found = Transfer.of(detailed(), {SOURCE: Fact("", "pgd_at-s0", "../checkpoints/x.html")})
    assert found is not None
    assert [(row.source.text, row.source.href, row.most) for row in found.rows] == [
        ("pgd_at-s0", "../checkpoints/x.html", "15.0"),
        ("surrogate(000000000000)", "", "6.0"),
        ("the same weights without the module", "", "21.0"),
    ]
    assert len(found.attacks) == len(found.rows[0].broken) == 6
    assert mentioned(detailed()) == {SOURCE, "000000000000"}


def test_sources_with_fewer_attacks_show_the_strongest_alone():
    found = Transfer.of(with_details("D05", **{f"surrogate({SOURCE})": (7.0, 9.5)}), {})
    assert found is not None
    assert found.attacks == ()
    assert (found.rows[0].broken, found.rows[0].most) == ((), "9.5")
    spoilt = with_details("D05", **{f"surrogate({SOURCE})": (math.nan,)})
    assert Transfer.of(spoilt, {}) is None
    assert Transfer.of(standing(findings=()), {}) is None


def test_of_two_names_of_one_function_the_first_names_the_source():
    rows = [standing(name, checkpoint=record(name)) for name in ("zeta", "alpha")]
    assert digits_of([board(*rows)]) == {"d1" * 6: ("alpha", "checkpoints/alpha.html")}


def test_every_drop_is_signed_by_the_attack_that_caused_it():
    found = Progress.of(looked_into())
    assert found is not None
    assert "fell 2 times" in found.said
    assert [(fall.date, fall.left.percent, fall.by, fall.said) for fall in found.falls] == [
        ("2025-11-20 10:00", "96.0", (), "no attack yet"),
        ("2025-11-20 10:05", "80.0", (("−32 images", "fgsm@logits:ce"),), ""),
        (
            "2025-11-21 09:00",
            "52.5",
            (
                ("−54 images", "apgd_ce@auxiliary(0):ce"),
                ("−1 image", "apgd_ce@auxiliary(0):margin"),
            ),
            "",
        ),
        ("2025-11-22 08:00", "52.5", (), "no further drop"),
    ]
    assert Progress.of(Insight()) is None


def test_a_number_that_fell_one_time_fell_once():
    shown = looked_into()
    found = Progress.of(replace(shown, history=shown.history[:2]))
    assert found is not None
    assert "The number fell once;" in found.said
    still = replace(shown.history[1], lowered_by=())
    kept = Progress.of(replace(shown, history=(shown.history[0], still)))
    assert kept is not None
    assert "The number has not fallen;" in kept.said


# features


def test_each_analysis_becomes_sentences_and_tables():
    found = Features.of(1, MEASUREMENTS)
    assert found is not None
    shown = {one.id: one for one in found.analyses}
    assert list(shown) == [
        "relationship_score",
        "exclusion_alignment",
        "angular_margins",
        "gradient_norm_ratios",
        "overfitting_gap",
        "training_time",
    ]
    assert shown["relationship_score"].tables[0].rows[2] == (ATTACK, "5", "50.0", "50.0")
    assert shown["exclusion_alignment"].tables[0].rows[1] == (ATTACK, "0.3", "0.628", "–", "–")
    assert shown["angular_margins"].tables[0].rows == (
        ("clean", "−0.77", "95.0", "−1.08", "−0.889", "1.24"),
    )
    assert "2 on average" in shown["gradient_norm_ratios"].said
    assert "under PGD-20: −3.0 points" in shown["overfitting_gap"].said
    assert shown["overfitting_gap"].tables[0].rows[1] == ("last epoch", "8", "59.0", "95.0")
    assert shown["training_time"].said.startswith("2.1 s per epoch in the median, 1 min 23 s")


def test_histograms_hold_every_pair_once_and_share_their_bins():
    found = Features.of(1, MEASUREMENTS)
    assert found is not None
    figure = found.analyses[1].figures[0]
    assert [key.name for key in figure.keys] == [
        "exclusion, clean",
        "exclusion, attacked",
        "alignment, attacked",
    ]
    assert figure.table.rows == (
        ("−0.5", "37.50", "100.00", "0.00"),
        ("0.5", "62.50", "0.00", "100.00"),
    )


@pytest.mark.parametrize(
    "one",
    [
        measurement("relationship_score", "clean"),
        measurement("exclusion_alignment", "clean", cosine_edges=(0.0, math.nan)),
        measurement("angular_margins", "clean", levels=(0.5,), quantiles=()),
        measurement("gradient_norm_ratios", "training", all=(1.0, 1.0)),
        measurement("overfitting_gap", "x", best=(0.5, 0.6), last=()),
        measurement("training_time", "training", median=(math.inf,), total=(1.0,)),
        measurement("feature_map", "clean", classes=(1.0, 2.0), tsne_x=(1.0,), tsne_y=(2.0, 3.0)),
        measurement("feature_map", "clean", classes=(1.0,) * 3, tsne_x=(math.nan,) * 3,
                    tsne_y=(1.0,) * 3),
        measurement("feature_map", "clean", classes=(-1.0, 1e9), tsne_x=(1.0, 2.0),
                    tsne_y=(1.0, 2.0)),
        measurement("somebody_elses", "clean", value=(1.0,)),
    ],
)  # fmt: skip
def test_measurements_that_lie_or_are_not_known_show_no_number(one):
    found = Features.of(1, [one])
    for analysis in found.analyses if found else ():
        assert analysis.figures == ()
        cells = [cell for table in analysis.tables for row in table.rows for cell in row[1:]]
        assert set(cells) <= {"–"}


def test_measurements_of_other_images_are_another_part():
    other = [replace(one, dataset="mnist") for one in MEASUREMENTS[:2]]
    assert [len(part) for part in by_place([*MEASUREMENTS, *other])] == [len(MEASUREMENTS), 2]


def test_both_pictures_of_a_pair_share_one_box():
    found = FeatureMap.of([mapped("clean"), mapped(ATTACK, shift=1.0)])
    assert found is not None
    assert [one.title for one in found.maps] == [
        "t-SNE, clean", "t-SNE, attacked", "UMAP, clean", "UMAP, attacked",
    ]  # fmt: skip
    clean, attacked = found.maps[0].chart, found.maps[1].chart
    assert [shape.kind for shape in clean.shapes] == [f"dots c{n}" for n in range(10)]
    first = re.findall(r"M(\d+) (\d+)h0", clean.shapes[0].path)
    assert len(first) == 4
    assert re.findall(r"M(\d+) (\d+)h0", attacked.shapes[0].path)[0] == first[0]
    assert all(0 <= number <= 400 for number in coordinates(clean))


def test_purity_is_what_counting_gives():
    found = FeatureMap.of([mapped("clean"), mapped(ATTACK, shift=1.0)])
    assert found is not None
    columns = {name: [row[place] for row in found.table.rows]
               for place, name in enumerate(found.table.columns)}  # fmt: skip
    assert columns["Class"] == ["all", *map(str, range(10))]
    assert columns["t-SNE, clean, %"][0] == "100.0"
    one = mapped(ATTACK, shift=1.0).values
    points = np.array([one["tsne_x"], one["tsne_y"]]).T
    same = 0
    for place, point in enumerate(points):
        rest = [(float(((point - other) ** 2).sum()), n) for n, other in enumerate(points)]
        nearest = min(pair for pair in rest if pair[1] != place)[1]
        same += one["classes"][nearest] == one["classes"][place]
    assert columns["t-SNE, attacked, %"][0] == f"{100 * same / len(points):.1f}"
    assert same < len(points)


def test_four_pictures_of_256_images_stay_below_forty_kilobytes():
    found = FeatureMap.of([mapped("clean", count=256), mapped(ATTACK, 1.0, count=256)])
    assert found is not None
    assert sum(len(shape.path) for one in found.maps for shape in one.chart.shapes) < 40_000


# words


@given(st.sets(st.integers(1, 60)))
def test_numbers_drawn_together_are_the_same_numbers(places):
    said = wording.numbered(sorted(places))
    back = set()
    for piece in filter(None, said.split(", ")):
        first, _, last = piece.partition("–")
        back |= set(range(int(first), int(last or first) + 1))
    assert back == places


@pytest.mark.parametrize(
    ("created", "said"),
    [
        ("2025-11-20T10:05:31.25+00:00", "2025-11-20 10:05"),
        ("2025-11-20T10:05:31Z", "2025-11-20 10:05"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_a_moment_is_short_where_it_is_one(created, said):
    assert wording.moment(created) == said


def test_a_measured_number_has_a_true_minus_or_is_a_dash():
    assert [wording.number(one) for one in (-0.7712, 12.0, math.nan, math.inf)] == [
        "−0.771", "12", "–", "–",
    ]  # fmt: skip


def test_a_checkpoint_without_heads_is_told_from_one_with():
    assert has_heads(standing())
    plain = replace(standing().checkpoint, capabilities=Capabilities(10))
    assert not has_heads(standing(checkpoint=plain))
