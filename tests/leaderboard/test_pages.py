"""What the pages say: every field that must show, failures as failures, gaps marked exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_reader import read
from synthetic_boards import CIFAR, attack, board, failed, rate, record, standing

from harness.identity import CORRECT
from leaderboard.evaluations import Row
from leaderboard.pages import CheckpointPage, IndexPage, address
from leaderboard.site import render


def index_rows(*standings):
    parsed = read(render([board(*standings)])["index.html"])
    return [row for row in parsed.rows if row[0] != "Rank"]


def checkpoint_text(*standings):
    page = render([board(row) for row in standings])[address(standings[0].checkpoint)]
    return " ".join(read(page).text.split())


def test_a_row_shows_everything_as_text():
    assert index_rows(standing()) == [
        [
            "1–2",
            "trades trades-digits-cnn-smoke-s0",
            "52.5 45.6–59.3 smoke",
            "96.0 92.3–98.0",
            "65.5",
            "13.0 standard attacks masked",
            "adaptive",
            "8 apgd_ce@auxiliary(0):margin",
            "digits_resnet",
            "41,370",
            "200",
        ]
    ]


def test_columns_are_named_and_scoped_and_each_board_has_its_caption(boards):
    page = render(boards)["index.html"]
    parsed = read(page)
    heads = [row for row in parsed.rows if row[0] == "Rank"]
    assert len(heads) == len(boards)
    assert "upper bound, best attack so far" in heads[0][2]
    scopes = [a.get("scope") for tag, a in parsed.elements if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert "6 checkpoints, 5 of them ranked, on digits, L∞, epsilon 1/5" in parsed.text
    assert "1 checkpoint on cifar10, L∞, epsilon 8/255" in parsed.text


@pytest.mark.parametrize(
    ("standard", "level", "words"),
    [
        (105, "", ""),
        (107, "", ""),  # 53.5 - 52.5: exactly one point
        (108, "amber", ""),
        (115, "amber", ""),  # exactly five points
        (116, "red", "standard attacks masked"),
    ],
)
def test_gaps_are_marked_above_one_and_above_five_points(standard, level, words):
    gap = Row.of(standing(standard=rate(standard, 200)), "x").gap
    assert (gap.level, gap.words) == (level, words)


def test_floating_point_does_not_push_a_gap_over_its_threshold():
    row = standing(standard=rate(95, 100), robust=rate(94, 100))
    assert row.adaptive_gap > 0.01
    assert Row.of(row, "x").gap.level == ""


def test_a_row_that_only_standard_attacks_tried_says_so_and_has_no_gap():
    row = standing(is_adaptive=False, protocols=("standard-1",), robust=rate(131, 200))
    cells = index_rows(row)[0]
    assert cells[4:7] == ["65.5", "–", "standard only: not adaptively tested"]
    assert "not adaptively tested" in checkpoint_text(row)


def test_a_failure_is_shown_as_a_failure_and_never_as_a_number():
    cells = index_rows(failed())[0]
    assert cells[0] == "–"
    assert cells[2] == "failed non_finite: logits hold NaN for 3 of 200 images"
    assert cells[4] == "0 1 failure"
    text = checkpoint_text(failed())
    for said in ("What failed", "non_finite", "pgd@logits:ce, images 100 to 199", "≤"):
        assert (said in text) == (said != "≤")
    assert "accuracy (upper bound" not in text


def test_partial_numbers_of_a_failed_row_are_not_its_headline():
    row = replace(
        standing(), protocols=(), rank=None, is_adaptive=False, failures=failed().failures
    )
    assert index_rows(row)[0][2].startswith("failed non_finite")
    assert "≤" not in checkpoint_text(row)


def test_a_complete_row_keeps_its_number_beside_a_failure_elsewhere():
    cells = index_rows(replace(standing(), failures=failed().failures * 2))[0]
    assert cells[2].startswith("52.5")
    assert cells[7].endswith("2 failures")


def test_unranked_rows_come_last_and_the_rest_keep_their_order():
    first, second = standing("a", rank=(1, 3)), standing("b", rank=(1, 2))
    page = IndexPage.from_boards([board(failed("c"), first, second)])
    assert [row.rank for row in page.boards[0].rows] == ["1–3", "1–2", "–"]


def test_small_scales_are_marked_beside_the_number_and_full_is_named():
    for scale, is_small in (("smoke", True), ("reduced", True), ("full", False), ("", False)):
        row = standing(checkpoint=record(scale=scale))
        assert Row.of(row, "x").is_small_scale is is_small
        assert index_rows(row)[0][2] == f"52.5 45.6–59.3 {scale}".strip()
    assert "≤ 52.5 % smoke" in checkpoint_text(standing()).replace("\xa0", " ")


def test_a_checkpoint_page_shows_what_it_is_and_where_every_number_comes_from():
    row = standing()
    text = checkpoint_text(row)
    checkpoint = row.checkpoint
    for said in (
        checkpoint.name,
        checkpoint.digest,
        checkpoint.weights,
        checkpoint.weights_sha256,
        row.images,
        "linf 1/5",
        "standard-1, adaptive-1",
        "Trades(beta=6.0)",
        "auxiliary weight 2",
        "learning rate 0.1",
        "width 16",
        "41,370",
        "Theoretically Principled Trade-off",
        "1 min 23 s",
        "cpu of the tests",
        "17",
        "2 auxiliary outputs, class-conditional gate, features, training loss",
        "105 of the first 200 test images are right and not broken by any of the 8 attacks",
        "robust accuracy (upper bound, best attack so far)",
        "harness eval trades-digits-cnn-smoke-s0 --adaptive --examples 200 --norm linf "
        "--epsilon 1/5 --seed 0",
    ):
        assert said in text.replace("\n", " "), said


def test_every_attack_has_a_row_with_population_effect_and_cost():
    rows = [row for row in read(render([board(standing())])[address(record())]).rows if row[1:]]
    attacks = {row[1].split()[0]: row for row in rows if "@" in row[1] and row[0].isdigit()}
    assert len(attacks) == 8
    assert attacks["pgd@logits:ce"] == [
        "2", "pgd@logits:ce steps=40", "every clean-correct image", "70.5 63.8–76.4",
        "70.0 −20 images", "3", "12,345", "6,789", "1,000", "4.2",
    ]  # fmt: skip
    survivors = attacks["square(queries=1000)@logits:margin"]
    assert survivors[2:6] == [
        "survivors of standard-1", "on survivors: broke 61 of 192", "65.5 −1 image", "–",
    ]  # fmt: skip


def test_seeds_are_named_where_several_count_together():
    several = replace(attack("pgd@logits:ce", "correct", 120, 120, 200), seeds=(0, 3))
    assert "steps=40, seeds 0, 3" in checkpoint_text(standing(attacks=(several,)))


def test_curves_are_drawn_and_stand_beside_as_a_table():
    page = CheckpointPage.from_standing(standing())
    assert page.curves is not None
    assert [name for name, _ in page.curves.charts] == ["loss", "clean accuracy", "learning rate"]
    assert page.curves.epochs[4] == ("5", ("0.82", "0.951", "0.001"))


def test_curves_of_unequal_length_and_without_a_finite_number_still_make_a_table():
    curves = {"loss": (1.0,), "gone": (float("nan"), float("inf")), "empty": ()}
    page = CheckpointPage.from_standing(standing(checkpoint=record(curves=curves)))
    assert page.curves is not None
    assert [name for name, _ in page.curves.charts] == ["loss"]
    assert page.curves.epochs == (("1", ("1", "nan", "–")), ("2", ("–", "inf", "–")))


def test_a_checkpoint_on_two_boards_has_one_page_that_both_rows_link_into():
    elsewhere = standing(threat=CIFAR)
    boards = [board(standing()), board(elsewhere, threat=CIFAR)]
    page = IndexPage.from_boards(boards)
    path = address(record())
    assert [b.rows[0].href for b in page.boards] == [path, f"{path}#evaluation-2"]
    files = render(boards)
    assert len([name for name in files if "/" in name]) == 1
    assert "evaluation-2" in read(files[path]).attributes("id")


def test_a_model_trained_elsewhere_shows_no_empty_lists(boards):
    added = next(s for s in boards[0].standings if s.checkpoint.kind == "added")
    text = checkpoint_text(added)
    assert "trained elsewhere, then added" in text
    assert "model.py:make" in text
    for group in ("Composition", "Recipe", "Paper", "How it was trained"):
        assert group not in text


def test_no_page_calls_anything_robust_as_a_verdict(boards):
    for name, page in render(boards).items():
        if not name.endswith(".html"):
            continue
        text = " ".join(read(page).text.lower().split())
        for allowed in ("robust harness", "robust accuracy"):
            text = text.replace(allowed, "")
        assert "robust" not in text


def test_an_attack_on_some_right_images_is_not_said_to_have_seen_survivors() -> None:
    half = attack("pgd@logits:ce", CORRECT, None, 160, 200)
    page = CheckpointPage.from_standing(standing(attacks=(half,)))
    assert page.evaluations[0].attacks[0].in_part == "on some images: broke 32 of 192"
