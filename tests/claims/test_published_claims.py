"""The published figures: how many, which key, whose names, and what follows from what."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.catalogue import DEFENSES, QUOTED
from harness.claims import claims
from harness.claims.checks import label, problems
from harness.claims.expected import CONTRADICTIONS
from harness.claims.recomputed import RECOMPUTED, above_clean
from harness.claims.regenerate import main, regenerate
from harness.claims.table import COLUMNS, KEY, PACKAGED, key, parse, render
from harness.errors import HarnessError
from harness.identity import Claim

PER_TABLE = {
    "ancra_iclr": "1:120 2:12 3:12 4:8 5:16 6:12 7:12 8:15 9:16 10:12",
    "ancra_supp": "1:9",
    "ancra_summary": "headline:4",
    "frpat": "1:75 2:75 3:6 4:20 5:12 6:10",
    "frpat_supp": "1:16 2:16 3:16 4:24 5:24 6:8 7:40 8:32",
    "he": "2:54 3:18 4:24 5:103 6:6 7:4 8:42 9:22 10:63 11:449 12:150 text_4.1:8",
}
ABOVE_CLEAN = """
1 cifar10 pgd_at_ancra 89.03 87.00 89.23
1 cifar10 trades_ancra 82.96 82.74 83.01
1 cifar10 mart_ancra 88.56 87.95 88.77
1 cifar10 s2o 47.00 44.00
1 cifar100 s2o 43.00
1 cifar100 udr 33.77
6 cifar10 trades_ancra 83.52 83.49 83.47
"""
PACKAGE = Path(str(PACKAGED))


def changed(index: int, **fields_: str) -> list[Claim]:
    """All claims, one of them with other fields."""
    found = [*claims()]
    found[index] = replace(found[index], **fields_)
    return found


def where(**wanted: str) -> int:
    """The index of the first claim with these fields."""
    return next(
        index
        for index, claim in enumerate(claims())
        if all(getattr(claim, name) == value for name, value in wanted.items())
    )


def test_there_are_1565_claims_as_many_per_table_as_were_printed():
    found = Counter((claim.source, claim.place) for claim in claims())
    expected = {
        (source, place): int(count)
        for source, text in PER_TABLE.items()
        for place, count in (pair.split(":") for pair in text.split())
    }

    assert len(claims()) == sum(expected.values()) == 1565
    assert found == expected


def test_no_two_claims_share_a_key():
    assert len({key(claim) for claim in claims()}) == 1565


def test_every_field_of_a_claim_is_a_column_and_the_key_is_part_of_it():
    names = {field.name for field in fields(Claim)}

    assert len(COLUMNS) == len(names) == 17
    assert {"place", "printed"} == names - set(COLUMNS)
    assert set(KEY) < names


def test_digits_are_kept_as_printed():
    first = claims()[0]

    assert (first.source, first.place, first.defense) == ("ancra_iclr", "1", "pgd_at")
    assert (first.printed, first.value, first.unit) == ("80.90", 80.9, "percent")


def test_what_is_claimed_is_a_defense_or_a_quoted_method():
    assert sorted({c.defense for c in claims()} - {*DEFENSES, *QUOTED}) == []


def test_sixteen_figures_lie_above_clean_accuracy_and_no_others():
    found = [claim for claim, _ in above_clean(claims())]
    expected = [
        (place, dataset, defense, printed)
        for place, dataset, defense, *many in map(str.split, ABOVE_CLEAN.strip().splitlines())
        for printed in many
    ]

    assert len(found) == 16
    assert {c.source for c in found} == {"ancra_iclr"}
    assert sorted((c.place, c.dataset, c.defense, c.printed) for c in found) == sorted(expected)
    assert {c for c in claims() if "above the clean accuracy" in c.note} == set(found)


@pytest.mark.parametrize("name", RECOMPUTED)
def test_what_is_recomputed_disagrees_exactly_where_it_is_known_to(name):
    found = [label(claim) for claim, _ in RECOMPUTED[name](claims())]

    assert len(found) == len(set(found))
    assert set(found) == CONTRADICTIONS[name]


def test_the_packaged_claims_have_no_problem_and_come_back_byte_for_byte():
    assert problems(claims()) == []
    assert render(claims()).encode() == PACKAGE.read_bytes()


@pytest.mark.parametrize(
    ("index", "change", "said"),
    [
        (0, {"printed": "8O.90"}, "printed is malformed"),
        (0, {"printed": "809.0"}, "not from 0 to 100 percent"),
        (0, {"unit": "seconds"}, "is in percent, not seconds"),
        (0, {"dataset": "cifar11"}, "dataset may not be 'cifar11'"),
        (0, {"defense": "PGD-AT"}, "defense is malformed"),
        (0, {"note": " a space"}, "stray spaces"),
        (0, {"place": "11"}, "ancra_iclr 11 has 1 figures, not 0"),
        (0, {"attack": "pgd"}, "the attack does not fit the metric"),
        (1, {"knowledge": "corruption"}, "go together"),
        (1, {"attack_iterations": "forty"}, "attack_iterations is malformed"),
        (1, vars(claims()[2]), "claims have the same source"),
    ],
)
def test_a_claim_that_cannot_be_is_told(index, change, said):
    assert any(said in problem for problem in problems(changed(index, **change)))


@pytest.mark.parametrize(
    ("wanted", "printed", "said"),
    [
        ({"metric": "mean_robust_accuracy", "defense": "trades"}, "50.27", "mean over attacks"),
        (
            {"metric": "mean_robust_accuracy", "defense": "awp", "dataset": "cifar100"},
            "32.18",
            "as",
        ),
        ({"metric": "clean_accuracy_gain"}, "9.99", "gain: frpat 1"),
        ({"metric": "robust_overfitting_gap"}, "9.9", "overfitting gap: frpat_supp 4"),
        ({"place": "12", "attack": "frost"}, "1.0", "mean over corruptions: he 5 imagenet_c"),
        ({"defense": "mart", "attack": "fgsm"}, "99.0", "above clean accuracy: ancra_iclr 1"),
        (
            {"source": "frpat", "place": "6", "variant": "lambda=0", "attack": "pgd"},
            "60.00",
            "above clean accuracy: frpat 6",
        ),
        ({"source": "he", "place": "10", "attack": "deepfool"}, "50.0", "printed twice: he 10"),
    ],
)
def test_a_figure_that_no_longer_fits_the_others_is_told(wanted, printed, said):
    found = problems(changed(where(**wanted), printed=printed))

    assert any(said in problem for problem in found), found


def test_a_contradiction_that_was_tidied_away_is_told():
    index = where(source="frpat", metric="relationship_score_clean_gain", printed="5.00")

    assert problems(changed(index, printed="4.93")) == [
        f"gain: {label(claims()[index])} no longer disagrees: figures stay as printed."
    ]


def test_regenerating_from_the_same_file_leaves_the_package_as_it_is(tmp_path):
    target = tmp_path / "claims.csv"

    assert regenerate(PACKAGE, target).endswith("written.")
    assert target.read_bytes() == PACKAGE.read_bytes()
    before = target.stat().st_ino
    assert regenerate(PACKAGE, target) == "1565 claims of 38 tables, unchanged."
    assert target.stat().st_ino == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"source,table\n",
        PACKAGE.read_bytes() + b"one,two\n",
        PACKAGE.read_bytes()[:-200],
        PACKAGE.read_bytes().replace(b"80.90", b"80.9x"),
        b"\xff\xfe" + PACKAGE.read_bytes(),
        PACKAGE.read_bytes() + b'"',
    ],
    ids=["empty", "columns", "short line", "cut", "no number", "encoding", "quote"],
)
def test_a_wrong_source_is_refused_and_the_package_stays(tmp_path, content):
    source, target = tmp_path / "source.csv", tmp_path / "claims.csv"
    source.write_bytes(content)
    target.write_text("as it was")

    with pytest.raises(HarnessError):
        regenerate(source, target)
    assert target.read_text() == "as it was"


def test_the_script_ends_with_code_2_and_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path / "absent.csv")]) == 2
    assert "absent.csv cannot be read" in capsys.readouterr().err
    before = PACKAGE.read_bytes()
    assert main([str(PACKAGE)]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert PACKAGE.read_bytes() == before


def test_claims_are_read_without_torch():
    code = "import sys; from harness.claims import claims; assert claims(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )

    assert not {"torch", "numpy", "sqlalchemy"} & set(loaded.stdout.split())


def test_a_file_of_other_columns_is_refused_with_those_that_it_must_have():
    with pytest.raises(HarnessError, match="must be source, table, dataset"):
        parse("a,b\n1,2\n")
