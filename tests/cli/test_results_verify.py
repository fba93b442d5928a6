"""`harness results verify`: one thing of each kind is changed in a database, and is named."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.claims import claims
from harness.identity import digest
from harness.standings import boards
from harness.store.bits import decode_columns, encode_columns, unpack
from harness.store.kept import kept_folder
from harness.store.store import Store

Change = Callable[[sqlite3.Connection], object]

_PGD = "(SELECT id FROM outcome WHERE first = 0 AND attack_id = (SELECT id FROM attack "
_PGD += "WHERE name = 'pgd'))"


@pytest.fixture
def tamper(small: Path) -> Callable[[Change], None]:
    """Change a copy of the small database below everything that checks it."""

    def change(edit: Change) -> None:
        with closing(sqlite3.connect(small / "results.db")) as connection:
            edit(connection)
            connection.commit()

    return change


@pytest.fixture
def tamper_stored(stored: Path) -> Callable[[Change], None]:
    """Change a copy of the database with a whole protocol in it."""

    def change(edit: Change) -> None:
        with closing(sqlite3.connect(stored / "results.db")) as connection:
            edit(connection)
            connection.commit()

    return change


def _flip(table: str, column: str, where: str, bit: int = 0) -> Change:
    """Turn one bit of a column of bytes, the highest of the first byte first."""

    def edit(connection: sqlite3.Connection) -> None:
        query = f"SELECT {column} FROM {table} WHERE {where}"  # noqa: S608 - a test's own words
        content = bytearray(connection.execute(query).fetchone()[0])
        content[bit // 8] ^= 0x80 >> (bit % 8)
        statement = f"UPDATE {table} SET {column} = ? WHERE {where}"  # noqa: S608
        connection.execute(statement, (bytes(content),))

    return edit


def _said(statement: str, *values: Any) -> Change:
    return lambda connection: connection.execute(statement, values)


def _pgd(values: str) -> Change:
    """Say something else of pgd's first slice."""
    return _said(f"UPDATE outcome SET {values} WHERE id = {_PGD}")  # noqa: S608


def _column(name: str, value: float) -> Change:
    """Say another number of the first image that pgd broke."""

    def edit(connection: sqlite3.Connection) -> None:
        query = f"SELECT columns, broken FROM outcome WHERE id = {_PGD}"  # noqa: S608
        content, broken = connection.execute(query).fetchone()
        columns = decode_columns(content, 100)
        numbers = list(columns[name])
        numbers[int(unpack(broken, 100).argmax())] = value
        changed = encode_columns(columns | {name: tuple(numbers)})
        connection.execute(f"UPDATE outcome SET columns = ? WHERE id = {_PGD}", (changed,))  # noqa: S608

    return edit


def test_a_sound_database_has_no_problem(small, harness):
    found = harness("results", "verify", "--json")

    assert found.code == 0
    assert found.json() == {"problems": [], "unfinished": []}


def test_what_is_recorded_meanwhile_is_no_problem(small, harness, monkeypatch):
    """Rows and bits are those of one moment, while an evaluation goes on."""

    def meanwhile(store: Store) -> Any:
        found = boards(store)
        with Store.open("results.db") as other:
            outcome = next(one for one in other.outcomes(other.checkpoint("plain").digest))
            spec = replace(outcome.job.attack, attack="bim", surface="logits", loss="ce")
            job = replace(outcome.job, attack=spec, population="correct")
            assert other.record(replace(outcome, job=job, kept=None))
        return found

    monkeypatch.setattr("harness.standings.boards", meanwhile)
    assert harness("results", "verify").code == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_flip("outcome", "broken", f"id = {_PGD}", 103), "bits beyond the last of 100 images"),
        (_flip("outcome", "columns", f"id = {_PGD}", 200), "columns"),
        (_pgd("forwards = forwards + 1"), "forwards are"),
        (_pgd("last = 99"), "bits beyond the last of 99 images"),
        (_column("first_success", -1.0), "is broken, but no pass broke it"),
        (_column("margin_final", 1.0), "but its margin 1"),
        (_said("UPDATE attack SET hash = ? WHERE name = 'pgd'", "0" * 64), "is not what its hash"),
        (_said("UPDATE attack SET loss = 'margin' WHERE name = 'pgd'"), "is not what its hash"),
        (_said("UPDATE function SET digest = ?", "0" * 64), "its digest is not that of its"),
        (_said("UPDATE checkpoint SET settings = '{\"beta\": 5.0}'"), "its digest is not that"),
        (_said("UPDATE checkpoint SET weights_sha256 = 'abc'"), "weights_sha256 is 'abc'"),
        (_said("UPDATE images SET sha256 = ?", "0" * 64), "images of digits: recorded SHA-256"),
        (_said("UPDATE images SET size = 7"), "image 99 of a dataset of 7"),
        (_said("UPDATE outcome SET function_id = 77"), "refers to a function that is not there"),
        (_said("UPDATE checkpoint SET curves = '{'"), "checkpoint 1:"),
        (_said("UPDATE run SET uid = 'x' WHERE id = 1"), "run 1:"),
    ],
    ids=[
        "padding",
        "columns",
        "totals",
        "length",
        "first success",
        "margin",
        "hash",
        "loss",
        "function digest",
        "settings",
        "weights digest",
        "images digest",
        "size",
        "reference",
        "json",
        "run",
    ],
)
def test_what_was_changed_is_named(tamper, harness, change, expected):
    tamper(change)
    found = harness("results", "verify")

    assert found.code == 1, found.err
    assert expected in found.out
    assert "Traceback" not in found.err


@pytest.mark.parametrize("bit", range(4))
@pytest.mark.parametrize("column", ["attacked", "broken"])
@pytest.mark.parametrize("attack", ["none", "pgd"])
def test_any_bit_of_an_outcome_that_is_turned_is_noticed(tamper, harness, attack, column, bit):
    which = "id = (SELECT outcome.id FROM outcome JOIN attack ON attack.id = attack_id "
    which += f"WHERE attack.name = '{attack}' AND first = 0)"
    tamper(_flip("outcome", column, which, bit))

    assert harness("results", "verify").code == 1


def _spared(connection: sqlite3.Connection) -> None:
    """Say of the first image that pgd attacked, without a trace, that it was left alone."""
    query = f"SELECT attacked, broken, columns, forwards, backwards FROM outcome WHERE id = {_PGD}"  # noqa: S608
    attacked, broken, content, *totals = connection.execute(query).fetchone()
    place, columns = int(unpack(attacked, 100).argmax()), decode_columns(content, 100)
    for number, name in enumerate(("forwards", "backwards")):
        totals[number] -= int(columns[name][place]) if name in columns else 0
    left = {
        name: (*values[:place], math.nan, *values[place + 1 :]) for name, values in columns.items()
    }
    bits = []
    for packed in (attacked, broken):
        changed = bytearray(packed)
        changed[place // 8] &= 0xFF ^ (0x80 >> (place % 8))
        bits.append(bytes(changed))
    connection.execute(
        "UPDATE outcome SET attacked = ?, broken = ?, columns = ?, forwards = ?, backwards = ? "  # noqa: S608
        f"WHERE id = {_PGD}",
        (*bits, encode_columns(left), *totals),
    )


def test_a_right_image_that_a_first_stage_left_out_is_named(tamper, harness):
    tamper(_spared)
    found = harness("results", "verify")

    assert found.code == 1
    assert "is right, but was not attacked" in found.out


def test_an_image_that_was_wrong_as_it_is_cannot_have_been_attacked(small, tamper, harness):
    with Store.open(read_only=True) as store:
        outcomes = store.outcomes(store.checkpoint("plain").digest)
    pgd = next(o for o in outcomes if (o.job.attack.attack, o.job.first) == ("pgd", 0))
    index = pgd.attacked.index(False)
    tamper(_flip("outcome", "attacked", f"id = {_PGD}", index))
    found = harness("results", "verify")

    assert found.code == 1
    assert f"image {index} was attacked, but is not right" in found.out


def test_every_problem_is_reported_and_not_only_the_first(tamper, harness):
    tamper(_said("UPDATE attack SET loss = 'margin' WHERE name = 'pgd'"))
    tamper(_said("UPDATE checkpoint SET seed = 'x'"))
    found = harness("results", "verify", "--json").json()["problems"]

    assert any(said.startswith("attack ") for said in found)
    assert any(said.startswith("checkpoint ") for said in found)
    assert sum(said.startswith("outcome ") for said in found) == 2  # both slices of pgd


def test_a_byte_of_the_weights_that_was_changed_is_named(small, harness):
    with Store.open(read_only=True) as store:
        file = small / "checkpoints" / store.checkpoint("plain").weights
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    found = harness("results", "verify")

    assert found.code == 1
    assert "checkpoint plain: its weights" in found.out


def test_a_byte_of_kept_images_that_was_changed_is_named(small, harness):
    file = next(kept_folder(Path("checkpoints")).glob("*.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    assert "their SHA-256 is not their name" in harness("results", "verify").out


def test_a_claim_that_is_not_the_package_s_is_named(small, tamper, harness):
    with Store.open() as store:
        store.add_claims(claims()[:3])
    assert harness("results", "verify").code == 0

    tamper(_said("UPDATE claim SET printed = '99.9' WHERE id = 1"))
    tamper(_said("UPDATE claim SET place = 'another' WHERE id = 2"))
    tamper(_said("UPDATE claim SET unit = 'apples' WHERE id = 3"))
    found = harness("results", "verify")

    assert found.code == 1
    assert "it says 99.9, the package" in found.out
    assert "the package knows no such figure" in found.out
    assert "claim 3: unit is 'apples'" in found.out


def test_findings_failures_measurements_and_plans_are_read_as_a_stranger_s(small, tamper, harness):
    start = "INSERT INTO {} (function_id, images_id, norm, epsilon, {}) VALUES (1, 1, 'linf', '1/5'"
    rows = {
        "finding": (
            "seed, examples, diagnostic, state, value, threshold, proof, note, is_adaptive, "
            "details, created",
            "0, 10, 'D01', 'blue', 1.0, '', '[]', '', 0, '{}', ''",
        ),
        "failure": (
            "attack, first, last, status, message, created",
            "'', 0, 0, 'two words', '', ''",
        ),
        "measurement": (
            'analysis, "on", seed, examples, "values", note, created',
            "'gap', 'clean', 0, 1, '[1]', '', ''",
        ),
        "plan": (
            "seed, precision, protocol, attacks_sha256, attacks",
            "0, 'float32', 'adaptive-2', 'x', '[]'",
        ),
    }
    for table, (names, values) in rows.items():
        tamper(_said(f"{start.format(table, names)}, {values})"))
    found = harness("results", "verify", "--json").json()["problems"]

    assert {said.split(" ")[0] for said in found} >= set(rows)


def test_a_plan_with_attacks_that_nobody_ran_is_unfinished_and_no_problem(stored, harness):
    with closing(sqlite3.connect(stored / "results.db")) as connection:
        attacks = [["a" * 64, "correct"]]
        values = (json.dumps(attacks), digest(attacks))
        connection.execute("UPDATE plan SET attacks = ?, attacks_sha256 = ?", values)
        connection.commit()
    found = harness("results", "verify", "--json").json()

    assert len(found["unfinished"]) > 0
    assert not [said for said in found["problems"] if said.startswith("plan")]


@pytest.mark.parametrize("attacks", ["[1]", "{", "[[2, 3]]"])
def test_a_plan_that_cannot_be_read_is_a_problem(stored, tamper_stored, harness, attacks):
    tamper_stored(_said("UPDATE plan SET attacks = ?", attacks))
    found = harness("results", "verify")

    assert found.code == 1
    assert "plan 1:" in found.out


# Derived numbers and pages


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("harness.standings.row.wilson", "its interval is"),
        ("harness.standings.row.contributions", "robust accuracy is"),
    ],
)
def test_a_number_that_the_bits_do_not_give_is_named(small, harness, monkeypatch, name, expected):
    import harness.standings.row as row

    def wrong_wilson(count, total):
        return count / total, count / total

    def wrong_contributions(right, broken):
        return [right.copy() for _ in broken], [0 for _ in broken]

    wrong = {"wilson": wrong_wilson, "contributions": wrong_contributions}
    monkeypatch.setattr(row, name.rpartition(".")[2], wrong[name.rpartition(".")[2]])
    found = harness("results", "verify")

    assert found.code == 1
    assert expected in found.out


def test_an_adaptive_board_and_its_pages_recompute(stored, harness):
    assert harness("site", "-q").code == 0
    for suffix in ("json", "csv"):
        assert harness("results", "export", f"site/boards.{suffix}", "-q").code == 0
    found = harness("results", "verify", "--site", "site")

    assert (found.code, found.out) == (0, "")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("index.html", "index.html: plain on digits, linf 1/5: robust accuracy"),
        ("boards/*.html", ".html: plain on digits, linf 1/5: robust accuracy"),
        ("boards/*.csv", ".csv: plain on digits, linf 1/5: robust fraction"),
        ("checkpoints/plain.html", "checkpoints/plain.html: robust accuracy under linf 1/5"),
        ("boards.json", "boards.json: plain on digits, linf 1/5: robust fraction"),
        ("boards.csv", "boards.csv: plain on digits, linf 1/5: robust fraction"),
    ],
)
def test_a_number_on_a_page_that_was_changed_is_named(small, harness, file, expected):
    harness("site", "-q")
    for suffix in ("json", "csv"):
        harness("results", "export", f"site/boards.{suffix}", "-q")
    exported = json.loads((small / "site" / "boards.json").read_text())
    (row,) = exported["boards"][0]["standings"]
    share = row["robust"]["fraction"]
    (page,) = (small / "site").glob(file)
    text = page.read_text()
    is_export = not file.endswith("html")
    shown = f"{share}" if is_export else f"{100 * share:.1f}"
    assert shown in text
    page.write_text(text.replace(shown, "0.987" if is_export else "98.7"))

    found = harness("results", "verify", "--site", "site")

    assert found.code == 1
    assert expected in found.out


def test_a_folder_without_a_site_is_refused(small, harness):
    found = harness("results", "verify", "--site", "nothing")

    assert found.code == 2
    assert "build the site with `harness site`" in found.err
