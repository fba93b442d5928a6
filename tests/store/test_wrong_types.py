"""A database that is opened directly, with values in it that no harness wrote: one sentence."""

import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from small_galleries import ATTACKED, GALLERY
from sqlalchemy import LargeBinary, Text

from harness.errors import HarnessError
from harness.store import rows, schema
from harness.store.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))
from hostile_database import CORRECT, DIGEST, IMAGES, PGD, THREAT, _fill

JSON = (
    '"x"',
    "3",
    "null",
    "{",
    "",
    b"\xff",
    7,
    "[" * 5000,
    '{"a": [null]}',
    '[["a"]]',
    "[[[],{}]]",
)
READERS = {
    "function": ("checkpoints",),
    "images": ("datasets", "slices"),
    "outcome": ("slices", "outcomes"),
    "attack": ("attacks",),
    "checkpoint": ("checkpoints",),
    "plan": ("plans",),
    "failure": ("failures",),
    "finding": ("findings",),
    "measurement": ("measurements",),
    "gallery": ("gallery",),
    "adversarial": ("adversarial",),
    "claim": ("claims",),
    "run": ("runs",),
}


def wrong_values(column):
    """Values that SQLite keeps in a column, though they are of another type."""
    if isinstance(column.type, schema.Json):
        return JSON
    if isinstance(column.type, Text):
        return (b"\xff\x00",)  # numbers become text there by themselves
    if isinstance(column.type, LargeBinary):
        return ("text", 5, -3)
    return ("x", b"\x00")


UNREAD = {("outcome", "run_id"), ("outcome", "created")}
"""No value is made of these."""

PLACES = [
    (table.name, column.name, value)
    for table in schema.metadata.sorted_tables
    for column in table.columns
    if not (column.primary_key or column.foreign_keys)
    for value in wrong_values(column)
    if (table.name, column.name) not in UNREAD
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "results.db"
    with Store.open(path) as store:
        _fill(store)
        store.record_gallery(replace(GALLERY, images=IMAGES))
        store.record_adversarial(replace(ATTACKED, checkpoint=DIGEST, images=IMAGES, threat=THREAT))
    return path.read_bytes()


@pytest.fixture
def path(whole, tmp_path):
    found = tmp_path / "results.db"
    found.write_bytes(whole)
    return found


def overwrite(path, table, column, value):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f'UPDATE "{table}" SET "{column}" = ?', (value,))  # noqa: S608
        connection.commit()


def read(store, method):
    asked = {"outcomes": (DIGEST,), "gallery": ("digits", IMAGES)}
    found = getattr(store, method)(*asked.get(method, ()))
    return [found] if method == "gallery" else list(found)


@pytest.mark.parametrize(
    ("table", "column", "value"), PLACES, ids=[f"{t}-{c}-{v!s:.12}" for t, c, v in PLACES]
)
def test_a_value_of_another_type_is_a_sentence_that_names_file_and_table(
    path, table, column, value
):
    try:
        overwrite(path, table, column, value)
    except sqlite3.IntegrityError:
        pytest.skip("two rows cannot both have it")
    with Store.open(path, read_only=True) as store:
        said = []
        for method in READERS[table]:
            try:
                read(store, method)
            except HarnessError as error:
                said.append(str(error))
    if not said:  # a word is searched for, so that rows with another one are not found at all
        assert (table, column) in {("function", "digest"), ("images", "sha256")}
        return
    for sentence in said:
        assert str(path) in sentence
        assert "harness results verify" in sentence
        assert "of its table '" in sentence


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("outcome", "first", -1),
        ("outcome", "last", 2**62),
        ("outcome", "last", 0),
        ("outcome", "attacked", b""),
        ("outcome", "broken", b"\xff\xff"),
        ("outcome", "attacked", 10**12),
        ("outcome", "epsilon", "1e999999999"),
        ("outcome", "epsilon", "1/0"),
        ("outcome", "norm", "l7"),
        ("images", "size", -1),
        ("images", "size", 2**62),
        ("checkpoint", "curves", '{"loss": [' + "9" * 400 + "]}"),
        ("checkpoint", "capabilities", '{"classes": 10, "more": 1}'),
        ("checkpoint", "epsilon", "0.5e99999999"),
        ("gallery", "indices", "[0, 0, 0]"),
        ("gallery", "shape", "[10000000, 10000000, 10000000]"),
        ("gallery", "pixels", b"\x00" * 10**7),
        ("adversarial", "predicted", "[" + "9" * 400 + "]"),
        ("adversarial", "indices", "[" + "1," * 10**6 + "1]"),
        ("adversarial", "epsilon", "1/0"),
    ],
)
def test_a_value_that_cannot_be_is_a_sentence_at_once(path, table, column, value):
    overwrite(path, table, column, value)
    started = time.monotonic()
    with Store.open(path, read_only=True) as store:
        for method in READERS[table]:
            if (table, method) != ("images", "slices"):
                with pytest.raises(HarnessError, match=f"table '{table}' cannot be read"):
                    read(store, method)
    assert time.monotonic() - started < 2


def test_what_covers_images_is_checked_too(path):
    overwrite(path, "outcome", "first", "x")
    board = {"dataset": "digits", "images": IMAGES, "threat": THREAT}
    job = {"attack": PGD.hash, "population": CORRECT, "seed": 0, "precision": "float32"}
    with (
        Store.open(path, read_only=True) as store,
        pytest.raises(HarnessError, match="no slice of a test set"),
    ):
        store.covered(checkpoint=DIGEST, **board, **job)


def test_the_sentence_also_ends_a_snapshot(path):
    overwrite(path, "plan", "attacks", "[1]")
    with (
        Store.open(path, read_only=True) as store,
        pytest.raises(HarnessError, match="table 'plan'"),
        store.snapshot(),
    ):
        store.plans()


def test_a_mistake_of_whoever_reads_is_not_taken_for_a_wrong_row(path):
    with Store.open(path, read_only=True) as store:
        pieces = store.slices()
        assert next(pieces).first == 0
        with pytest.raises(KeyError), store.snapshot():
            _ = {}["a bug"]


def test_what_is_stored_is_read_as_it_was(path):
    with Store.open(path, read_only=True) as store:
        for methods in READERS.values():
            for method in methods:
                assert read(store, method)


def test_every_column_of_json_has_a_shape():
    kinds = {
        column.name
        for table in schema.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, schema.Json)
    }
    assert kinds == set(rows._JSON)
