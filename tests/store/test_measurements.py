"""Measurements of analyses: a round trip, the latest wins, merged whole, hostile ones refused."""

import math
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import pytest

from harness.errors import HarnessError
from harness.identity import Measurement
from harness.store.store import Store
from harness.threat import ThreatModel

DIGEST, IMAGES = "d" * 64, "f" * 64
THREAT = ThreatModel("linf", Fraction(8, 255))
MEASURED = Measurement(
    checkpoint=DIGEST,
    dataset="digits",
    images=IMAGES,
    threat=THREAT,
    seed=0,
    examples=100,
    analysis="relationship_score",
    on="pgd(steps=20)@logits:ce",
    values={"score": (0.8754, math.inf, -1.0), "per class": ()},
    note="5 neighbours",
    created="2026-11-20T00:00:00+00:00",
)
CLEAN = replace(MEASURED, on="clean")


def test_a_measurement_comes_back_as_it_was(store):
    assert store.record_measurement(MEASURED)
    assert store.measurements() == [MEASURED]
    assert store.measurements(DIGEST, images=IMAGES, threat=THREAT) == [MEASURED]


def test_numbers_come_back_bit_for_bit_nan_included(store):
    odd = (0.1 + 0.2, 5e-324, math.nan, -0.0)
    store.record_measurement(replace(MEASURED, values={"odd": odd}))

    (found,) = store.measurements()
    assert list(map(repr, found.values["odd"])) == list(map(repr, odd))


@pytest.mark.parametrize(
    ("first", "more"),
    [
        ("0" * 64, {}),
        (None, {"images": "0" * 64}),
        (None, {"threat": ThreatModel("l2", Fraction(8, 255))}),
        (None, {"analysis": "margins"}),
    ],
)
def test_a_measurement_of_something_else_is_not_found(store, first, more):
    store.record_measurement(MEASURED)

    assert store.measurements(first, **more) == []
    assert store.measurements(analysis="relationship_score") == [MEASURED]


def test_a_later_measurement_takes_the_place_of_the_same_analysis_of_the_same_images_only(store):
    store.record_measurement(MEASURED)
    later = replace(MEASURED, values={"score": (0.5,)}, seed=1, examples=200, note="")
    others = [
        CLEAN,
        replace(MEASURED, analysis="margins"),
        replace(MEASURED, threat=ThreatModel("l2", Fraction(1, 2))),
        replace(MEASURED, images="1" * 64),
    ]

    assert not store.record_measurement(later)
    assert all(store.record_measurement(one) for one in others)
    assert store.measurements() == [later, *others]


def test_a_measurement_without_a_date_is_dated(store):
    store.record_measurement(replace(MEASURED, created=""))

    assert store.measurements()[0].created


def test_a_measurement_goes_with_the_last_name_of_its_function(store, record_of):
    store.add_checkpoint(record_of("twin"))
    store.record_measurement(MEASURED)
    store.remove("trades")
    assert store.measurements() == [MEASURED]
    store.remove("twin")
    assert store.measurements() == []


def test_a_measurement_of_an_unknown_checkpoint_is_refused(store):
    with pytest.raises(HarnessError, match="no checkpoint with digest"):
        store.record_measurement(replace(MEASURED, checkpoint="0" * 64))


@pytest.fixture
def theirs(tmp_path, new_database, record_of):
    path = shutil.copy(new_database, tmp_path / "theirs.db")
    with Store.open(path) as other:
        other.add_checkpoint(record_of())
        other.record_measurement(MEASURED)
        other.record_measurement(CLEAN)
    return path


def test_merging_adds_measurements_and_keeps_our_own(store, theirs):
    mine = replace(CLEAN, values={"score": (0.1,)})
    store.record_measurement(mine)

    assert store.merge(theirs).measurements == 1
    assert store.measurements() == [mine, MEASURED]
    assert store.merge(theirs).measurements == 0
    assert store.measurements() == [mine, MEASURED]


@pytest.mark.parametrize(
    "change",
    [
        *("examples=-1", "examples='many'", "seed='zero'", "analysis='a b'", "analysis=''"),
        *("\"on\"=x'00'", "\"on\"='line' || char(7)", "note=x'00'", "created='yesterday'"),
        *("\"values\"='[1]'", "\"values\"='1'", '"values"=\'{"a": ["b"]}\'', "\"values\"='{'"),
        *('"values"=\'{"a": 1}\'', '"values"=\'{"a": [true]}\'', "norm='l7'", "epsilon='16/510'"),
        f'"values"=\'{{"a": [{10**400}]}}\'',
    ],
)
def test_a_hostile_measurement_is_refused_and_nothing_is_merged(store, theirs, change):
    with closing(sqlite3.connect(theirs)) as connection, connection:
        connection.execute("UPDATE measurement SET " + change + " WHERE id = 2")  # noqa: S608
    with pytest.raises(HarnessError, match="was not merged, nothing was changed"):
        store.merge(theirs)

    assert store.measurements() == []
