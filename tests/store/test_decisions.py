"""One column read without the others, and the decisions of a checkpoint as the store gives them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.identity import CLEAN, EVERY, CheckpointRecord, Outcome
from harness.store.bits import decode_column, decode_columns, encode_columns
from harness.store.store import Store

NUMBERS = st.lists(st.floats(allow_infinity=False), min_size=4, max_size=4)
IMAGES = "f" * 64


@given(st.dictionaries(st.text(max_size=5), NUMBERS, max_size=4), st.text(max_size=5))
def test_a_column_alone_is_the_same_as_among_all(
    columns: dict[str, list[float]], absent: str
) -> None:
    encoded = encode_columns(columns)
    for name, values in decode_columns(encoded, 4).items():
        alone = decode_column(encoded, 4, name)
        assert alone is not None
        assert np.array_equal(alone, values, equal_nan=True)
    if absent not in columns:
        assert decode_column(encoded, 4, absent) is None


@pytest.mark.parametrize("count", [2, 5])
def test_a_column_of_another_length_is_refused(count: int) -> None:
    encoded = encode_columns({"a": (1.0, 2.0), "predicted": (0.1, 0.2)})
    if count == 2:
        encoded = b"\x02" + encoded[1:]
    with pytest.raises(ValueError, match=r"too early|unknown format"):
        decode_column(encoded, count, "predicted")


def test_decisions_are_the_slices_with_what_was_decided(
    store: Store, outcome_of: Callable[..., Outcome]
) -> None:
    nan = float("nan")
    store.record(outcome_of(0, 3, columns={"loss": (0.1, 0.2, 0.3), "predicted": (4.0, nan, 2.0)}))
    store.record(outcome_of(3, 5))
    found = store.decisions("d" * 64)
    assert [one.piece for one in found] == list(store.slices())
    assert found[0].predicted is not None
    assert np.array_equal(found[0].predicted, [4.0, nan, 2.0], equal_nan=True)
    assert found[1].predicted is None
    assert all(one.created.startswith("20") for one in found)
    assert store.decisions("0" * 64) == []


def test_clean_decisions_are_those_of_every_checkpoint_and_of_no_attack(
    store: Store,
    record_of: Callable[..., CheckpointRecord],
    outcome_of: Callable[..., Outcome],
) -> None:
    store.add_checkpoint(record_of("other", digest="a" * 64))
    for digest in ("d" * 64, "a" * 64):
        clean = {"attack": CLEAN, "population": EVERY, "columns": {"predicted": (1.0,) * 10}}
        store.record(outcome_of(checkpoint=digest, **clean))
        store.record(outcome_of(checkpoint=digest))
    found = list(store.clean_decisions("digits", IMAGES))
    assert [one.piece.checkpoint[0] for one in found] == ["d", "a"]
    assert list(store.clean_decisions("other", IMAGES)) == []


def test_damaged_columns_end_as_a_sentence(
    store: Store, path: Path, outcome_of: Callable[..., Outcome]
) -> None:
    store.record(outcome_of(columns={"predicted": (1.0,) * 10}))
    store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE outcome SET columns = x'01aabb'")
    with Store.open(path) as opened, pytest.raises(HarnessError, match="no harness wrote"):
        opened.decisions("d" * 64)
