"""`kill -9` at any moment, then the same command again: the same bits, and nothing is left over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

ATTACKS = "fgsm,pgd(steps=5),apgd_ce(steps=5),square(queries=10)"
CAMPAIGN = [
    f"{command} {name} {rest}".split()
    for name, seed in (("first", 1), ("second", 2))
    for command, rest in (
        (
            "train standard --dataset digits --epochs 8 --set width=2 --name",
            f"--seed {seed}",
        ),
        ("eval", f"--examples 500 --workers 2 --attacks {ATTACKS}"),
    )
]
OUTCOMES = 2 * 5 * 5
"""Checkpoints, attacks with the clean images, shards."""
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
    done = commands(do="killed", folder=tmp_path, commands=CAMPAIGN, kills=kills, seed=kills)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    outcomes, checkpoints = found(killed)

    assert done["kills"] == kills
    assert sum(has_state for has_state, _ in done["met"]) >= kills // 10, "training was hit"
    halfway = [number for _, number in done["met"] if number % (OUTCOMES // 2)]
    assert len(halfway) >= kills // 10, "evaluations were hit, and went on"
    assert (outcomes, checkpoints) == found(undisturbed)
    assert len(outcomes) == OUTCOMES
    assert len({row[:10] for row in outcomes}) == OUTCOMES, "a job is stored twice"
    assert not [name for name in files(killed) if "unfinished" in name or "/." in f"/{name}"]
    assert not [*killed.glob("results.db-*")]
