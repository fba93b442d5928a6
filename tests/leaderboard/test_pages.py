"""What the page of a checkpoint says: every fact, every attack, every diagnostic, no verdict."""

from __future__ import annotations

import re
from dataclasses import replace

from page_reader import read
from synthetic_boards import (
    attack,
    board,
    corrupted,
    everything,
    failed,
    finding,
    rate,
    record,
    standing,
)

from harness.identity import CORRECT, Capabilities
from harness.standings.levels import DIAGNOSTICS
from leaderboard import addresses
from leaderboard import site as site_module
from leaderboard.material import Material
from leaderboard.pages import all_drafts
from leaderboard.pages.checkpoint import CheckpointPage
from leaderboard.panels.about import about
from leaderboard.site import render


def draft_of(material):
    """The draft of the page of the first checkpoint."""
    path = addresses.checkpoint_page(material.boards[0].standings[0].checkpoint)
    (draft,) = (draft for draft in all_drafts(material) if draft.path == path)
    return draft


def page_of(*standings, **more) -> CheckpointPage:
    return draft_of(Material(boards=[board(row) for row in standings], **more)).make()


def drawn(*standings, **more) -> bytes:
    draft = draft_of(Material(boards=[board(row) for row in standings], **more))
    return site_module._render([draft])[draft.path]


def checkpoint_text(*standings):
    return " ".join(read(drawn(*standings)).text.split())


def test_a_row_that_only_standard_attacks_tried_says_so():
    row = standing(is_adaptive=False, protocols=("standard-1",), robust=rate(131, 200))
    assert "not adaptively tested" in checkpoint_text(row)


def test_a_failure_is_shown_as_a_failure_and_never_as_a_number():
    text = checkpoint_text(failed())
    for said in ("What failed", "non_finite", "pgd@logits:ce, images 100 to 199", "≤"):
        assert (said in text) == (said != "≤")
    assert "accuracy (upper bound" not in text


def test_partial_numbers_of_a_failed_row_are_not_its_headline():
    row = replace(
        standing(), protocols=(), rank=None, is_adaptive=False, failures=failed().failures
    )
    assert "failed non_finite" in checkpoint_text(row)
    assert "≤" not in checkpoint_text(row)


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
    rows = [row for row in read(drawn(standing())).rows if row[1:]]
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
    page = page_of(standing())
    assert page.curves is not None
    assert [name for name, _ in page.curves.charts] == ["loss", "clean accuracy", "learning rate"]
    assert page.curves.epochs[4] == ("5", ("0.82", "0.951", "0.001"))


def test_curves_of_unequal_length_and_without_a_finite_number_still_make_a_table():
    curves = {"loss": (1.0,), "gone": (float("nan"), float("inf")), "empty": ()}
    page = page_of(standing(checkpoint=record(curves=curves)))
    assert page.curves is not None
    assert [name for name, _ in page.curves.charts] == ["loss"]
    assert page.curves.epochs == (("1", ("1", "nan", "–")), ("2", ("–", "inf", "–")))


def test_a_model_trained_elsewhere_shows_no_empty_lists(boards):
    added = next(s for s in boards[0].standings if s.checkpoint.kind == "added")
    text = checkpoint_text(added)
    assert "trained elsewhere, then added" in text
    assert "model.py:make" in text
    page = page_of(added)
    assert not {group.title for group in page.about} & {"Composition", "Recipe", "Paper"}
    assert "How it was trained" not in text


VERDICT = re.compile(
    r"\b(?:is|are|be|more|most|less|very|stays?|remains?|provably|truly|how)\s+robust\b(?!\s+accura)"
    r"|\brobust\s+(?:models?|defenses?|networks?|checkpoints?|classifiers?|rows?|images?)\b"
)


def test_no_page_calls_anything_robust_as_a_verdict():
    found = {}
    for name, page in render(everything()).items():
        if name.endswith(".html"):
            text = " ".join(read(page).text.lower().split())
            if said := VERDICT.search(text):
                found[name] = said.group()
    assert found == {}


def test_a_verdict_would_be_noticed():
    for said in ("this model is robust", "the most robust defense", "robust models"):
        assert VERDICT.search(said)
    for said in ("robust accuracy", "is robust accuracy", "Robust Harness"):
        assert not VERDICT.search(said.lower())


def test_an_attack_on_some_right_images_is_not_said_to_have_seen_survivors() -> None:
    half = attack("pgd@logits:ce", CORRECT, None, 160, 200)
    page = page_of(standing(attacks=(half,)))
    assert page.evaluations[0].evaluation.attacks[0].in_part == "on some images: broke 32 of 192"


# how well a number is founded


def evidence_of(row):
    return page_of(row).evaluations[0].evaluation.evidence


def diagnostics_table(*standings):
    page = drawn(*standings)
    return {
        row[0].split()[0]: row
        for row in read(page).rows
        if len(row) == 6 and row[0].split()[0] in DIAGNOSTICS
    }


def test_a_random_model_says_who_judges():
    random = record(capabilities=Capabilities(10, is_random=True))
    row = standing(checkpoint=random, rank=None, robust=rate(150, 200))
    assert "judged by majority" in checkpoint_text(row)
    assert "judged by majority" not in checkpoint_text(standing())


def test_a_small_scale_stands_beside_the_headline():
    assert "≤ 52.5 % smoke" in checkpoint_text(standing()).replace("\xa0", " ")


def test_the_evidence_names_what_a_higher_level_lacks_and_what_each_kind_of_attack_left():
    text = checkpoint_text(standing()).replace("\xa0", " ")
    for said in (
        "E1 adaptive too, but not all of E2",
        "no transferred attack",
        "diagnostics not run: D05, D06",
        "White-box attacks 53.0 % 46.1–59.8",
        "Queries, decisions and noise – only survivors of an earlier stage were attacked: "
        "at most 61 of 192 broken by one attack",
        "harness diagnose trades-digits-cnn-smoke-s0 --norm linf --epsilon 1/5",
    ):
        assert said in text, said
    assert "Transferred attacks" not in text  # none was run: no number


def test_every_diagnostic_has_a_line_with_its_state_in_words_and_in_colour():
    rows = diagnostics_table(standing())
    assert list(rows) == list(DIAGNOSTICS)
    assert rows["D01"][0].startswith("D01 Accuracy rises under attack")
    assert rows["D01"][1:] == [
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
    return read(drawn(row or standing(), corruptions=[about]))


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
    groups = {group.title: [fact.name for fact in group.facts] for group in about(plain)}
    assert groups["Recipe"] == ["epochs"]
    assert groups["Training"] == ["recipe"]
    groups = {g.title: g.facts for g in about(replace(plain, training={"collapsed_at": 4}))}
    assert [fact.name for fact in groups["Training"]] == ["collapsed at"]
