"""Whatever is wrong is said in one sentence with code 2, and nothing is lost or made."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.store.store import Store

READING = [
    ("list", "checkpoints"),
    ("show", "plain"),
    ("site",),
    ("results", "export", "boards.json"),
    ("eval", "plain"),
    ("eval", "--all"),
    ("remove", "plain"),
]
WRITING = [
    ("train", "standard", "--dataset", "digits", "--epochs", "1"),
    ("results", "merge", "theirs.db"),
]


def _ids(commands: list[tuple[str, ...]]) -> list[str]:
    return [" ".join(command[:2]) for command in commands]


# Names that nothing has


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train trades_ancr --dataset digits", "no defense named 'trades_ancr'. Did you mean"),
        ("train trades --dataset digist", "no dataset named 'digist'. Did you mean 'digits'?"),
        ("train trades --dataset digits --arch resnet81", "Did you mean 'resnet18'?"),
        ("train trades --dataset digits --scale smok", "Did you mean 'smoke'?"),
        ("train trades --dataset digits --set bta=1", "Did you mean 'beta'?"),
        ("train trades --dataset digits --norm linff", "no norm named 'linff'"),
        ("train trades --dataset foldr:x", "Did you mean 'folder'?"),
        ("eval plian", "no checkpoint named 'plian'. Did you mean 'plain'?"),
        ("eval trade", "no checkpoint named 'trade'. Did you mean 'trades'?"),
        ("eval plain --attacks pdg", "no attack named 'pdg'. Did you mean 'pgd'?"),
        ("eval plain --attack pgd(step=3)", "Did you mean 'steps'?"),
        ("eval plain --attack pgd(loss=margn)", "Did you mean 'margin'?"),
        ("eval plain --attack pgd(surface=logit)", "Did you mean 'logits'?"),
        ("eval plain --protocol adaptve", "Did you mean 'adaptive'?"),
        ("eval plain --protocol=", "no protocol named ''"),
        ("eval plain --dataset cifar1", "Did you mean 'cifar10'?"),
        ("eval --all --dataset digist", "Did you mean 'digits'?"),
        ("show plian", "no checkpoint or defense named 'plian'. Did you mean 'plain'?"),
        ("show trade", "no checkpoint or defense named 'trade'. Did you mean 'trades'?"),
        ("remove plian", "no checkpoint named 'plian'. Did you mean 'plain'?"),
        ("data fetch digist", "no dataset named 'digist'. Did you mean 'digits'?"),
    ],
)
def test_an_unknown_name_brings_the_nearest_known_one(stored, harness, line, sentence):
    found = harness(*line.split())

    assert found.code == 2
    assert sentence in found.err
    assert len(found.err.splitlines()) == 1
    assert found.out == ""


# Values that cannot be


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--epsilon 8", "write 8/255, not 8"),
        ("--epsilon 8/0", "divides by zero"),
        ("--epsilon=-1/5", "is no epsilon"),
        ("--epsilon nan", "is no epsilon"),
        ("--epsilon=", "is no epsilon"),
        ("--norm l2", "needs its own --epsilon"),
        ("--norm l2 --epsilon 1 --attack rays", "'rays' is not defined for l2"),
        ("--attacks=", "names no attack"),
        ("--attacks=,", "names no attack"),
        ("--attack=", "is no attack"),
        ("--attack pgd(steps=3", "is no attack"),
        ("--attack pgd(steps)", "write KEY=VALUE"),
        ("--attack pgd(steps=0)", "must lie in"),
        ("--attack pgd(steps=1.5)", "steps takes"),
        ("--attack pgd(steps=1,steps=2)", "given twice"),
        ("--attack pgd(surface=auxiliary(0))", "is not there"),
        ("--attack pgd(surface=label_gate)", "is not there"),
        ("--attack pgd(surface=stripped)", "no stripped twin"),
        ("--attack pgd(surface=weighted(1:1))", "0 auxiliary outputs"),
        ("--attack pgd(surface=weighted(1))", "weighted(0:1:1)"),
        ("--attack pgd(surface=rescaled(10))", "write loss=ce(10)"),
        ("--attack pgd(surface=target_gate)", "needs a targeted attack"),
        ("--attack pgd(loss=ce(0))", "such as ce(10)"),
        ("--attack pgd(eot=0)", "whole number of passes from 1 to 1000"),
        ("--adaptive --protocol standard", "choose one of"),
        ("--adaptive --attacks pgd", "choose one of"),
        ("--data-dir somewhere", "digits needs no files"),
        ("--device cuda", "no CUDA device"),
        ("--examples 0", "not in the range"),
        ("--batch-size 0", "not in the range"),
        ("--workers 0", "not in the range"),
        ("--seed -1", "not in the range"),
        (f"--seed {2**63}", "not in the range"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_any_work(
    stored, harness, monkeypatch, line, sentence
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("harness.campaign.campaign.do", None)
    found = harness("eval", "plain", *line.split(" "))

    assert found.code == 2
    assert sentence in found.err
    assert found.out == ""


# Data that are not there


@pytest.mark.parametrize(
    ("command", "looked_for"),
    [
        ("train trades --dataset cifar10", "cifar-10-batches-py"),
        ("eval plain --dataset fashion_mnist", "images in train/CLASS"),
    ],
)
def test_missing_data_are_told_with_what_was_looked_for_where_and_what_helps(
    stored, harness, tmp_path, command, looked_for
):
    found = harness(*command.split(), "--no-download")

    assert found.code == 2
    assert str(tmp_path / "data") in found.err
    assert looked_for in found.err
    assert "--data-dir" in found.err
    assert "downloads are switched off" in found.err


def test_a_data_folder_that_holds_something_else_is_named(home, harness):
    (home / "empty").mkdir()
    for folder, said in (("nowhere", "there is no nowhere"), ("empty", "images in empty")):
        found = harness("train", "trades", "--dataset", "cifar10", "--data-dir", folder)

        assert found.code == 2
        assert said in found.err


def test_one_data_folder_cannot_serve_two_datasets(stored, harness):
    import dataclasses

    with Store.open() as store:
        other = dataclasses.replace(
            store.checkpoint("plain"), name="other", digest="1" * 64, dataset="cifar10"
        )
        store.add_checkpoint(other)
    found = harness("eval", "--all", "--data-dir", stored)

    assert found.code == 2
    assert "--data-dir fits one dataset" in found.err


# Databases


@pytest.mark.parametrize("command", READING, ids=_ids(READING))
def test_without_a_database_nothing_is_read_and_nothing_made(home, harness, command):
    found = harness(*command)

    assert found.code == 2
    assert "there is no database" in found.err
    assert [*home.iterdir()] == []


@pytest.mark.parametrize("command", READING + WRITING, ids=_ids(READING + WRITING))
def test_a_file_that_is_no_database_is_left_alone(home, harness, command, made_once):
    shutil.copy(made_once / "results.db", home / "theirs.db")
    (home / "results.db").write_text("dear diary")
    found = harness(*command)

    assert found.code == 2
    assert "is no SQLite database" in found.err
    assert (home / "results.db").read_text() == "dear diary"


@pytest.mark.parametrize("command", READING + WRITING, ids=_ids(READING + WRITING))
def test_a_database_of_a_newer_harness_is_left_alone(stored, harness, command):
    shutil.copy(stored / "results.db", stored / "theirs.db")
    with closing(sqlite3.connect(stored / "results.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = (stored / "results.db").read_bytes()
    found = harness(*command)

    assert found.code == 2
    assert "newer" in found.err
    assert (stored / "results.db").read_bytes() == before


@pytest.mark.parametrize(
    "command",
    [("eval", "plain", "--attacks", "fgsm", "--examples", "20", "--workers", "1"), *WRITING],
    ids=["eval", "train", "merge"],
)
def test_a_database_that_somebody_keeps_locked_is_waited_for_and_then_told(
    stored, harness, monkeypatch, command
):
    shutil.copy(stored / "results.db", stored / "theirs.db")
    patient = Store.open.__func__
    monkeypatch.setattr(
        Store, "open", classmethod(lambda cls, *a, **k: patient(cls, *a, **{**k, "timeout": 0.1}))
    )
    with closing(sqlite3.connect(stored / "results.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        found = harness(*command)
        connection.execute("ROLLBACK")

    assert found.code == 2
    assert "kept it locked" in found.err
    assert harness(*command).code == 0


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nowhere/results.db", "does not exist"),
        (".", "is a folder"),
        ("", "is a folder"),
        ("sqlite://", "in memory"),
        ("oracel://x/y", "driver that is not installed"),
        ("://", "is no database"),
    ],
)
def test_a_url_that_leads_nowhere_is_explained(home, harness, url, sentence):
    found = harness("train", "standard", "--dataset", "digits", "--epochs", 1, "--db", url)

    assert found.code == 2
    assert sentence in found.err
    assert [*home.iterdir()] == []


def test_the_option_goes_before_the_environment(stored, harness, monkeypatch):
    monkeypatch.setenv("HARNESS_DB", str(stored / "other.db"))

    assert harness("list", "checkpoints").code == 2
    assert harness("list", "checkpoints", "--db", "results.db").code == 0


# Places that cannot be written


def test_a_place_that_cannot_be_written_is_named(stored, harness):
    Path("file").touch()
    for command in (
        ("site", "--out", "file"),
        ("site", "--out", "file/site"),
        ("results", "export", "file/boards.json"),
        ("demo", "--out", "file"),
        ("eval", "plain", "--adaptive", "--examples", 10, "--bits", "file/bits.npz"),
    ):
        found = harness(*command)

        assert found.code == 2, command
        assert "file" in found.err
        assert Path("file").stat().st_size == 0
