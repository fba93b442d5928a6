"""What the pages say: every field that must show, failures as failures, gaps marked exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_reader import read
from synthetic_boards import (
    CIFAR,
    attack,
    board,
    corrupted,
    failed,
    finding,
    rate,
    record,
    standing,
)

from harness.identity import CORRECT, Capabilities
from harness.standings.levels import DIAGNOSTICS
from leaderboard import wording
from leaderboard.evaluations import Row
from leaderboard.pages import CheckpointPage, IndexPage, _about, address
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
            "E1 2 red 1 amber 27 not run",
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
    assert "7 checkpoints, 5 of them ranked, on digits, L∞, epsilon 1/5" in parsed.text
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
    assert [*cells[4:6], cells[7]] == ["65.5", "–", "standard only: not adaptively tested"]
    assert "not adaptively tested" in checkpoint_text(row)


def test_a_failure_is_shown_as_a_failure_and_never_as_a_number():
    cells = index_rows(failed())[0]
    assert cells[0] == "–"
    assert cells[2] == "failed non_finite: logits hold NaN for 3 of 200 images"
    assert cells[3:6] == [
        "– 32 not run", "no suite complete: not adaptively tested", "0 1 failure",
    ]  # fmt: skip
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
    assert cells[8].endswith("2 failures")


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
        "2", "pgd@logits:ce steps=40", "white box", "every clean-correct image", "70.5 63.8–76.4",
        "70.0 −20 images", "3", "12,345", "6,789", "1,000", "4.2",
    ]  # fmt: skip
    survivors = attacks["square(queries=1000)@logits:margin"]
    assert survivors[2:7] == [
        "queries", "survivors of standard-1", "on survivors: broke 61 of 192", "65.5 −1 image", "–",
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
    page = CheckpointPage.from_standing(added)
    assert not {group.title for group in page.about} & {"Composition", "Recipe", "Paper"}
    assert "How it was trained" not in text


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


# how well a number is founded


def elements(page, tag, **wanted):
    return [a for t, a in read(page).elements if t == tag and wanted.items() <= a.items()]


def evidence_of(row):
    return CheckpointPage.from_standing(row).evaluations[0].evidence


def diagnostics_table(*standings):
    page = render([board(row) for row in standings])[address(standings[0].checkpoint)]
    return {
        row[0].split()[0]: row
        for row in read(page).rows
        if len(row) == 6 and row[0] not in {"Diagnostic", "Epoch"}
    }


@pytest.mark.parametrize("level", ["E1", "E2", "E3", "E4"])
def test_a_level_stands_in_its_own_column_with_its_meaning_as_title(level):
    page = render([board(standing(level=level, is_adaptive=level > "E2"))])["index.html"]
    heads = next(row for row in read(page).rows if row[0] == "Rank")
    assert heads[6] == "Level diagnostics"
    row = next(row for row in read(page).rows if row[0] != "Rank")
    assert row[6].startswith(level)
    (cell,) = (a for a in elements(page, "td") if "title" in a)
    assert cell["title"] == wording.level(standing(level=level, is_adaptive=level > "E2"))


def test_what_was_not_run_is_counted_as_such_and_never_as_green():
    cells = index_rows(standing(findings=()))[0]
    assert cells[6] == "E1 32 not run"
    one_left = tuple(finding(identity) for identity in DIAGNOSTICS[1:])
    assert index_rows(standing(findings=one_left))[0][6] == "E1 1 not run"
    assert index_rows(standing(findings=(finding("D01"), *one_left)))[0][6] == "E1 all green"


def test_a_random_model_is_last_without_a_rank_and_says_who_judges():
    random = record(capabilities=Capabilities(10, is_random=True))
    row = standing(checkpoint=random, rank=None, robust=rate(150, 200))
    rows = index_rows(row, standing("sure", rank=(1, 1)))
    assert [cells[0] for cells in rows] == ["1", "– judged by majority"]
    assert rows[1][2].startswith("75.0")
    assert "judged by majority" in checkpoint_text(row)
    assert "judged by majority" not in checkpoint_text(standing())


@pytest.mark.parametrize(
    ("changes", "is_owed"),
    [
        ({"checkpoint": record(capabilities=Capabilities(10))}, False),
        ({"checkpoint": record(capabilities=Capabilities(10, auxiliary=1))}, True),
        ({"checkpoint": record(capabilities=Capabilities(10, hard=("round",)))}, True),
        (
            {
                "checkpoint": record(capabilities=Capabilities(10)),
                "findings": (finding("D14", "amber"),),
            },
            True,
        ),
    ],
)
def test_a_row_that_owes_adaptive_attacks_is_marked_as_not_adaptively_tested(changes, is_owed):
    changes = {"findings": (), **changes, "is_adaptive": False, "protocols": ("standard-1",)}
    row = standing(**changes)
    page = render([board(row)])["index.html"]
    assert index_rows(row)[0][7] == "standard only: not adaptively tested"
    assert len(elements(page, "b", **{"class": "amber"})) == is_owed + bool(row.findings)
    assert not Row.of(replace(row, is_adaptive=True), "x").is_owed


def test_the_evidence_names_what_a_higher_level_lacks_and_what_each_kind_of_attack_left():
    text = checkpoint_text(standing()).replace("\xa0", " ")
    for said in (
        "E1 adaptive too, but not all of E2",
        "no transferred attack",
        "diagnostics not run: D05, D06",
        "White-box attacks 53.0 % 46.1–59.8",
        "Queries, decisions and noise 88.0 % 82.8–91.8",
        "harness diagnose trades-digits-cnn-smoke-s0 --norm linf --epsilon 1/5",
    ):
        assert said in text, said
    assert "Transferred attacks" not in text  # none was run: no number


def test_every_diagnostic_has_a_line_with_its_state_in_words_and_in_colour():
    rows = diagnostics_table(standing())
    assert list(rows) == list(DIAGNOSTICS)
    assert rows["D01"] == [
        "D01 Accuracy rises under attack",
        "red",
        "4.5",
        "amber: > 1 point; red: > 5 points",
        "PGD-40 leaves 4.5 points more right than there were.",
        f"25 images {', '.join(map(str, range(3, 23)))}, …",
    ]
    assert rows["D02"][5] == "2 images 7, 11"
    assert rows["D05"][1:] == [
        *("not run", "–", "amber: > 1 point; red: > 5 points"),
        *("no other checkpoint of this dataset is stored.", ""),
    ]
    assert rows["D06"][1:] == [
        *("not run", "–", "", "nothing is stored: it was never asked for on this row", ""),
    ]
    colours = {d.id: d.colour for d in evidence_of(standing()).diagnostics}
    assert [colours[f"D0{n}"] for n in range(1, 7)] == ["red", "amber", "green", "green", "", ""]


def test_what_was_computed_before_the_adaptive_attacks_says_so():
    basis = {d.id: d.basis for d in evidence_of(standing()).diagnostics}
    assert basis["D04"] == "before the adaptive attacks"
    assert {basis["D03"], basis["D20"]} == {""}  # not compared with the adaptive union, or fresh
    assert all(not d.basis for d in evidence_of(standing(is_adaptive=False)).diagnostics)
    fresh = standing(findings=(finding("D04", is_adaptive=True),))
    assert all(not d.basis for d in evidence_of(fresh).diagnostics)


def test_without_any_finding_there_is_a_sentence_instead_of_a_table():
    row = standing(findings=())
    assert diagnostics_table(row) == {}
    assert "No diagnostic was run on this row." in checkpoint_text(row)


def test_a_finding_of_another_package_or_a_re_run_is_listed_last():
    others = (finding("E4"), finding("X99"))
    shown = evidence_of(standing(findings=(*others, finding("D01")))).diagnostics
    assert [(d.id, d.title) for d in shown[32:]] == [("E4", "Independent re-run"), ("X99", "")]


# corrupted images


def with_corruptions(about, row=None):
    row = row or standing()
    page = render([board(row)], corruptions=[about])[address(row.checkpoint)]
    return read(page)


def mean_rows(parsed):
    return {row[0]: row[1:] for row in parsed.rows if len(row) == 4 and not row[0].isdigit()}


def test_corrupted_images_have_a_table_apart_that_says_what_it_is():
    parsed = with_corruptions(corrupted(record()))
    text = " ".join(parsed.text.split())
    assert "Another threat, not in the union" in text
    assert "generated by imagecorruptions 1.0: not the published files" in text
    assert "75 of 75 accuracies are measured" in text
    means = mean_rows(parsed)
    assert means["mCA, all 15 corruptions and five severities"][0].startswith("76.5 ")
    assert means["Family: noise"][0].startswith("91.5 ")
    assert means["Severity 1"][0].startswith("77.5 ")
    assert means["Severity 5"][1:] == ["15", "200"]
    assert len(means) == 2 + 1 + 4 + 5  # the heads of this table and of the curves, then means


def test_pixels_from_files_are_not_said_to_be_generated_and_parts_have_no_mean():
    parsed = with_corruptions(corrupted(record(), cells=20, pixels="files"))
    text = " ".join(parsed.text.split())
    assert "generated" not in text
    assert "read from files (imagecorruptions 1.0)" in text
    assert "20 of 75 accuracies are measured" in text
    means = mean_rows(parsed)
    assert means["mCA, all 15 corruptions and five severities"] == ["–", "–", "–"]
    assert means["Family: noise"][1] == "15"


def test_corruptions_stay_on_the_page_of_their_checkpoint():
    parsed = with_corruptions(corrupted(record("another")))
    assert "Corrupted images" not in parsed.text


def test_what_there_is_none_of_has_no_line():
    plain = replace(
        record(),
        recipe={"drops": "", "epochs": 3},
        training={"teacher": "", "collapsed_at": 0, "recipe": "digits"},
    )
    groups = {group.title: [fact.name for fact in group.facts] for group in _about(plain)}
    assert groups["Recipe"] == ["epochs"]
    assert groups["Training"] == ["recipe"]
    groups = {g.title: g.facts for g in _about(replace(plain, training={"collapsed_at": 4}))}
    assert [fact.name for fact in groups["Training"]] == ["collapsed at"]
