"""`kill -9` at any moment, then the same command again: the same bits, and nothing is left over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

ATTACKS = "fgsm,pgd(steps=40),apgd_ce(steps=40),square(queries=200)"
"""Long enough that most of an evaluation is attacks: kills have to meet it half way."""

TRAIN = "train standard --dataset digits --epochs 12 --set width=2"
OUTCOMES = 5 * 5
"""Of one evaluation: attacks with the clean images, shards."""
KEY = (
    "function.digest, images.sha256, norm, epsilon, attack.hash, population, outcome.seed, "
    "precision, first, last"
)
FOUND = f"""
SELECT {KEY}, attacked, broken, columns, forwards, backwards, queries FROM outcome
JOIN function ON function.id = function_id JOIN images ON images.id = images_id
JOIN attack ON attack.id = attack_id ORDER BY {KEY}
"""  # noqa: S608 - our own words


def found(folder: Path) -> tuple[list[tuple], list[tuple]]:
    """Every outcome with its bits, and every checkpoint with its weights and curves."""
    with closing(sqlite3.connect(folder / "results.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        checkpoints = (
            "SELECT name, weights_sha256, json_remove(curves, '$.seconds') FROM checkpoint"
        )
        return connection.execute(FOUND).fetchall(), connection.execute(checkpoints).fetchall()


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kills", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_no_number_and_leave_nothing(tmp_path, commands, kills):
    runs = kills // 8
    campaign = [
        command.split()
        for seed in range(runs)
        for command in (
            f"{TRAIN} --name run{seed} --seed {seed}",
            f"eval run{seed} --examples 500 --workers 2 --attacks {ATTACKS}",
        )
    ]
    done = commands(do="killed", folder=tmp_path, commands=campaign, kills=kills, seed=kills)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    outcomes, checkpoints = found(killed)

    assert done["kills"] >= kills
    assert all(done["met"]), "each of the commands was met half way"
    assert (outcomes, checkpoints) == found(undisturbed)
    assert len(outcomes) == runs * OUTCOMES
    assert len({row[:10] for row in outcomes}) == len(outcomes), "a job is stored twice"
    assert not [name for name in files(killed) if "unfinished" in name or "/." in f"/{name}"]
    assert not [*killed.glob("results.db-*")]
