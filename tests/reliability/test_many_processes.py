"""Eight processes on one database: every outcome once, two trainings of one name are refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.store.store import Store
from harness.training.state import only_one

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

ROOT = Path(__file__).parents[2]
SHORT = ("--dataset", "digits", "--epochs", "2", "--set", "width=2")
RECORDS = 100
WRITER = """
import sys
from fractions import Fraction
from harness.identity import AttackSpec, Capabilities, CheckpointRecord, Job, Outcome
from harness.store.store import Store
from harness.threat import ThreatModel

url, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
threat, spec = ThreatModel("linf", Fraction(8, 255)), AttackSpec("pgd", "logits", "ce")
with Store.open(url) as store:
    store.add_checkpoint(CheckpointRecord(
        "net", "d" * 64, "trained", dataset="digits", threat=threat,
        weights="net.safetensors", weights_sha256="e" * 64,
        capabilities=Capabilities(classes=10)))
    run = store.start_run("test", versions={}, device="cpu")
    for first in range(count):
        for own in (seed, 1000):  # one outcome of its own, and one that all of them record
            job = Job("d" * 64, "digits", "f" * 64, threat, spec, "correct", own, "float32",
                      first, first + 1)
            store.record(Outcome(job, (True,), (False,)), run=run)
    store.finish_run(run)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path) -> str:
    """A database that does not exist yet, or is empty."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return str(home / "results.db")


def check_whole(database: str) -> None:
    if "://" not in database:
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_eight_processes_that_make_and_fill_one_database_lose_nothing(database):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, database, str(seed), str(RECORDS)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(8)
    ]
    said = [writer.communicate(timeout=300)[1] for writer in writers]
    assert [(writer.returncode, err) for writer, err in zip(writers, said, strict=True)] == [
        (0, "")
    ] * 8
    with Store.open(database, read_only=True) as store:
        found = [(piece.seed, piece.first) for piece in store.slices()]
        assert sorted(found) == [
            (seed, first) for seed in (*range(8), 1000) for first in range(RECORDS)
        ]
        assert len(store.runs()) == 8
        assert all(run.finished for run in store.runs())
    check_whole(database)


def test_eight_commands_at_once_record_everything_once_while_the_site_is_built(
    database, home, commands
):
    trained = commands(
        do="together",
        folder=home,
        database=database,
        commands=[["train", "standard", *SHORT, "--name", name] for name in ("one", "two")]
        + [["train", "standard", *SHORT, "--seed", "1", "--name", "three"]] * 2,
    )
    assert sorted(one["code"] for one in trained[2:]) in ([0, 2], [0, 0])  # one after the other
    assert [one["code"] for one in trained[:2]] in ([0, 0], [0, 2], [2, 0])

    attacks = ("--examples", "200", "--workers", "1", "--attacks", "fgsm,pgd(steps=2)")
    done = commands(
        do="together",
        folder=home,
        database=database,
        commands=[
            *[["eval", "three", *attacks]] * 3,
            ["eval", "three", *attacks, "--seed", "1"],
            ["train", "standard", *SHORT, "--seed", "2", "--name", "four"],
            ["train", "standard", *SHORT, "--seed", "3", "--name", "five"],
            *[["site", "--out", "site"], ["site", "--out", "again"]],
        ],
    )
    assert [one["code"] for one in done] == [0] * 8, done
    assert not [one for one in (*trained, *done) if "locked" in one["err"] or "Trace" in one["err"]]
    assert (home / "site" / "index.html").exists()
    with Store.open(database, read_only=True) as store:
        assert {"three", "four", "five"} <= {record.name for record in store.checkpoints()}
        found = [(piece.attack, piece.seed, piece.first) for piece in store.slices()]
    assert len(found) == len(set(found)) == 2 * 3 * 2  # seeds, attacks and clean, shards
    check_whole(database)
    assert not [*home.rglob("*unfinished*"), *home.rglob(".*.part")]


def test_of_two_trainings_of_one_name_one_is_refused_and_the_other_is_not_harmed(home, commands):
    folder = home / "checkpoints"
    command = ["train", "standard", *SHORT, "--name", "net"]
    with only_one(folder, "net", "'net'"):
        (refused,) = commands(
            do="together", folder=home, database=home / "results.db", commands=[command]
        )
        assert [*folder.iterdir()] == [folder / "unfinished-net.lock"]
    assert refused["code"] == 2
    assert refused["err"] == (
        "harness: 'net' is being trained by another process: let that finish, or choose another "
        "--name or --seed.\n"
    )
    (done,) = commands(do="together", folder=home, database=home / "results.db", commands=[command])
    assert done["code"] == 0
    assert not [*folder.glob("unfinished*")]


def test_the_lock_of_a_training_ends_with_its_process_however_that_ends(tmp_path):
    held = (
        "import os, sys; from pathlib import Path; from harness.training.state import only_one\n"
        "with only_one(Path(sys.argv[1]), 'net', 'net'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(HarnessError, match="by another process"),
            only_one(tmp_path, "net", "'net'"),
        ):
            pass
        other.kill()
        other.wait()
    assert (tmp_path / "unfinished-net.lock").exists()
    with only_one(tmp_path, "net", "'net'"):
        pass
    assert [*tmp_path.iterdir()] == []
