"""A database written under an older schema keeps all it holds and learns the new tables."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from harness.claims import claims
from harness.errors import HarnessError
from harness.identity import Finding, Measurement
from harness.store import revisions
from harness.store.finished import finish
from harness.store.store import Store

DIGEST, IMAGES = "d" * 64, "f" * 64


def under(revision, tmp_path, monkeypatch):
    """As a harness was that knew the revisions up to this one."""
    folder = tmp_path / "migrations"
    shutil.copytree(revisions.MIGRATIONS, folder)
    for file in (folder / "versions").glob("[0-9]*.py"):
        if file.name[:4] > revision:
            file.unlink()
    monkeypatch.setattr(revisions, "MIGRATIONS", folder)
    monkeypatch.setattr(revisions, "HEAD", revision)


@pytest.fixture
def of_0002(tmp_path, path, record_of, outcome_of, plan, failure_of):
    """A database of schema 0002 and everything that was in it."""
    with pytest.MonkeyPatch.context() as patch:
        under("0002", tmp_path, patch)
        with Store.open(path) as store:
            store.add_checkpoint(record_of())
            store.record_dataset("digits", IMAGES, 100, ["0", "1"])
            run = store.start_run("harness eval", versions={"torch": "2.6"}, device="cpu")
            store.record(outcome_of(columns={"loss": (0.5,) * 10}), run=run)
            store.record_plan(plan)
            store.record_failure(failure_of(10, 20))
            threat = plan.threat
            finding = Finding(DIGEST, "digits", IMAGES, threat, 0, 9, "D01", "red", 0.5, "red: 1")
            store.record_finding(finding)
            return everything(store)


def tables(path):
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in found}


def everything(store):
    return (
        store.checkpoints(),
        store.outcomes(DIGEST),
        store.attacks(),
        store.datasets(),
        store.plans(),
        store.failures(),
        store.findings(),
        store.runs(),
    )


def test_a_database_of_schema_0002_keeps_everything_and_takes_claims_and_measurements(
    of_0002, path, plan
):
    with pytest.raises(HarnessError, match="schema 0002, not"):
        Store.open(path, read_only=True)
    measured = Measurement(DIGEST, "digits", IMAGES, plan.threat, 0, 9, "margins", "clean")
    with Store.open(path) as store:
        assert everything(store) == of_0002
        assert (store.claims(), store.measurements()) == ([], [])
        assert store.add_claims(claims()[:3]) == 3
        assert store.record_measurement(measured)
        store.remove("trades")
        assert store.measurements() == []
    assert tables(path) - tables(path.with_name("results.db.schema-0002")) == {
        "claim",
        "measurement",
    }


def test_a_database_of_schema_0002_is_not_merged_before_its_own_machine_updated_it(
    of_0002, path, tmp_path, new_database
):
    ours = shutil.copy(new_database, tmp_path / "ours.db")
    with Store.open(ours) as store, pytest.raises(HarnessError, match="schema 0002"):
        store.merge(path)


def test_a_finished_database_of_an_older_schema_sends_nobody_to_a_command_that_cannot_help(
    of_0002, path, tmp_path
):
    finish(path, tmp_path / "finished.db")
    before = (tmp_path / "finished.db").read_bytes()
    with pytest.raises(HarnessError, match=r"finished database .* has schema 0002") as refused:
        Store.open(tmp_path / "finished.db", create=False, read_only=True)

    assert "harness eval" not in str(refused.value)
    assert (tmp_path / "finished.db").read_bytes() == before
