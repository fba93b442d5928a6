"""The pictures of a board: what they show, what they leave out and say so."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from synthetic_boards import attack, board, every_kind, standing
from synthetic_pictures import SWEEP, compared, row, transferred

from harness.identity import CORRECT
from harness.threat import ThreatModel
from leaderboard import addresses
from leaderboard.material import Material
from leaderboard.pictures import board_pictures, picture_facts
from leaderboard.pictures.attacks import attack_matrix
from leaderboard.pictures.labels import Label, place
from leaderboard.pictures.naming import Names, short_names
from leaderboard.pictures.plane import plane
from leaderboard.pictures.transfer import transfer_matrix
from leaderboard.site import render


def names_of(one):
    return Names.of(one, [one])


def drawn(one):
    return plane(one, names_of(one), Material().texts)


THREE = board(
    row("a-digits-s0", 190, 100), row("b-digits-s0", 180, 120), row("c-digits-s0", 180, 90)
)


# Clean and robust accuracy


def test_the_front_is_what_no_row_beats_in_one_number_without_losing_in_the_other():
    found = drawn(THREE)
    assert [one.heading.full for one in found.front] == ["b-digits-s0", "a-digits-s0"]
    kinds = {spot.title.split(":")[0]: spot.kind for spot in found.spots}
    assert kinds == {"a-digits-s0": "front", "b-digits-s0": "front", "c-digits-s0": ""}


def test_the_front_agrees_with_comparing_every_pair():
    draw = np.random.default_rng(0)
    rows = [row(f"r{n}-s0", *sorted(draw.integers(100, 190, 2))[::-1]) for n in range(60)]
    one = board(*rows)
    beaten = {
        mine.checkpoint.name
        for mine in rows
        for other in rows
        if other.clean.count >= mine.clean.count
        and other.robust.count >= mine.robust.count
        and (other.clean.count, other.robust.count) != (mine.clean.count, mine.robust.count)
    }
    front = {each.heading.full for each in drawn(one).front}
    assert front <= {each.checkpoint.name for each in rows} - beaten
    numbers = {(r.clean.count, r.robust.count) for r in rows if r.checkpoint.name not in beaten}
    assert len(front) == len(numbers)


def test_a_row_that_was_not_attacked_adaptively_is_hollow():
    one = board(row("a-s0", 190, 100), row("b-s1", 180, 90, is_adaptive=False))
    assert [spot.kind for spot in drawn(one).spots] == ["front", "open"]


def test_rows_without_a_rank_or_a_number_are_no_dots():
    one = board(row("a-s0", 190, 100), row("b-s1", 195, 150, rank=None), row("c-s2", 190, 90))
    assert len(drawn(one).spots) == 2
    none = board(row("b-s1", 195, 150, rank=None))
    assert drawn(none) is None


def test_the_picture_starts_below_the_lowest_row_above_zero_and_names_those_at_zero():
    one = board(row("a-s0", 190, 150), row("b-s1", 191, 120), row("c-s2", 190, 0))
    found = drawn(one)
    ticks = [text.text for text in found.texts if text.kind == "tick end"]
    assert ticks[0] == "55 %"
    assert [spot.title.split(":")[0] for spot in found.spots] == ["a-s0", "b-s1"]
    assert "Not drawn, at 0 % robust accuracy: c-s2." in found.note
    none = drawn(board(row("a-s0", 190, 0), row("b-s1", 180, 0)))
    assert len(none.spots) == 2
    assert "Not drawn" not in none.note


def test_the_front_and_the_best_of_each_baseline_are_named_and_nothing_else():
    one = board(
        row("trades_he-s0", 190, 150),
        row("trades_he-s1", 185, 120),
        row("trades-s0", 180, 110),
        row("trades-s1", 175, 90),
    )
    named = {text.text for text in drawn(one).texts if text.kind.startswith("name")}
    assert named == {"trades_he-s0", "trades-s0"}


def test_rows_on_the_same_point_share_a_dot_that_names_them_all():
    one = board(row("a-s0", 190, 100), row("b-s1", 190, 100))
    found = drawn(one)
    assert [spot.title.split(":")[0] for spot in found.spots] == ["a-s0, b-s1"]
    assert "a-s0 +1" in {text.text for text in found.texts}
    assert "share a dot" in found.note


def test_a_dot_leads_to_the_page_of_its_checkpoint():
    files = render(Material(boards=[THREE]))
    html = files[addresses.board_page(THREE)].decode()
    links = re.findall(r'<a href="([^"]+)" tabindex="-1"><circle', html)
    assert len(links) == 3
    assert all(f"checkpoints/{link.rpartition('/')[2]}" in files for link in links)


@pytest.mark.parametrize("is_needed", [False, True])
def test_no_label_covers_another_or_a_dot(is_needed):
    draw = np.random.default_rng(1)
    labels = [
        Label(f"name-{n}", *map(float, draw.integers(60, 400, 2)), is_needed) for n in range(80)
    ]
    dots = [(one.x, one.y) for one in labels]
    placed = place(labels, dots, [(0.0, 200.0, 500.0, 200.0)], (0.0, 0.0, 500.0, 500.0))
    boxes = [_box(one) for _, one in placed]
    assert len(boxes) > 10
    for number, box in enumerate(boxes):
        assert box[0] >= 0
        assert box[2] <= 500
        assert is_needed or not box[1] < 200 < box[3]
        spots = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
        for other in [*boxes[:number], *spots]:
            assert (
                box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            )


def test_a_needed_label_without_room_beside_its_dot_stands_away_with_a_leader():
    dots = [(100.0 + 12 * n, 100.0 + 12 * m) for n in range(-8, 9) for m in range(-2, 3)]
    box = (0.0, 0.0, 400.0, 400.0)
    assert place([Label("the-front", 100.0, 100.0)], dots, [], box) == []
    ((_, placed),) = place([Label("the-front", 100.0, 100.0, is_needed=True)], dots, [], box)
    assert placed.leader is not None
    assert abs(placed.y - 100) > 24


def _box(placed):
    """What the text takes at 6 units a letter, at least."""
    width = 6 * len(placed.text)
    left = placed.x - {"": 0, "middle": width / 2, "end": width}[placed.anchor]
    return left, placed.y - 8, left + width, placed.y + 2


# Names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["trades-digits-cnn-s0", "mart-digits-cnn-s1"], ["trades-s0", "mart-s1"]),
        (["a-b", "b-a"], ["a-b", "b-a"]),
        (["a-a", "a"], ["a-a", "a"]),
        (["only-one"], ["only-one"]),
        ([], []),
    ],
)
def test_short_names_lose_what_all_have_and_stay_apart(names, short):
    assert list(short_names(names).values()) == short


# Attacks and checkpoints


def test_attacks_of_later_stages_have_no_column():
    one = board(standing())
    found = attack_matrix(one, names_of(one))
    assert [column.full for column in found.columns][:4] == [
        *("fgsm@logits:ce", "pgd@logits:ce", "apgd_ce@logits:ce", "apgd_t@logits:dlr")
    ]
    assert "square(queries=1000)@logits:margin" not in {one.full for one in found.columns}


def test_cells_hold_the_accuracy_alone_the_lowest_bold_and_the_worst_case_last():
    one = board(standing())
    (line,) = attack_matrix(one, names_of(one)).lines
    assert [cell.text for cell in line.cells] == [
        *("80.0", "70.5", "69.0", "66.5", "55.0", "53.5", "60.5", "52.5")
    ]
    assert [cell.text for cell in line.cells if "low" in cell.kind] == ["53.5"]


def test_an_attack_that_a_row_lacks_is_a_dash_without_a_shade():
    other = row("b-s1", 190, 100, attacks=(attack("mim@logits:ce", CORRECT, 120, 100, 200),))
    one = board(standing("a-s0"), other)
    last = attack_matrix(one, names_of(one)).lines[1]
    assert (last.cells[0].text, last.cells[0].kind) == ("–", "no")


def test_the_best_forty_rows_are_shown_and_the_total_is_said():
    one = board(*(standing(f"r{n}-s0") for n in range(57)))
    found = attack_matrix(one, names_of(one))
    assert len(found.lines) == 40
    assert "the best 40 of 57 rows" in found.caption


def test_columns_that_were_left_out_are_called_rarer_and_not_worse():
    attacks = tuple(attack(f"a{n}@logits:ce", CORRECT, 150 - n, 100, 200) for n in range(13))
    one = board(standing("a-s0", attacks=attacks))
    assert "the commonest 12 of 13 attacks" in attack_matrix(one, names_of(one)).caption


def test_a_matrix_of_forty_rows_and_twelve_attacks_stays_small():
    attacks = tuple(attack(f"a{n}@logits:ce", CORRECT, 150 - n, 100, 200) for n in range(12))
    one = board(*(standing(f"r{n}-digits-cnn-s0", attacks=attacks) for n in range(40)))
    html = render(Material(boards=[one]))[addresses.board_page(one)].decode()
    section = html[html.index('id="attacks-and-checkpoints"') :]
    assert len(section[: section.index("</section>")].encode()) < 60_000


# Differences and chance


def test_differences_stand_above_the_diagonal_and_their_p_below_it():
    found = board_pictures(Material(boards=[THREE], significances=compared(THREE, 0.01)), THREE)
    texts = [[cell.text for cell in line.cells] for line in found.significance.lines]
    assert texts == [["", "−10.0", "+5.0"], ["0.010", "", "+15.0"], ["0.010", "0.010", ""]]
    marks = [cell.mark for line in found.significance.lines for cell in line.cells]
    assert marks == ["", "▼", "▲", "", "", "▲", "", "", ""]
    assert "separates 3 of the 3 pairs" in found.significance.caption


def test_a_difference_that_chance_explains_has_no_mark():
    found = board_pictures(Material(boards=[THREE], significances=compared(THREE, 0.05)), THREE)
    assert not any(cell.mark for line in found.significance.lines for cell in line.cells)
    assert "separates 0 of the 3 pairs" in found.significance.caption


def test_the_best_row_stands_for_its_defense():
    rows = [row(f"{name}-s{seed}", 190, 150 - 10 * seed) for seed in range(3) for name in "ab"]
    one = board(*rows)
    found = board_pictures(Material(boards=[one], significances=compared(one, 1.0)), one)
    assert [line.heading.full for line in found.significance.lines] == ["a-s0", "b-s0"]


def test_a_changed_p_changes_what_the_page_follows_from():
    one, other = (
        Material(boards=[THREE], significances=compared(THREE, p)) for p in (0.0123, 0.0124)
    )
    assert repr(picture_facts(one, THREE)) != repr(picture_facts(other, THREE))


# Transferred attacks


def test_sources_are_named_by_the_checkpoint_whose_digest_begins_so():
    source = row("b-s1", 190, 90)
    digits = source.checkpoint.digest[:12]
    target = row("a-s0", 190, 100, findings=(transferred(**{f"surrogate_{digits}": (3.0, 17.5)}),))
    one = board(target, source)
    found = transfer_matrix(one, names_of(one))
    assert found.columns[0].full == "b-s1"
    assert [cell.text for cell in found.lines[0].cells] == ["17.5", "0.5"]
    assert found.lines[0].cells[-1].state == "green"
    assert len(found.lines) == 1


def test_a_source_that_nobody_here_has_keeps_the_name_of_its_surface():
    target = row("a-s0", 190, 100, findings=(transferred(surrogate_eeeeeeeeeeee=(3.0,)),))
    one = board(target)
    assert transfer_matrix(one, names_of(one)).columns[0].text == "surrogate(eeeeeeeeeeee)"


def test_a_model_is_no_source_of_itself():
    target = row("a-s0", 190, 100)
    digits = target.checkpoint.digest[:12]
    other = row("b-s1", 190, 90, findings=(transferred(**{f"surrogate_{digits}": (3.0,)}),))
    one = board(replace(target, findings=(transferred(surrogate_eeeeeeeeeeee=(1.0,)),)), other)
    found = transfer_matrix(one, names_of(one))
    texts = {
        (line.heading.full, column.full): cell.text
        for line in found.lines
        for column, cell in zip(found.columns, line.cells, strict=True)
    }
    assert texts["a-s0", "a-s0"] == "itself"
    assert texts["b-s1", "surrogate(eeeeeeeeeeee)"] == "–"


def test_a_diagnostic_that_was_not_run_draws_nothing():
    one = board(row("a-s0", 190, 100, findings=(replace(transferred(), state="not_run"),)))
    found = board_pictures(Material(boards=[one]), one)
    assert found.transfer is None


# Accuracy against epsilon


def test_a_curve_starts_at_clean_accuracy_and_its_numbers_stand_in_a_table():
    one = board(row("a-s0", 180, 100, findings=(SWEEP,)))
    found = board_pictures(Material(boards=[one]), one).sweeps
    assert found.lines == (("0/255", ("90.0",)), ("8/255", ("45.0",)), ("255/255", ("0.0",)))
    assert len(found.charts[0].chart.dots) == 3


def test_the_epsilon_of_the_board_is_marked_under_linf_alone():
    for threat, is_marked in (
        (ThreatModel("linf", Fraction(8, 255)), True),
        (ThreatModel("l2", Fraction(1, 2)), False),
    ):
        one = board(row("a-s0", 180, 100, findings=(SWEEP,), threat=threat), threat=threat)
        (drawn,) = board_pictures(Material(boards=[one]), one).sweeps.charts
        assert ("here" in {shape.kind for shape in drawn.chart.shapes}) == is_marked


def test_eight_defenses_are_shown_baselines_among_them():
    best = [row(f"d{n}-s0", 190, 190 - n, findings=(SWEEP,)) for n in range(10)]
    base = [row(f"{name}-s0", 190, 50, findings=(SWEEP,)) for name in ("trades", "pgd_at")]
    one = board(*best, *base)
    found = board_pictures(Material(boards=[one]), one).sweeps
    shown = [chart.heading.full for chart in found.charts]
    assert len(shown) == 8
    assert shown[:6] == [f"d{n}-s0" for n in range(6)]
    assert {"trades-s0", "pgd_at-s0"} < set(shown)
    assert [c.role for c in found.charts] == [""] * 6 + ["baseline"] * 2


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"epsilon_255ths": (0.0, 8.0), "security_curve": (100.0,), "clean": (90.0,)},
        {"epsilon_255ths": (0.0, 8.0), "security_curve": (100.0, float("nan")), "clean": (90.0,)},
        {"epsilon_255ths": (0.0, -8.0), "security_curve": (100.0, 1.0), "clean": (90.0,)},
        {"epsilon_255ths": (0.0, 8.0), "security_curve": (100.0, 1.0), "clean": ()},
    ],
)
def test_damaged_details_draw_nothing(details):
    one = board(row("a-s0", 180, 100, findings=(replace(SWEEP, details=details),)))
    assert board_pictures(Material(boards=[one]), one).sweeps is None


# All of them


def test_each_missing_picture_says_what_would_draw_it():
    one = board(standing("a-s0", rank=None, attacks=(), findings=()))
    found = board_pictures(Material(boards=[one]), one)
    assert found.matrices == ()
    assert (found.plane, found.sweeps) == (None, None)
    assert len({each.sentence for each in found.missing}) == 5
    html = render(Material(boards=[one]))[addresses.board_page(one)].decode()
    assert all(each.sentence.split("'")[0] in html for each in found.missing)


def test_the_same_board_gives_the_same_pictures():
    for one in every_kind():
        material = Material(boards=every_kind())
        assert board_pictures(material, one) == board_pictures(material, one)


def contrast(one, other):
    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(
            weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
            for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_numbers_can_be_read_on_every_shade(scheme):
    files = render(Material())
    ink = re.findall(r"--ink: (#\w{6})", files["style.css"].decode())[scheme]
    sheet = files["pictures.css"].decode().split("prefers-color-scheme: dark")[scheme]
    shades = re.findall(r"--[hb]\d: (#\w{6})", sheet)
    assert len(shades) == 18
    assert min(contrast(ink, shade) for shade in shades) >= 4.5
