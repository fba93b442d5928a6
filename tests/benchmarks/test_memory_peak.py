"""The memory that an evaluation takes, measured on a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import memory
from benchmarks.memory import LIMIT, peak_of
from harness.cli import harness
from harness.errors import HarnessError

TINY = (
    *("train", "standard", "--dataset", "digits", "--name", "tiny", "--epochs", "1"),
    *("--set", "width=2", "-q"),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HARNESS_CHECKPOINTS", raising=False)
        db = tmp_path_factory.mktemp("measured") / "tiny.db"
        harness.main([*TINY, "--db", str(db)], prog_name="harness", standalone_mode=False)
    return db


def test_the_peak_is_that_of_the_evaluation_and_leaves_the_database_as_it_was(database):
    before = database.read_bytes()
    peak = peak_of("tiny", database, 20, threads=1)

    assert 100e6 < peak < LIMIT  # PyTorch alone takes hundreds of megabytes
    assert database.read_bytes() == before


def test_an_evaluation_that_fails_is_no_measurement(database):
    with pytest.raises(HarnessError, match="ended with 2"):
        peak_of("nobody", database, 20, threads=1)


@pytest.mark.parametrize(("peak", "code"), [(1.2e9, 0), (1.6e9, 1)])
def test_more_than_the_limit_ends_with_1(monkeypatch, peak, code):
    monkeypatch.setattr(memory, "peak_of", lambda *_: peak)
    found = CliRunner().invoke(memory.main, ["--db", "any.db", "--images", "500"])

    assert found.exit_code == code
    assert f"on 500 images: {peak / 1e9:.2f} GB" in found.output
