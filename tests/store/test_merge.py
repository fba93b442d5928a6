from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.identity import CLEAN, EVERY, Plan
from harness.store.store import MergeReport, Store

Make = Callable[..., Any]

DIGEST = "d" * 64
OTHER = "1" * 64


@pytest.fixture
def theirs(
    tmp_path: Path,
    new_database: Path,
    record_of: Make,
    outcome_of: Make,
    plan: Plan,
    failure_of: Make,
) -> Path:
    """What another machine recorded: the same checkpoint and one of its own."""
    path = Path(shutil.copy(new_database, tmp_path / "theirs.db"))
    with Store.open(path) as store:
        store.add_checkpoint(record_of(paper={"title": "TRADES"}, curves={"loss": (1.0, 0.5)}))
        store.add_checkpoint(record_of("their-own", digest=OTHER))
        store.record_dataset("digits", "f" * 64, 100, ["0", "1"])
        run = store.start_run("harness eval", versions={"torch": "2.6"}, device="H200")
        columns = {"loss": (0.5,) * 10}
        said = {"description": "climbs", "source": "arXiv"}
        store.record(outcome_of(columns=columns, seconds=1.5), description=said, run=run)
        store.record(outcome_of(checkpoint=OTHER, seed=3), run=run)
        store.record(outcome_of(attack=CLEAN, population=EVERY, broken=(False,) * 10))
        store.record_plan(plan)
        store.record_failure(failure_of(10, 20))
    return path


def everything(store: Store) -> tuple[object, ...]:
    return (
        store.checkpoints(),
        sorted(store.slices()),
        store.attacks(),
        store.datasets(),
        store.plans(),
        store.failures(),
        store.runs(),
    )


def test_merging_into_an_empty_database_copies_everything(tmp_path: Path, theirs: Path) -> None:
    with Store.open(tmp_path / "new.db") as store, Store.open(theirs, read_only=True) as source:
        report = store.merge(theirs)
        assert everything(store) == everything(source)
        assert store.outcomes(DIGEST) == source.outcomes(DIGEST)
    expected = MergeReport(str(theirs), ["their-own", "trades"], 3, 0, 1, 1)
    assert report == expected


@pytest.mark.parametrize(
    "model", ["/home/them/net.py:load", "a/../../net.py:load", "C:\\them\\net.py:load"]
)
def test_a_model_file_keeps_its_name_and_loses_the_folder_it_stayed_in(
    tmp_path: Path, theirs: Path, model: str
) -> None:
    with closing(sqlite3.connect(theirs)) as connection:
        connection.execute("UPDATE checkpoint SET model=?", (model,))
        connection.commit()
    with Store.open(tmp_path / "empty.db") as store:
        store.merge(theirs)
        assert {record.model for record in store.checkpoints()} == {"net.py:load"}


def test_merging_twice_changes_nothing(store: Store, theirs: Path) -> None:
    store.merge(theirs)
    before = everything(store)
    assert store.merge(theirs) == MergeReport(str(theirs), [], 0, 3, 0, 0)
    assert everything(store) == before


def test_merging_leaves_the_source_and_its_folder_alone(store: Store, theirs: Path) -> None:
    before = theirs.read_bytes()
    names = sorted(file.name for file in theirs.parent.glob("theirs*"))
    store.merge(theirs)
    assert theirs.read_bytes() == before
    assert sorted(file.name for file in theirs.parent.glob("theirs*")) == names


def test_own_words_about_a_checkpoint_stay(store: Store, theirs: Path) -> None:
    store.merge(theirs)
    assert store.checkpoint("trades").paper == {}


def test_a_failure_of_a_job_that_succeeded_here_stays_behind(
    store: Store, theirs: Path, outcome_of: Make
) -> None:
    store.record(outcome_of(10, 20))
    assert store.merge(theirs).failures == 0
    assert store.failures() == []


def test_a_success_there_clears_the_failure_here(
    store: Store, theirs: Path, failure_of: Make
) -> None:
    store.record_failure(failure_of(0, 10))
    store.merge(theirs)
    assert store.failures() == [failure_of(10, 20)]


def test_other_bits_of_the_same_job_are_named_and_nothing_is_merged(
    store: Store, theirs: Path, outcome_of: Make
) -> None:
    store.record(outcome_of(broken=(False,) * 10))
    before = everything(store)
    with pytest.raises(HarnessError, match=r"pgd@logits:ce \(seed 0\).*images 0 to 9.*4 bits"):
        store.merge(theirs)
    assert everything(store) == before


def test_a_name_that_means_another_checkpoint_here_is_named(
    store: Store, theirs: Path, record_of: Make
) -> None:
    store.add_checkpoint(record_of("their-own", digest="2" * 64))
    before = everything(store)
    with pytest.raises(HarnessError, match="nothing was changed: the name 'their-own' is taken"):
        store.merge(theirs)
    assert everything(store) == before


def test_a_database_is_not_merged_into_itself(store: Store, path: Path) -> None:
    with pytest.raises(HarnessError, match="very database"):
        store.merge(path)


def test_a_missing_source_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no database"):
        store.merge(tmp_path / "absent.db")


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE attack SET parameters='[[\"steps\", 1]]'", "hash"),
        ("UPDATE attack SET hash='x' || substr(hash, 2) WHERE name='pgd'", "hash"),
        ("UPDATE attack SET description='{\"description\": 3}'", "description"),
        ("UPDATE attack SET parameters='{' ", "Expecting"),
        ("UPDATE attack SET changed='[3]'", "changed"),
        ("UPDATE outcome SET broken=x'ffff'", "bits beyond the last|not attacked"),
        ("UPDATE outcome SET broken=x'ffc0', attacked=x'7fc0'", "not attacked|every image"),
        ("UPDATE outcome SET attacked=x'ff'", "bytes of bits"),
        ("UPDATE outcome SET attacked='text'", "no bytes"),
        ("UPDATE outcome SET columns=x'02'", "unknown format"),
        ("UPDATE outcome SET columns=x'01ffff'", "damaged"),
        ("UPDATE outcome SET last=10000001", "last"),
        ("UPDATE outcome SET first=95, last=105", "image 104 of a dataset of 100"),
        ("UPDATE outcome SET first='a'", "first"),
        ("UPDATE outcome SET first=20", "no slice"),
        ("UPDATE outcome SET forwards=-1", "forwards"),
        ("UPDATE outcome SET seconds='fast'", "seconds"),
        ("UPDATE outcome SET seconds=9e999", "seconds"),
        ("UPDATE outcome SET epsilon='16/510'", "spelled 8/255"),
        ("UPDATE outcome SET epsilon='1/0'", "nothing was changed"),
        ("UPDATE outcome SET epsilon='-1/255'", "epsilon"),
        ("UPDATE outcome SET norm='l7'", "no norm named 'l7'"),
        ("UPDATE outcome SET runtime='{\"device\": 3}'", "device"),
        ('UPDATE outcome SET runtime=\'{"shell": "rm"}\'', "shell"),
        ("UPDATE outcome SET population=char(27) || '[2J'", "population"),
        ("UPDATE outcome SET created=x'00'", "created"),
        ("UPDATE function SET digest='../' || substr(digest, 4)", "digest"),
        ("UPDATE checkpoint SET name='../../etc' WHERE name='their-own'", "no name"),
        ("UPDATE checkpoint SET name=x'ff' WHERE name='their-own'", "no name"),
        ("UPDATE checkpoint SET weights='/etc/passwd'", "out of its folder"),
        ("UPDATE checkpoint SET weights='a/../../b'", "out of its folder"),
        ("UPDATE checkpoint SET weights_sha256='short'", "weights_sha256"),
        ("UPDATE checkpoint SET capabilities='{\"classes\": true}'", "classes"),
        ('UPDATE checkpoint SET capabilities=\'{"classes": 10, "x": 1}\'', "unexpected keyword"),
        (
            'UPDATE checkpoint SET capabilities=\'{"classes": 10, "hard": "argmax"}\'',
            "hard is no list",
        ),
        ('UPDATE checkpoint SET capabilities=\'{"classes": 10, "hard": [1]}\'', "hard is 1"),
        (
            'UPDATE checkpoint SET capabilities=\'{"classes": 10, "hard": ["a b"]}\'',
            "hard is 'a b'",
        ),
        (
            'UPDATE checkpoint SET capabilities=\'{"classes": 10, "signs": ["<b>"]}\'',
            "signs is '<b>'",
        ),
        (
            'UPDATE checkpoint SET capabilities=\'{"classes": 10, "signs": {"a": 1}}\'',
            "signs is no list",
        ),
        (
            'UPDATE checkpoint SET capabilities=\'{"classes": 10, "signs": null}\'',
            "signs is no list",
        ),
        ('UPDATE checkpoint SET capabilities=\'{"classes": 10, "is_random": 1}\'', "is_random"),
        ('UPDATE checkpoint SET capabilities=\'{"classes": 10, "strip": "yes"}\'', "strip"),
        ("UPDATE checkpoint SET capabilities='{\"classes\": [10]}'", "classes"),
        ("UPDATE checkpoint SET capabilities='[]'", "capabilities is no mapping"),
        (
            'UPDATE checkpoint SET capabilities=\'{"classes": 10, "hard": [\' || '
            "rtrim(replace(hex(zeroblob(51)), '0', '\"a\",'), ',') || ']}'",
            "hard is no list of a sane size",
        ),
        (
            "UPDATE checkpoint SET capabilities="
            '\'{"classes": 10, "hard": ["\' || hex(zeroblob(41)) || \'"]}\'',
            "hard is '000",
        ),
        ('UPDATE checkpoint SET curves=\'{"loss": ["a"]}\'', "loss"),
        ("UPDATE checkpoint SET curves='[' || replace(hex(zeroblob(99999)), '0', '[')", "."),
        ("UPDATE checkpoint SET parameters=1.5", "parameters"),
        ('UPDATE checkpoint SET training=\'{"best_weights": "../../net"}\'', "best_weights"),
        ("UPDATE checkpoint SET training='{\"best_weights\": 0}'", "best_weights"),
        ("UPDATE checkpoint SET settings='{\"beta\": [1]}'", "beta"),
        (
            "UPDATE checkpoint SET training='{\"best_epoch\": 1' || hex(zeroblob(200)) || '}'",
            "best_epoch",
        ),
        ('UPDATE plan SET attacks=\'[["pgd", "correct"]]\'', "attack"),
        ("UPDATE plan SET attacks='[1]'", "attack"),
        ("UPDATE failure SET message=x'00ff'", "message"),
        ("UPDATE failure SET status='<script>'", "status"),
        ("UPDATE images SET size='many'", "size"),
        ("UPDATE images SET sha256='0'", "images"),
        ("UPDATE run SET uid='0'", "run"),
        ("CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM outcome; END", "trigger"),
        ("DROP TABLE run; CREATE VIEW run AS SELECT 1 AS id", "view"),
        ("ALTER TABLE failure DROP COLUMN message", "lacks a column"),
        ("DROP TABLE plan", "lacks a table"),
    ],
)
def test_a_hostile_file_is_refused_whole(
    store: Store, theirs: Path, statement: str, reason: str
) -> None:
    with closing(sqlite3.connect(theirs)) as connection:
        connection.executescript(statement)
        connection.commit()
    before = everything(store)
    with pytest.raises(HarnessError, match=reason) as caught:
        store.merge(theirs)
    assert str(theirs) in str(caught.value)
    assert everything(store) == before


def test_a_torn_file_is_refused(store: Store, theirs: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.db"
    shutil.copy(theirs, torn)
    with torn.open("r+b") as file:
        file.truncate(20_000)
    before = everything(store)
    with pytest.raises(HarnessError, match=r"torn\.db"):
        store.merge(torn)
    assert everything(store) == before
