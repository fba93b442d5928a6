"""What a board and the front page say: every field, failures as failures, gaps marked exactly."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from page_reader import Read, read
from synthetic_boards import board, corrupted, failed, finding, rate, record, standing

from harness.claims import claims
from harness.identity import Capabilities
from harness.standings import Board, Standing
from harness.standings.claimed import claimed_accuracy
from harness.standings.levels import DIAGNOSTICS
from harness.threat import ThreatModel, parse_fraction
from leaderboard import addresses, wording
from leaderboard import site as site_module
from leaderboard.material import Material
from leaderboard.pages import all_drafts
from leaderboard.pages.board import BoardTable
from leaderboard.rows import ClaimGap, Cost, Row


def drawn(material: Material, path: str) -> bytes:
    """One file alone."""
    (draft,) = (draft for draft in all_drafts(material) if draft.path == path)
    content = site_module._render([draft])[path]
    assert content is not None
    return content


def board_page(one: Board, **more: object) -> bytes:
    return drawn(Material(boards=[one], **more), addresses.board_page(one))


def board_rows(page: bytes) -> list[dict[str, str]]:
    """The cells of each row of a board's table by the name of their column."""
    parsed = read(page)
    columns = [a["data-column"] for tag, a in parsed.elements if "data-column" in a]
    return [
        dict(zip(columns, row, strict=True))
        for row in parsed.rows
        if len(row) == len(columns) and not row[0].startswith("Rank")
    ]


def rows_of(*standings: Standing, **more: object) -> list[dict[str, str]]:
    return board_rows(board_page(board(*standings), **more))


def elements(page: bytes, tag: str, **wanted: str) -> list[dict[str, str | None]]:
    return [a for t, a in read(page).elements if t == tag and wanted.items() <= a.items()]


def test_a_row_shows_everything_as_text():
    assert rows_of(standing(), corruptions=[corrupted(record())]) == [
        {
            "rank": "1–2",
            "defense": "trades trades-digits-cnn-smoke-s0 #",
            "robust": "52.5 45.6–59.3 smoke",
            "clean": "96.0 92.3–98.0",
            "standard": "65.5",
            "gap": "13.0 standard attacks masked",
            "claim": "–",
            "level": "E1",
            "diagnostics": "2 red 1 amber 27 not run",
            "evidence": "adaptive",
            "architecture": "digits_resnet",
            "parameters": "41,370",
            "extra": "none",
            "scale": "smoke",
            "mca": "76.5 71.6–81.2 generated",
            "training": "1 min 23 s",
            "passes": "207,384",
            "attacks": "8",
            "lowered": "apgd_ce@auxiliary(0):margin",
            "images": "200",
        }
    ]


def test_columns_are_named_and_scoped_and_each_board_has_its_caption(boards):
    page = drawn(Material(boards=boards), addresses.board_page(boards[0]))
    parsed = read(page)
    table = next(row for row in parsed.rows if row[0] == "Rank")
    assert "upper bound, best attack so far" in table[2]
    scopes = [a.get("scope") for tag, a in parsed.elements if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert "7 checkpoints, 5 of them ranked, on digits, L∞, epsilon 1/5" in parsed.text
    other = read(drawn(Material(boards=boards), addresses.board_page(boards[1])))
    assert "1 checkpoint on cifar10, L∞, epsilon 8/255" in other.text


def test_every_row_has_an_address_of_its_own_and_links_to_it(boards):
    page = drawn(Material(boards=boards), addresses.board_page(boards[0]))
    rows = [a["id"] for a in elements(page, "tr") if "id" in a]
    assert rows == [addresses.row_id(row.checkpoint) for row in in_order(boards[0])]
    links = [a["href"] for a in elements(page, "a", **{"class": "link"})]
    assert links == [f"#{row}" for row in rows]
    assert len(set(rows)) == len(boards[0].standings)


def in_order(one: Board) -> list[Standing]:
    return sorted(one.standings, key=lambda row: row.rank is None)


def test_unranked_rows_come_last_and_the_rest_keep_their_order():
    first, second = standing("a", rank=(1, 3)), standing("b", rank=(1, 2))
    rows = rows_of(failed("c"), first, second)
    assert [row["rank"] for row in rows] == ["1–3", "1–2", "–"]


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
    (cells,) = rows_of(row)
    assert (cells["standard"], cells["gap"]) == ("65.5", "–")
    assert cells["evidence"] == "standard only: not adaptively tested"


def test_a_failure_is_shown_as_a_failure_and_never_as_a_number():
    (cells,) = rows_of(failed())
    assert cells["rank"] == "–"
    assert cells["robust"] == "failed non_finite: logits hold NaN for 3 of 200 images"
    for column in ("clean", "standard", "gap", "claim", "mca", "passes", "lowered"):
        assert cells[column] == "–", column
    assert cells["diagnostics"] == "32 not run"
    assert cells["evidence"] == "no suite complete: not adaptively tested"
    assert cells["attacks"] == "0 1 failure"


def test_partial_numbers_of_a_failed_row_are_not_its_headline():
    row = replace(
        standing(), protocols=(), rank=None, is_adaptive=False, failures=failed().failures
    )
    (cells,) = rows_of(row)
    assert cells["robust"].startswith("failed non_finite")
    assert "52.5" not in " ".join(cells.values())


def test_a_complete_row_keeps_its_number_beside_a_failure_elsewhere():
    (cells,) = rows_of(replace(standing(), failures=failed().failures * 2))
    assert cells["robust"].startswith("52.5")
    assert cells["attacks"] == "8 2 failures"


def test_small_scales_are_marked_beside_the_number_and_full_is_named():
    for scale, is_small in (("smoke", True), ("reduced", True), ("full", False), ("", False)):
        row = standing(checkpoint=record(scale=scale))
        assert Row.of(row, "x").is_small_scale is is_small
        (cells,) = rows_of(row)
        assert cells["robust"] == f"52.5 45.6–59.3 {scale}".strip()
        assert cells["scale"] == (scale or "–")


# claims, extra data, corruptions, cost


def full_scale_row() -> Standing:
    """A row that the papers print a comparable figure for."""
    claim = next(
        one
        for one in claims()
        if (one.metric, one.dataset, one.norm) == ("robust_accuracy", "cifar10", "linf")
        and one.knowledge == "white_box"
        and one.architecture != "unspecified"
        and not one.variant
        and one.epsilon
    )
    checkpoint = record(
        scale="full", defense=claim.defense, architecture=claim.architecture, dataset="cifar10"
    )
    threat = ThreatModel("linf", parse_fraction(claim.epsilon))
    return standing(checkpoint=checkpoint, dataset="cifar10", threat=threat)


@pytest.mark.parametrize(("hundredths", "sign"), [(-500, "+5.0"), (0, "0.0"), (500, "−5.0")])
def test_the_claim_gap_is_what_papers_claim_minus_ours_with_its_sign(hundredths, sign):
    row = full_scale_row()
    claimed = claimed_accuracy(row.checkpoint, row.dataset, row.threat)
    assert claimed is not None
    ours = rate(round(10_000 * claimed) + hundredths, 10_000)
    gap = ClaimGap.of(replace(row, robust=ours))
    assert gap.points == sign
    assert float(gap.claimed) == pytest.approx(100 * claimed)
    (cells,) = board_rows(
        board_page(board(replace(row, robust=ours), threat=row.threat, dataset="cifar10"))
    )
    assert cells["claim"] == f"{sign} {gap.claimed} claimed"


def test_a_row_of_smaller_scale_is_not_held_against_a_claim():
    row = full_scale_row()
    smaller = replace(row, checkpoint=replace(row.checkpoint, scale="reduced"))
    assert ClaimGap.of(row).points != "–"
    assert ClaimGap.of(smaller) == ClaimGap("–", "")


def test_extra_data_is_what_the_card_says_and_unknown_where_it_says_nothing():
    said = record(kind="added", paper={"extra_data": "1M generated images"})
    silent = record("silent", kind="added", paper={})
    cells = rows_of(standing(checkpoint=said), standing(checkpoint=silent))
    assert [row["extra"] for row in cells] == ["1M generated images", "–"]
    assert rows_of(standing())[0]["extra"] == "none"


def test_mca_is_of_the_same_test_images_and_whole_or_not_said():
    part = corrupted(record(), cells=74)
    other = replace(corrupted(record()), images="7" * 64)
    files = corrupted(record(), pixels="files")
    for found, said in (([part], "–"), ([other], "–"), ([], "–"), ([files], "76.5 71.6–81.2")):
        assert rows_of(standing(), corruptions=found)[0]["mca"] == said
    for both in ([files, corrupted(record())], [corrupted(record()), files], [part, files]):
        assert rows_of(standing(), corruptions=both)[0]["mca"] == "76.5 71.6–81.2"


@pytest.mark.parametrize("seconds", [None, 0, -1.0, float("nan"), float("inf"), "soon"])
def test_a_training_time_that_is_not_known_is_not_zero(seconds):
    training = {} if seconds is None else {"seconds": seconds}
    cost = Cost.of(standing(checkpoint=record(training=training)))
    assert (cost.training, cost.seconds) == ("–", "")


def test_passes_count_backwards_twice():
    one = replace(standing().attacks[0], forwards=10, backwards=7)
    assert Cost.of(standing(attacks=(one, one))).passes == "48"
    assert Cost.of(standing(attacks=())).passes == "–"


# how well a number is founded


@pytest.mark.parametrize("level", ["E1", "E2", "E3", "E4"])
def test_a_level_stands_in_its_own_column_with_its_meaning_as_title(level):
    row = standing(level=level, is_adaptive=level > "E2")
    page = board_page(board(row))
    assert board_rows(page)[0]["level"] == level
    (cell,) = (a for a in elements(page, "td") if "title" in a)
    assert cell["title"] == wording.level(row)


def test_what_was_not_run_is_counted_as_such_and_never_as_green():
    assert rows_of(standing(findings=()))[0]["diagnostics"] == "32 not run"
    one_left = tuple(finding(identity) for identity in DIAGNOSTICS[1:])
    page = board_page(board(standing(findings=one_left)))
    assert board_rows(page)[0]["diagnostics"] == "1 not run"
    assert elements(page, "td", **{"data-value": "not run"})
    assert not elements(page, "td", **{"data-value": "green"})
    whole = rows_of(standing(findings=(finding("D01"), *one_left)))
    assert whole[0]["diagnostics"] == "all green"


def test_a_random_model_is_last_without_a_rank_and_says_who_judges():
    random = record(capabilities=Capabilities(10, is_random=True))
    row = standing(checkpoint=random, rank=None, robust=rate(150, 200))
    rows = rows_of(row, standing("sure", rank=(1, 1)))
    assert [cells["rank"] for cells in rows] == ["1", "– judged by majority"]
    assert rows[1]["robust"].startswith("75.0")


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
    page = board_page(board(row))
    assert board_rows(page)[0]["evidence"] == "standard only: not adaptively tested"
    assert len(elements(page, "b", **{"class": "amber"})) == is_owed + bool(row.findings)
    assert not Row.of(replace(row, is_adaptive=True), "x").is_owed


# links and files


def test_a_checkpoint_on_two_boards_has_one_page_that_both_rows_link_into():
    elsewhere = standing(threat=ThreatModel("l2", parse_fraction("1/2")))
    two = [board(standing()), board(elsewhere, threat=elsewhere.threat)]
    links = addresses.evaluation_links(two)
    path = addresses.checkpoint_page(record())
    tables = [BoardTable.of(one, links, "../") for one in two]
    assert [table.rows[0].href for table in tables] == [f"../{path}", f"../{path}#evaluation-2"]
    page = read(drawn(Material(boards=two), path))
    assert "evaluation-2" in page.attributes("id")


def test_the_files_of_a_board_hold_its_rows_and_no_others(boards):
    material = Material(boards=boards)
    names = {row.checkpoint.name for row in boards[0].standings}
    text = drawn(material, addresses.board_page(boards[0], "csv")).decode()
    assert {row["checkpoint"] for row in csv.DictReader(io.StringIO(text))} == names
    found = json.loads(drawn(material, addresses.board_page(boards[0], "json")))["boards"]
    assert {row["checkpoint"] for one in found for row in one["standings"]} == names
    page = drawn(material, addresses.board_page(boards[0]))
    links = [a["href"] for a in elements(page, "a") if "download" in a]
    assert {f"../{addresses.board_page(boards[0], suffix)}" for suffix in ("csv", "json")} <= {
        *links
    }


# the front page


def home(*boards: Board) -> Read:
    return read(drawn(Material(boards=boards), addresses.HOME))


def test_the_front_page_shows_the_first_ten_rows_and_where_the_rest_is():
    rows = [standing(f"row-{place:02d}", rank=(place, place)) for place in range(1, 13)]
    page = home(board(failed(), *rows))
    shown = [row[0] for row in page.rows if row[0] != "Rank"]
    assert shown == [str(place) for place in range(1, 11)]
    assert "the first 10 of 13 checkpoints on digits" in page.text
    assert "All 13 rows" in page.text


def test_a_board_that_fits_is_not_said_to_be_cut():
    page = home(board(standing(), failed()))
    assert "2 checkpoints, 1 of them ranked, on digits" in page.text
    assert "The whole board" in page.text


def test_the_front_page_leads_to_every_board_and_every_room(boards):
    links = home(*boards).attributes("href", "a")
    for one in boards:
        assert addresses.board_page(one) in links
        assert f"#{addresses.board_slug(one)}" in links
    for room in (addresses.FAMILIES, addresses.ATTACKS, addresses.STUDIES, addresses.CLAIMS):
        assert links.count(room) == 2  # above, and with what is there


def test_a_failure_on_the_front_page_is_no_number():
    page = home(board(failed()))
    (row,) = (row for row in page.rows if row[0] != "Rank")
    assert row[2].startswith("failed non_finite")
    assert row[3:5] == ["–", "–"]
