"""What a store gives to the pages: nothing that others told of a row's images goes stale."""

from __future__ import annotations

import pytest
from synthetic_boards import IMAGES, record

from harness.identity import CLEAN, CORRECT, EVERY, AttackSpec, Job, Outcome
from harness.store.store import Store
from harness.threat import ThreatModel
from leaderboard import addresses
from leaderboard.gathering import gather
from leaderboard.site import build

ATTACK = AttackSpec("pgd", "logits", "ce")


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "x.db") as opened:
        yield opened


def put(store, checkpoint, spec, broken, predicted):
    """Two images: which of them are decided wrongly, and as what."""
    population = EVERY if spec == CLEAN else CORRECT
    threat = ThreatModel("linf", 1)
    where = (checkpoint.digest, "digits", IMAGES, threat, spec, population, 0, "float32", 0, 2)
    store.record(Outcome(Job(*where), (True, True), broken, {"predicted": predicted}))


def add(store, name, *, is_right):
    """A checkpoint that is right on the first image of two, or on both."""
    checkpoint = record(name, digest=name.encode().hex().ljust(64, "0"))
    store.add_checkpoint(checkpoint)
    put(store, checkpoint, CLEAN, (False, not is_right), (3.0, 7.0 if is_right else 5.0))
    put(store, checkpoint, ATTACK, (False, False), (3.0, 7.0))
    return checkpoint


def test_a_class_that_another_checkpoint_tells_later_reaches_the_page(store, tmp_path):
    page = addresses.checkpoint_page(add(store, "first", is_right=False))
    build(gather(store), tmp_path / "site")
    before = (tmp_path / "site" / page).read_text("utf-8")
    assert "1 image left out" in before
    add(store, "second", is_right=True)
    build(gather(store), tmp_path / "site")
    after = (tmp_path / "site" / page).read_text("utf-8")
    assert "left out" not in after
    build(gather(store), tmp_path / "empty")
    assert after == (tmp_path / "empty" / page).read_text("utf-8")


def test_a_checkpoint_that_tells_nothing_new_leaves_the_others_alone(store, tmp_path):
    page = addresses.checkpoint_page(add(store, "first", is_right=True))
    build(gather(store), tmp_path / "site")
    before = (tmp_path / "site" / page).stat().st_ino
    add(store, "second", is_right=True)
    build(gather(store), tmp_path / "site")
    assert (tmp_path / "site" / page).stat().st_ino == before
