"""Published figures in the store: once each, as printed, merged whole, hostile ones refused."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import fields, replace

import pytest

from harness.claims import claims
from harness.errors import HarnessError
from harness.identity import Claim
from harness.store import schema
from harness.store.store import Store

FIRST, SECOND, *_ = claims()
OTHER = replace(FIRST, source="another", defense="own", dataset="digits", printed="9.0")


def test_the_table_of_claims_has_a_column_for_every_field():
    assert sorted(schema.CLAIM_TEXTS) == sorted(field.name for field in fields(Claim))
    assert set(schema.claim.c.keys()) == {"id", *schema.CLAIM_TEXTS}


def test_every_published_claim_comes_back_as_it_was_and_in_order(store):
    assert store.add_claims(claims()) == 1565
    assert store.claims() == [*claims()]


def test_claims_are_found_by_defense_and_dataset(store):
    store.add_claims(claims())
    wanted = [c for c in claims() if c.defense == "trades_he" and c.dataset == "cifar10_c"]

    assert len(wanted) > 60
    assert store.claims(defense="trades_he", dataset="cifar10_c") == wanted
    assert store.claims(defense="trades_h") == []
    assert {c.dataset for c in store.claims(dataset="imagenet")} == {"imagenet"}


def test_only_what_is_new_is_added_and_what_is_there_stays(store):
    assert store.add_claims([FIRST]) == 1
    assert store.add_claims([replace(FIRST, printed="1.00"), SECOND, SECOND]) == 1
    assert store.claims() == [FIRST, SECOND]
    assert store.add_claims([]) == 0


def test_claims_are_added_all_or_none(store):
    def broken():
        yield FIRST
        raise HarnessError("stop")

    with pytest.raises(HarnessError, match="stop"):
        store.add_claims(broken())
    assert store.claims() == []


def test_claims_need_no_checkpoint_and_stay_when_one_is_removed(store):
    store.add_claims([FIRST])
    store.remove("trades")

    assert store.claims() == [FIRST]


@pytest.fixture
def theirs(tmp_path, new_database):
    path = shutil.copy(new_database, tmp_path / "theirs.db")
    with Store.open(path) as other:
        other.add_claims([FIRST, SECOND, OTHER])
    return path


def test_merging_adds_claims_and_keeps_our_own(store, theirs):
    mine = replace(FIRST, note="read again")
    store.add_claims([mine])

    assert store.merge(theirs).claims == 2
    assert store.claims() == [mine, SECOND, OTHER]
    assert store.merge(theirs).claims == 0


@pytest.mark.parametrize(
    "change",
    [
        *("printed='much'", "printed='1e999'", "printed='nan'", "printed=''", "printed='-1'"),
        *("printed=x'39'", "unit='furlongs'", "spread='wide'", "defense='<b>'", "defense=''"),
        *("source='../x'", "note=x'00'", "note='a' || char(27)", "place='1 2'"),
        *("attack_iterations='forty'", "variant=char(10)", "knowledge='a b'", "norm=x'01'"),
    ],
)
def test_a_hostile_claim_is_refused_and_nothing_is_merged(store, theirs, change):
    with closing(sqlite3.connect(theirs)) as connection, connection:
        connection.execute("UPDATE claim SET " + change + " WHERE id = 3")  # noqa: S608
    with pytest.raises(HarnessError, match="was not merged, nothing was changed"):
        store.merge(theirs)

    assert store.claims() == []
