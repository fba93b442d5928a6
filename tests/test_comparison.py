"""Defenses beside their baselines, and the page that shows them."""

import dataclasses
from fractions import Fraction

import pytest

from harness.cli.results_page import results_page, verdict
from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Job,
    Outcome,
    Plan,
)
from harness.standings.comparison import comparisons
from harness.statistics import mcnemar
from harness.store.store import Store
from harness.threat import ThreatModel

THREAT = ThreatModel("linf", Fraction(1, 5))
ATTACK = AttackSpec("pgd", "logits", "ce")
HEAD = AttackSpec("pgd", "auxiliary(0)", "ce")


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "x.db") as opened:
        yield opened


def bits(text):
    return tuple(character == "1" for character in text)


def add(store, defense, seed, broken, *, protocol="adaptive-2", scale="smoke", **more):
    """A row whose attack broke these images; none is wrong as it is."""
    name = f"{defense}-{scale}-s{seed}"
    record = CheckpointRecord(
        name,
        name.encode().hex().ljust(64, "0")[:64],
        "trained",
        "digits",
        THREAT,
        "w",
        "e" * 64,
        Capabilities(10),
        defense=defense,
        architecture="small_resnet",
        scale=scale,
        seed=seed,
        recipe={"epochs": 20, "inner_steps": 7},
        training={"collapsed_at": more.get("collapsed_at", 0)},
    )
    store.add_checkpoint(record)
    spoken = {CLEAN: "0" * len(broken), ATTACK: more.get("standard", broken), HEAD: broken}
    for spec, text in spoken.items():
        population = EVERY if spec == CLEAN else CORRECT
        job = Job(
            record.digest, "digits", "f" * 64, THREAT, spec, population, 0, "float32", 0, len(text)
        )
        store.record(Outcome(job, bits("1" * len(text)), bits(text)))
    members = tuple((spec.hash, CORRECT) for spec in (ATTACK, HEAD))
    store.record_plan(
        Plan(record.digest, "digits", "f" * 64, THREAT, 0, "float32", protocol, members)
    )
    return record


def only(store, baselines):
    return {one.defense: one for one in comparisons(store, baselines)}


def test_pairs_are_images_of_the_same_seed(store):
    add(store, "trades", 0, "11110000")
    add(store, "trades", 1, "11100000", protocol="adaptive_gradient-1")
    add(store, "trades_he", 0, "00110000")
    add(store, "trades_he", 1, "11100001", protocol="adaptive_gradient-1")
    add(store, "trades_he", 2, "11111111", protocol="adaptive_gradient-1")  # no partner
    found = only(store, {"trades_he": "trades"})["trades_he"]
    assert (found.only_here, found.only_there, found.images) == (2, 1, 16)
    assert found.difference == pytest.approx(1 / 16)
    assert found.p_adjusted == pytest.approx(mcnemar(2, 1))
    assert [one.checkpoint.seed for one in found.standings] == [0, 1, 2]


def test_p_values_are_corrected_for_all_comparisons_of_a_board(store):
    add(store, "trades", 0, "1" * 8 + "0" * 32)
    add(store, "trades_he", 0, "0" * 40)
    add(store, "trades_ra", 0, "1" * 7 + "0" * 33)
    found = only(store, {"trades_he": "trades", "trades_ra": "trades"})
    assert found["trades_he"].p_adjusted == pytest.approx(2 * mcnemar(8, 0))
    assert found["trades_ra"].p_adjusted == pytest.approx(1.0)
    assert found["trades"].p_adjusted is None


def test_a_defense_without_its_seed_0_is_not_shown(store):
    add(store, "trades", 1, "11110000", protocol="adaptive_gradient-1")
    assert only(store, {}) == {}


def test_of_two_checkpoints_of_a_seed_the_first_name_counts(store):
    """A second one, such as another width, has its row on the board but not here."""
    first = add(store, "trades", 0, "11110000")
    second = dataclasses.replace(first, name="zz", digest="a" * 64)
    store.add_checkpoint(second)
    assert only(store, {})["trades"].standings[0].checkpoint.name == first.name


def test_rows_of_another_scale_are_not_baselines(store):
    add(store, "trades", 0, "11110000", scale="reduced")
    add(store, "trades_he", 0, "00110000")
    found = only(store, {"trades_he": "trades"})["trades_he"]
    assert found.baselines == ()
    assert (found.images, found.difference, found.p_adjusted) == (0, None, None)
    assert "not measured" in verdict(found)


def test_only_rows_that_were_attacked_adaptively_are_compared(store):
    add(store, "trades", 0, "11110000", protocol="standard-2")
    assert only(store, {}) == {}


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        ("0" * 40, "1" * 20 + "0" * 20, "better"),
        ("1" * 20 + "0" * 20, "0" * 40, "worse"),
        ("1" * 3 + "0" * 37, "0" * 40, "no difference that 40"),
    ],
)
def test_the_verdict_is_that_of_the_paired_test(store, mine, theirs, said):
    add(store, "trades", 0, theirs)
    add(store, "trades_he", 0, mine)
    assert verdict(only(store, {"trades_he": "trades"})["trades_he"]).startswith(said)


def test_the_verdict_names_a_gap_and_a_collapse(store):
    add(store, "trades", 0, "0" * 40)
    add(store, "trades_ra", 0, "1" * 20 + "0" * 20, standard="0" * 40, collapsed_at=3)
    said = verdict(only(store, {"trades_ra": "trades"})["trades_ra"])
    assert said.startswith("worse; ")
    assert "training collapsed (epoch 3)" in said
    assert "50 points of its standard number" in said


def test_the_page_has_a_line_per_defense_with_its_baseline_beside_it(store):
    add(store, "trades", 0, "11110000")
    add(store, "trades_he", 0, "00110000")
    page = results_page(store)
    (line,) = [line for line in page.splitlines() if line.startswith("| `trades_he`")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["`trades_he`", "100.0", "75.0", "**75.0**"]
    assert cells[6:9] == ["`trades`", "50.0", "+25.0"]
    assert "## digits, linf 1/5" in page
    assert "20 epochs, at most 7 inner steps; the first 8 test images" in page
    assert "Not measured yet: `alp`, " in page
    assert "`trades_he`," not in page.partition("Not measured yet")[2]
    assert "scale `smoke`" in page


def test_an_older_row_without_the_probe_has_no_collapse(store):
    record = add(store, "trades", 0, "11110000")
    store.add_checkpoint(dataclasses.replace(record, training={}))
    assert "collapsed" not in results_page(store)
