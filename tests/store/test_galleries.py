"""Pictures: a round trip, the latest wins, merged whole, hostile ones refused at no cost."""

from __future__ import annotations

import math
import shutil
import sqlite3
import tracemalloc
import zlib
from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_galleries import ATTACKED, DIGEST, GALLERY, IMAGES, THREAT

from harness.errors import HarnessError
from harness.identity import PICTURES
from harness.store import galleries, untrusted
from harness.store.finished import finish
from harness.store.store import Store
from harness.threat import CORRUPTION, ThreatModel


@pytest.fixture
def full(store):
    """A store with pictures of both kinds."""
    store.record_dataset("digits", IMAGES, 100, ["0", "1"])
    store.record_gallery(GALLERY)
    store.record_adversarial(ATTACKED)
    return store


@pytest.fixture
def theirs(tmp_path, new_database, record_of):
    path = shutil.copy(new_database, tmp_path / "theirs.db")
    with Store.open(path) as other:
        other.add_checkpoint(record_of())
        other.record_gallery(GALLERY)
        other.record_adversarial(ATTACKED)
    return path


def overwrite(path, change, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE " + change, values)


def test_pictures_come_back_as_they_were(store):
    assert store.record_gallery(GALLERY)
    assert store.record_adversarial(ATTACKED)
    assert store.gallery("digits", IMAGES) == GALLERY
    assert store.adversarial() == [ATTACKED]
    assert store.adversarial(DIGEST, images=IMAGES, threat=THREAT) == [ATTACKED]


def test_pictures_of_something_else_are_not_found(full):
    assert full.gallery("mnist", IMAGES) is None
    assert full.gallery("digits", "0" * 64) is None
    assert full.adversarial("0" * 64) == []
    assert full.adversarial(images="0" * 64) == []
    assert full.adversarial(threat=ThreatModel("l2", Fraction(8, 255))) == []


def test_later_pictures_take_the_place_of_those_of_the_same_threat_only(full):
    other = replace(ATTACKED, threat=ThreatModel("l2", Fraction(1, 2)))
    later = replace(ATTACKED, attack="fgsm@logits:ce", seed=1, broken=(True, True, False))

    assert full.record_adversarial(other)
    assert not full.record_adversarial(later)
    assert full.adversarial() == [other, later]
    assert not full.record_gallery(GALLERY)
    assert full.gallery("digits", IMAGES) == GALLERY


def test_pictures_without_a_date_are_dated(store):
    store.record_adversarial(replace(ATTACKED, created=""))

    assert store.adversarial()[0].created


@pytest.mark.parametrize(
    "change",
    [
        {"indices": (0, 2, 1)},
        {"indices": (0, 1, 1)},
        {"indices": ()},
        {"broken": (True,)},
        {"predicted": (1, 1, 1, 1)},
        {"shape": (1, 2, 3)},
        {"shape": (0, 2, 2)},
        {"shape": (1, 2**20, 2**20)},
        {"pixels": b"\0" * 11},
        {"threat": ThreatModel(CORRUPTION, Fraction(3))},
    ],
)
def test_pictures_that_contradict_themselves_are_a_bug(store, change):
    with pytest.raises(ValueError, match=r"indices|holds|shape|bytes|no adversarial"):
        store.record_adversarial(replace(ATTACKED, **change))

    assert store.adversarial() == []


def test_more_pictures_than_there_can_be_are_refused(store):
    count = PICTURES + 1
    more = {"indices": tuple(range(count)), "labels": (0,) * count, "pixels": b"\0" * 4 * count}

    with pytest.raises(ValueError, match="1 to 24, ascending"):
        store.record_gallery(replace(GALLERY, **more))


def test_adversarial_pictures_go_with_the_last_name_of_their_function(full, record_of):
    full.add_checkpoint(record_of("twin"))
    full.remove("trades")
    assert full.adversarial() == [ATTACKED]
    full.remove("twin")
    assert full.adversarial() == []
    assert full.gallery("digits", IMAGES) == GALLERY  # they are of the dataset


def test_adversarial_pictures_of_an_unknown_checkpoint_are_refused(store):
    with pytest.raises(HarnessError, match="no checkpoint with digest"):
        store.record_adversarial(replace(ATTACKED, checkpoint="0" * 64))


def test_a_finished_file_keeps_pictures(full, tmp_path):
    finish(full.path, tmp_path / "finished.db")

    with Store.open(tmp_path / "finished.db", create=False, read_only=True) as finished:
        assert finished.gallery("digits", IMAGES) == GALLERY
        assert finished.adversarial(DIGEST) == [ATTACKED]


def test_merging_adds_pictures_and_keeps_our_own(store, theirs):
    report = store.merge(theirs)
    assert (report.galleries, report.adversarial) == (1, 1)
    assert (store.gallery("digits", IMAGES), store.adversarial()) == (GALLERY, [ATTACKED])

    mine = replace(ATTACKED, attack="fgsm@logits:ce")
    store.record_adversarial(mine)
    report = store.merge(theirs)
    assert (report.galleries, report.adversarial) == (0, 0)
    assert store.adversarial() == [mine]


@pytest.mark.parametrize(
    "change",
    [{"pixels": bytes(12)}, {"labels": (1, 1, 1)}, {"shape": (1, 4, 1)}],
)
def test_the_same_images_that_look_different_elsewhere_are_not_merged(store, theirs, change):
    mine = replace(GALLERY, **change)
    store.record_gallery(mine)

    with pytest.raises(HarnessError, match=r"nothing was changed: its pictures .* others than"):
        store.merge(theirs)
    assert store.gallery("digits", IMAGES) == mine
    assert store.adversarial() == []


def test_fewer_pictures_of_the_same_images_agree(store, theirs):
    fewer = replace(GALLERY, indices=(1,), labels=(0,), pixels=GALLERY.pixels[4:8])
    store.record_gallery(fewer)

    assert store.merge(theirs).galleries == 0
    assert store.gallery("digits", IMAGES) == fewer


@pytest.mark.parametrize(
    "change",
    [
        *("gallery SET indices='[0,1]'", "gallery SET indices='[2,1,0]'"),
        *("gallery SET labels='[0,1,-1]'", "gallery SET labels='[0,1,\"x\"]'"),
        *("gallery SET shape='[1,2]'", "gallery SET shape='[1,2,2,1]'"),
        *("gallery SET shape='[0,2,2]'", "gallery SET shape='[1000,1000,1000]'"),
        *("gallery SET pixels='text'", "gallery SET pixels=x'00'", "gallery SET pixels=3"),
        *("gallery SET pixels=zeroblob(100000)", "gallery SET shape='[1,1,2]'"),
        *("adversarial SET attack='a' || char(7)", "adversarial SET created='yesterday'"),
        *("adversarial SET seed='zero'", "adversarial SET broken='[0,1,2]'"),
        *("adversarial SET broken='[0,1]'", "adversarial SET predicted='[0,0,-2]'"),
        *("adversarial SET predicted='[0,0,-1.0]'", "adversarial SET indices='[true,1,2]'"),
        *("adversarial SET epsilon='16/510'", "adversarial SET norm='l7'"),
        *("adversarial SET norm='corruption', epsilon='3'", "adversarial SET pixels=x'789c'"),
        *("adversarial SET indices='[0,1,10000001]'", "adversarial SET shape='[1,2,3]'"),
    ],
)
def test_hostile_pictures_are_refused_and_nothing_is_merged(store, theirs, change):
    overwrite(theirs, change)
    with pytest.raises(HarnessError, match="was not merged, nothing was changed"):
        store.merge(theirs)

    assert store.gallery("digits", IMAGES) is None
    assert store.adversarial() == []


def test_pictures_beyond_the_end_of_their_dataset_are_not_merged(store, theirs):
    store.record_dataset("digits", IMAGES, 2, ["0", "1"])

    with pytest.raises(HarnessError, match="image 2 of a dataset of 2"):
        store.merge(theirs)


@pytest.mark.parametrize("table", ["gallery", "adversarial"])
def test_pixels_that_would_unpack_to_more_than_their_shape_are_never_unpacked(full, table):
    bomb = zlib.compress(bytes(50_000_000), 9)
    full.close()
    overwrite(full.path, f"{table} SET pixels=?", bomb)
    overwrite(full.path, f"{table} SET shape='[1,1000,1000]'")
    tracemalloc.start()
    with Store.open(full.path, read_only=True) as store:
        with pytest.raises(HarnessError, match=f"'{table}' cannot be read: its pixels are not"):
            store.gallery("digits", IMAGES) if table == "gallery" else store.adversarial()
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 15_000_000  # three images of a million bytes, and what the reading takes


def test_the_same_pictures_are_the_same_bytes():
    assert galleries.adversarial_row(ATTACKED) == galleries.adversarial_row(ATTACKED)
    assert galleries.gallery_row(GALLERY)["pixels"] == zlib.compress(GALLERY.pixels, 9)


def picture_problems(store):
    """What the store says of pictures; its one checkpoint has problems of its own."""
    return [one for one in store.problems() if not one.startswith("checkpoint ")]


def test_true_pictures_are_no_problem(full):
    assert picture_problems(full) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"predicted": (1, 0, 0)}, "image 0 is broken, but is decided rightly"),
        (
            {"pixels": bytes([9]) + ATTACKED.pixels[1:]},
            "image 0 is 0.0352941 from the clean one, further than epsilon",
        ),
        ({"indices": (0, 1, 3)}, "of image 3 there is no clean picture"),
        ({"shape": (1, 4, 1)}, "their shape is (1, 4, 1), that of the clean ones (1, 2, 2)"),
        ({"images": "1" * 64}, "the clean pictures beside them are not stored"),
        (
            {"threat": ThreatModel("l2", Fraction(13, 255))},  # three times 8 levels: 13.856
            "image 0 is 0.0543388 from the clean one, further than epsilon",
        ),
    ],
)
def test_pictures_that_contradict_the_clean_ones_are_named(full, change, said):
    where = replace(ATTACKED, **change)
    full.record_adversarial(where)

    (problem,) = picture_problems(full)
    assert problem == f"adversarial pictures ({where.threat}, dddddddddddd): {said}"


def test_unreadable_pictures_are_problems_one_by_one(full):
    full.close()
    overwrite(full.path, "gallery SET pixels=x'00'")
    overwrite(full.path, "adversarial SET broken='[7]'")
    with Store.open(full.path, read_only=True) as store:
        first, second = picture_problems(store)

    assert first.startswith("gallery 1: a row of its table 'gallery' cannot be read: its pixels")
    assert second.startswith("adversarial 1: a row of its table 'adversarial' cannot be read")


NUMBERS = st.one_of(st.integers(-2, 30), st.sampled_from([10**30, 1.0, True, None, "x"]))
VALUES = st.one_of(
    st.lists(NUMBERS, max_size=5),
    st.permutations([0, 1, 2]),
    st.binary(max_size=40),
    st.text(max_size=5),
    NUMBERS,
)


@given(st.dictionaries(st.sampled_from([*galleries.adversarial_row(ATTACKED)]), VALUES, max_size=2))
def test_whatever_a_row_holds_it_is_refused_or_says_the_same_when_stored(changes):
    owner = {"checkpoint": DIGEST, "dataset": "digits", "images": IMAGES}
    try:
        found = untrusted.adversarial(galleries.adversarial_row(ATTACKED) | owner | changes, {})
    except (ValueError, TypeError):
        return

    again = untrusted.adversarial(galleries.adversarial_row(found) | owner, {})
    assert again == found
    assert len(found.pixels) == len(found.indices) * math.prod(found.shape)
