"""`harness results compare`: what it says, stores and refuses."""

import json
import shutil

import pytest
from click.testing import CliRunner

from harness.cli import harness
from harness.errors import HarnessError
from harness.store.store import Store


@pytest.fixture
def ours(tmp_path):
    from fractions import Fraction

    from harness.identity import (
        CLEAN,
        CORRECT,
        EVERY,
        AttackSpec,
        Capabilities,
        CheckpointRecord,
        Job,
        Outcome,
        Plan,
    )
    from harness.threat import ThreatModel

    path, threat, spec = tmp_path / "ours.db", ThreatModel("linf", Fraction(1, 5)), "a" * 64
    pgd = AttackSpec("pgd", "logits", "ce")
    with Store.open(path) as store:
        store.add_checkpoint(
            CheckpointRecord(
                *("one", spec, "trained", "digits", threat, "w", "e" * 64), Capabilities(10)
            )
        )
        run = store.start_run("eval", versions={}, device="cpu")
        for attack, population in ((CLEAN, EVERY), (pgd, CORRECT)):
            job = Job(spec, "digits", "f" * 64, threat, attack, population, 0, "float32", 0, 4)
            store.record(Outcome(job, (True,) * 4, (False,) * 4), run=run)
        members = ((pgd.hash, CORRECT),)
        store.record_plan(
            Plan(spec, "digits", "f" * 64, threat, 0, "float32", "adaptive-2", members)
        )
    return path


def called(*arguments):
    return CliRunner().invoke(harness, ["results", "compare", *map(str, arguments)])


def test_a_copy_is_told_apart_and_the_finding_is_stored(ours, tmp_path):
    copy = shutil.copy(ours, tmp_path / "copy.db")
    result = called(copy, "--db", ours)
    assert result.exit_code == 0
    assert "one: does not count: the two databases share 1 runs" in result.output
    with Store.open(ours) as store:
        (finding,) = store.findings()
    assert (finding.diagnostic, finding.state) == ("E4", "red")


def test_json_gives_the_numbers(ours, tmp_path):
    copy = shutil.copy(ours, tmp_path / "copy.db")
    (found,) = json.loads(called(copy, "--db", ours, "--json").output)
    assert found["agreement"] == 1.0
    assert found["shared_runs"] == 1
    assert found["is_enough"] is False


def test_what_is_not_there_or_has_nothing_in_common_is_refused(ours, tmp_path):
    with pytest.raises(HarnessError, match="there is no file"):
        raise called(tmp_path / "none.db", "--db", ours).exception
    Store.open(tmp_path / "empty.db").close()
    with pytest.raises(HarnessError, match="nothing to compare"):
        raise called(tmp_path / "empty.db", "--db", ours).exception
