"""The papers' tables as printed, what stands beside a figure, and which cannot be a worst case."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from harness.claims import claims
from harness.claims.expected import COUNTS
from harness.identity import CORRECT, Capabilities, CheckpointRecord, Claim
from harness.standings import AttackStanding, Board, Rate, Standing
from harness.standings.captions import CAPTIONS
from harness.standings.studies import Match, Study, StudyColumn, StudyRow, impossible, studies
from harness.threat import ThreatModel

THREAT = ThreatModel("linf", Fraction(8, 255))
ROW = {"defense": "trades", "architecture": "resnet18", "dataset": "cifar10"}


def claim(**changes: str) -> Claim:
    stated = {
        "source": "a_paper",
        "place": "1",
        **ROW,
        "metric": "robust_accuracy",
        "attack": "pgd",
        "attack_iterations": "40",
        "knowledge": "white_box",
        "variant": "",
        "epsilon": "8/255",
        "norm": "linf",
        "printed": "50.00",
        "unit": "percent",
    }
    return Claim(**{**stated, **changes})


def clean(**changes: str) -> Claim:
    nothing = dict.fromkeys(("attack_iterations", "epsilon", "norm"), "")
    stated = {"metric": "clean_accuracy", "attack": "none", "knowledge": "none", "printed": "80"}
    return claim(**{**nothing, **stated, **changes})


def rate(count: int) -> Rate:
    return Rate(count, 100, 0.0, 1.0)


def line(attack: str, left: int, **changes: Any) -> AttackStanding:
    stated: dict[str, Any] = {
        "label": f"{attack}@logits",
        "attack": attack,
        "surface": "logits",
        "loss": "ce",
        "parameters": {},
        "population": CORRECT,
        "attacked": 80,
        "broken": 80 - left,
        "robust": rate(left),
        "union_after": rate(left),
        "sole_breaks": 0,
        "forwards": 0,
        "backwards": 0,
        "queries": 0,
        "seconds": 0.0,
    }
    return AttackStanding(**{**stated, **changes})


def standing(
    name: str = "trades-s0", *attacks: AttackStanding, threat: ThreatModel = THREAT, **changes: Any
) -> Standing:
    stated = {"architecture": "resnet18", "defense": "trades", "scale": "full", "threat": THREAT}
    of_row = {"is_adaptive": changes.pop("is_adaptive", True)}
    record = CheckpointRecord(
        name=name,
        digest=name.encode().hex().ljust(64, "0"),
        kind="trained",
        dataset="cifar10",
        weights="w",
        weights_sha256="e" * 64,
        capabilities=Capabilities(10),
        **{**stated, **changes},
    )
    return Standing(
        checkpoint=record,
        dataset="cifar10",
        images="f" * 64,
        threat=threat,
        seed=0,
        examples=100,
        clean=rate(82),
        robust=rate(41),
        standard=None,
        protocols=(),
        attacks=attacks,
        **of_row,
    )


def board(*standings: Standing) -> Board:
    return Board("cifar10", "f" * 64, standings[0].threat, standings)


def beside(printed: Claim, *standings: Standing, others: Sequence[Claim] = ()) -> Match | None:
    """What stands beside a printed figure."""
    (study,) = studies([printed, *others], [board(one) for one in standings])
    cell = study.cells[0][0]
    assert cell is not None
    assert cell.printed == printed.printed
    return cell.ours


def test_every_published_figure_is_in_one_cell_as_it_is_printed() -> None:
    found = studies(claims(), ())
    cells = {
        (study.source, study.place): [cell for row in study.cells for cell in row if cell]
        for study in found
    }
    assert {where: len(of) for where, of in cells.items()} == {
        (source, place): count for source, of in COUNTS.items() for place, count in of.items()
    }
    for where, of in cells.items():
        mine = [one for one in claims() if (one.source, one.place) == where]
        printed = Counter((one.printed, one.note, one.quoted_from, one.variant) for one in mine)
        assert Counter((c.printed, c.note, c.quoted_from, c.variant) for c in of) == printed
        assert all(cell.ours is None for cell in of)


def test_every_published_table_has_a_caption_of_its_own() -> None:
    tables = [(study.source, study.place) for study in studies(claims(), ())]
    assert sorted(tables) == sorted(CAPTIONS)
    assert len(set(CAPTIONS.values())) == len(CAPTIONS)
    assert all(study.title for study in studies(claims(), ()))


def test_a_gain_stands_in_the_row_of_the_model_that_gains() -> None:
    study = _of(studies(claims(), ()), "frpat", "1")
    row = StudyRow("trades_frpat", "wrn_34_10", "cifar10", "")
    column = StudyColumn("clean_accuracy_gain", "none", "", "none", "")
    cell = study.cells[study.rows.index(row)][study.columns.index(column)]
    assert cell is not None
    assert (cell.variant, cell.unit) == ("relative_to=trades", "percentage_points")
    assert len({row.defense for row in study.rows}) == len(study.rows) == 9


def test_what_a_table_does_not_print_is_an_empty_cell() -> None:
    (study,) = studies([claim(), clean(defense="mart")], ())
    assert [[cell and cell.printed for cell in row] for row in study.cells] == [
        ["50.00", None],
        [None, "80"],
    ]
    assert study.title == ""


def _of(found: Sequence[Study], source: str, place: str) -> Study:
    return next(one for one in found if (one.source, one.place) == (source, place))


def test_clean_accuracy_stands_beside_clean_accuracy() -> None:
    found = beside(clean(printed="80.5"), standing())
    assert found is not None
    assert (found.rate, found.attack, found.checkpoint) == (rate(82), "", "trades-s0")
    assert found.is_comparable
    assert found.difference == pytest.approx(1.5)


def test_pgd_stands_beside_pgd_of_as_many_steps_on_the_deployed_logits() -> None:
    of_steps = {steps: {"parameters": {"steps": steps}} for steps in (20, 40)}
    attacks = (
        line("pgd", 45, **of_steps[20]),
        line("pgd", 44, **of_steps[40], loss="margin"),
        line("pgd", 43, **of_steps[40], surface="auxiliary(0)"),
        line("pgd", 42, **of_steps[40], population="survivors:adaptive-2"),
        line("pgd", 47, **of_steps[40], robust=None),
    )
    assert beside(claim(), standing("one", *attacks)) is None
    found = beside(claim(), standing("one", *attacks, line("pgd", 46, **of_steps[40])))
    assert found is not None
    assert (found.rate.count, found.attack) == (46, "pgd@logits")
    assert found.difference == pytest.approx(-4)


@pytest.mark.parametrize(
    ("attack", "knowledge", "surface", "is_there"),
    [
        ("fgsm", "white_box", "logits", True),
        ("cw_linf", "white_box", "logits", True),
        ("square", "query", "logits", True),
        ("square", "white_box", "logits", False),
        ("fgsm", "transfer", "logits", False),
        ("fgsm", "unspecified", "logits", False),
        ("fgsm", "white_box", "auxiliary(1)", False),
        ("fgsm", "white_box", "features", False),
        ("feature_attack", "white_box", "features", True),
        ("mean", "white_box", "logits", False),
        ("unspecified", "white_box", "logits", False),
    ],
)
def test_other_attacks_are_found_by_their_name_and_knowledge(
    attack: str, knowledge: str, surface: str, is_there: bool
) -> None:
    printed = claim(attack=attack, knowledge=knowledge, attack_iterations="")
    found = beside(printed, standing("one", line(attack, 33, surface=surface)))
    assert (found is not None) == is_there
    assert found is None or found.rate.count == 33


def test_autoattack_stands_beside_the_union_of_its_four_attacks() -> None:
    parts = [line(name, 50 - number) for number, name in enumerate(PARTS)]
    printed = claim(attack="autoattack", attack_iterations="")
    found = beside(printed, standing("one", *parts, line("pgd", 40)))
    assert found is not None
    assert (found.rate.count, found.attack) == (47, "AutoAttack")
    assert beside(printed, standing("one", *parts[:3])) is None
    assert beside(printed, standing("one", line("pgd", 60), *parts)) is None
    late = dataclasses.replace(parts[3], population="survivors:standard-2", robust=None)
    assert beside(printed, standing("one", *parts[:3], late)) is None


PARTS = ("apgd_ce", "apgd_t", "fab_t", "square")


def test_an_adaptive_figure_stands_beside_the_worst_case_of_an_adaptive_protocol() -> None:
    found = beside(claim(knowledge="adaptive"), standing())
    assert found is not None
    assert (found.rate.count, found.attack) == (41, "worst case")
    assert beside(claim(knowledge="adaptive"), standing(is_adaptive=False)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "beta=0"},
        {"defense": "mart"},
        {"dataset": "cifar100"},
        {"metric": "mean_robust_accuracy"},
        {"metric": "relationship_score_robust"},
        {"printed": "about 50"},
    ],
)
def test_what_is_about_something_else_has_nothing_beside_it(changes: dict[str, str]) -> None:
    mine = standing("one", line("fgsm", 33))
    assert beside(claim(attack="fgsm"), mine) is not None
    assert beside(claim(attack="fgsm", **changes), mine) is None


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"architecture": "wrn_34_10"}, ("architecture",)),
        ({"architecture": "unspecified"}, ("architecture",)),
        ({"epsilon": "0.031"}, ("epsilon",)),
        ({"norm": "l2"}, ("norm",)),
        ({"norm": "", "epsilon": ""}, ("norm", "epsilon")),
        ({"norm": "linf", "epsilon": "8/0"}, ("norm", "epsilon")),
    ],
)
def test_a_difference_exists_only_where_the_two_are_comparable(
    changes: dict[str, str], differs: tuple[str, ...]
) -> None:
    found = beside(claim(knowledge="adaptive", **changes), standing())
    assert found is not None
    assert found.differs == differs
    assert not found.is_comparable
    assert found.difference is None


def test_epsilon_of_clean_accuracy_is_that_of_the_printed_row() -> None:
    """It says how the paper trained; ours is held against how the checkpoint was trained."""
    on_another_board = standing(threat=ThreatModel("linf", Fraction(1, 5)))
    same = beside(clean(), on_another_board, others=[claim()])
    assert same is not None
    assert same.is_comparable
    other = beside(clean(), standing(), others=[claim(epsilon="0.031")])
    assert other is not None
    assert other.differs == ("epsilon",)


@pytest.mark.parametrize(
    ("ours", "chosen"),
    [
        ([("a", {"scale": "smoke"}), ("b", {"scale": "reduced"})], "b"),
        ([("a", {"architecture": "mlp"}), ("b", {"scale": "smoke"})], "a"),
        ([("a", {"architecture": "mlp"}), ("b", {"seed": 3})], "b"),
        ([("a", {"seed": 2}), ("b", {})], "b"),
        ([("b", {}), ("a", {})], "a"),
        ([("a", {"scale": ""}), ("b", {"scale": "smoke"})], "b"),
    ],
)
def test_of_several_the_comparable_then_the_largest_then_the_first_seed_is_shown(
    ours: list[tuple[str, dict[str, Any]]], chosen: str
) -> None:
    for order in (ours, ours[::-1]):
        found = beside(clean(), *(standing(name, **more) for name, more in order))
        assert found is not None
        assert found.checkpoint == chosen


def test_a_row_without_images_stands_beside_nothing() -> None:
    nothing = dataclasses.replace(standing(), examples=0)
    assert beside(clean(), nothing) is None


def test_figures_above_their_clean_accuracy_are_impossible() -> None:
    told = [one for one, why in impossible(claims()) if why.startswith("More than without")]
    assert len(told) == 16
    assert {one.source for one in told} == {"ancra_iclr"}


@pytest.mark.parametrize(
    ("fgsm", "pgd", "steps", "is_named"),
    [
        ("60.0", "60.51", "40", True),
        ("60.0", "60.5", "40", False),
        ("60.0", "59.0", "40", False),
        ("60.0", "70.0", "1", False),
        ("60.0", "70.0", "", True),
    ],
)
def test_one_step_that_leaves_half_a_point_less_than_many_shows_that_these_failed(
    fgsm: str, pgd: str, steps: str, is_named: bool
) -> None:
    one = claim(attack="fgsm", attack_iterations="", printed=fgsm)
    many = claim(attack_iterations=steps, printed=pgd)
    found = impossible([one, many])
    assert [who for who, _ in found] == ([many] if is_named else [])
    assert all("60.00" in why for _, why in found)


def test_more_steps_that_leave_more_are_impossible() -> None:
    steps = [("20", "55.0"), ("100", "55.1"), ("500", "54.0"), ("50", "55.0")]
    rows = [claim(attack_iterations=count, printed=value) for count, value in steps]
    found = impossible([*rows, claim(attack="mim", printed="99")])
    assert [(who.attack_iterations, why.split("after")[1]) for who, why in found] == [
        ("100", " 20 steps: 55.0."),
    ]


def test_figures_of_other_rows_prove_nothing() -> None:
    one = claim(attack="fgsm", attack_iterations="", printed="10.0")
    apart = [
        {"place": "2"},
        {"defense": "mart"},
        {"knowledge": "adaptive"},
        {"variant": "beta=0"},
        {"epsilon": "4/255"},
    ]
    assert impossible([one, *(claim(**changes) for changes in apart)]) == ()


def test_figures_that_are_no_numbers_are_passed_over() -> None:
    odd = [claim(printed="n/a"), claim(attack_iterations="many", printed="51")]
    assert impossible([*odd, claim()]) == ()


def test_the_known_failures_of_the_papers_are_among_them() -> None:
    """`protocol.md`, section 11: the C&W column of HE, and PGD on ANCRA."""
    found = {(one.source, one.place, one.defense, one.attack) for one, _ in impossible(claims())}
    assert {("he", "2", name, "cw_linf") for name in ("pgd_at", "alp", "trades")} <= found
    assert ("ancra_iclr", "1", "pgd_at_ancra", "pgd") in found
    assert not any(source.startswith("frpat") for source, *_ in found)
