"""`make screenshots`: pictures of a real site, small enough to be kept, or a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, MISSING
from PIL import Image
from synthetic_boards import record

from harness.identity import Failure
from harness.store.store import Store

SCRIPT = Path(__file__).parents[2] / "docs" / "screenshots.py"


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "results.db"
    one = record()
    with Store.open(path) as store:
        store.add_checkpoint(one)
        why = ("pgd@logits:ce", "non_finite", "logits hold NaN")
        store.record_failure(Failure(one.digest, "digits", "5f" * 32, one.threat, *why))
    return path


def run(*options, **environment):
    return subprocess.run(
        [sys.executable, SCRIPT, *options],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def width_of(file):
    with Image.open(file) as picture:
        return picture.width


def test_every_picture_of_the_readme_is_taken_and_small(database, tmp_path):
    if CHROMIUM is None:
        pytest.skip(MISSING)
    done = run("--db", database, "--out", tmp_path / "images")
    assert done.returncode == 0, done.stderr
    found = {file.name: file for file in (tmp_path / "images").iterdir()}
    readme = (SCRIPT.parents[1] / "README.md").read_text()
    assert {name for name in found if f"docs/images/{name}" in readme} == set(found)
    assert {name: width_of(file) for name, file in found.items()} == {
        "board.png": 1440,
        "checkpoint.png": 1440,
        "phone.png": 390,
        "pictures.png": 1440,
    }
    assert max(file.stat().st_size for file in found.values()) <= 300_000


def test_without_a_browser_a_sentence_says_what_to_install(database, tmp_path):
    done = run("--db", database, "--out", tmp_path / "images", PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (
        1,
        "no chromium: install it, such as apt install chromium\n",
    )
    assert not (tmp_path / "images").exists()
