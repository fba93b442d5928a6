"""`harness train`: names, resuming, what is refused, what is said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from harness import data
from harness.store.store import Store

TINY = ("--dataset", "digits", "--set", "width=4", "--set", "inner_steps=1")
STANDARD = ("train", "standard", *TINY, "--epochs", 1)


def _records() -> dict:
    with Store.open(read_only=True) as store:
        return {record.name: record for record in store.checkpoints()}


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_checkpoint_is_named_after_everything_that_people_ask_for(harness):
    assert harness(*STANDARD, "--seed", 3).code == 0
    assert [*_records()] == ["standard-digits-small_resnet-smoke-s3"]


def test_a_record_holds_what_was_trained_and_how(stored):
    record = _records()["gated"]

    assert (record.defense, record.dataset, record.scale) == ("trades_ancra", "digits", "smoke")
    assert (record.architecture, record.architecture_settings["width"]) == ("small_resnet", 8)
    assert (record.recipe["epochs"], record.recipe["inner_steps"]) == (4, 1)
    assert str(record.threat) == "linf 1/5"
    assert record.capabilities.auxiliary == 2
    assert len(record.curves["loss"]) == 4


def test_weights_lie_beside_the_database_under_their_digest(stored):
    assert {name for name in _files(stored) if not name.startswith("logs/")} == {
        "results.db",
        *(f"checkpoints/{name}" for record in _records().values() for name in record.files),
    }
    assert {record.files[0] for record in _records().values()} == {
        f"{record.weights_sha256}.safetensors" for record in _records().values()
    }
    assert not any(Path(record.weights).is_absolute() for record in _records().values())


def test_weights_lie_where_the_environment_says(harness, home, monkeypatch):
    monkeypatch.setenv("HARNESS_CHECKPOINTS", str(home / "elsewhere"))
    harness(*STANDARD)

    assert len(_files(home / "elsewhere")) == 1
    assert not (home / "checkpoints").exists()


def test_a_moved_folder_still_works(stored, harness, monkeypatch, tmp_path):
    shutil.move(stored / "checkpoints", tmp_path / "checkpoints")
    shutil.move(stored / "results.db", tmp_path / "results.db")
    monkeypatch.setenv("HARNESS_DB", f"sqlite:///{tmp_path}/results.db")
    options = ("--attacks", "fgsm", "--examples", 20, "--workers", 1)

    assert harness("eval", "plain", *options).code == 0


def test_a_finished_identical_run_is_not_repeated(stored, harness, monkeypatch):
    monkeypatch.setattr("harness.training.loop.train", None)
    options = ("--dataset", "digits", "--epochs", 4, "--set", "width=8", "--set", "inner_steps=1")
    found = harness("train", "trades", "--name", "plain", *options)

    assert found.code == 0
    assert "nothing to do" in found.err
    assert found.out == ""


@pytest.mark.parametrize(
    "change", [("--seed", 1), ("--epochs", 3), ("--set", "beta=5"), ("--epsilon", "1/10")]
)
def test_another_recipe_under_a_used_name_is_refused(stored, harness, change):
    options = ("--dataset", "digits", "--epochs", 4, "--set", "width=8", "--set", "inner_steps=1")
    before = _records()
    found = harness("train", "trades", "--name", "plain", *options, *change)

    assert found.code == 2
    assert "taken by another recipe" in found.err
    assert "harness remove plain" in found.err
    assert _records() == before


@pytest.mark.parametrize("name", ["a/b", "../up", "-x", "with space", "é", '"', "a\nb", "x" * 121])
def test_a_name_that_no_file_could_have_is_refused(harness, home, name):
    found = harness(*STANDARD, f"--name={name}")

    assert found.code == 2
    assert "is no name for a checkpoint" in found.err
    assert _files(home) == set()


def test_a_checkpoint_cannot_take_the_name_of_a_defense(harness):
    found = harness(*STANDARD, "--name", "trades")

    assert found.code == 2
    assert "means all its checkpoints" in found.err


def test_settings_of_every_type_are_read(harness):
    settings = {
        "recipe.augment": "false",
        "beta": "2",
        "arch.width": "4",
        "learning_rate": "5e-2",
        "schedule": "drops",
        "drops": "2,3",
        "inner_steps": "1",
    }
    pairs = [word for pair in settings.items() for word in ("--set", "=".join(pair))]
    assert harness("train", "trades", "--dataset", "digits", "--epochs", 1, *pairs).code == 0
    (record,) = _records().values()

    assert record.settings["beta"] == 2.0
    assert isinstance(record.settings["beta"], float)
    assert record.architecture_settings["width"] == 4
    chosen = ("augment", "learning_rate", "schedule", "drops", "inner_steps")
    assert [record.recipe[key] for key in chosen] == [False, 0.05, "drops", "2,3", 1]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("beta", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("beta=", "write KEY=VALUE"),
        ("beta=much", "beta takes"),
        ("beta=nan", "must lie in"),
        ("beta=-1", "must lie in"),
        ("beta=true", "beta takes"),
        (f"beta={'9' * 400}", "too large"),
        (f"epochs={'9' * 5000}", "epochs takes"),
        ("epochs=1.5", "epochs takes"),
        ("augment=perhaps", "augment takes"),
        ("width=0", "between 1 and 1024"),
        ("width=1.5", "of type int"),
        ("batch_size=1", "must lie in"),
        ("schedule=sometimes", "no schedule named"),
        ("drops=a,b", "drops are epochs"),
        ("bta=1", "Did you mean 'beta'?"),
        ("arch.widht=1", "no setting of trades named 'arch.widht'"),
        ("architecture=resnet81", "Did you mean 'resnet18'?"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_trained(
    harness, home, setting, reason
):
    found = harness("train", "trades", "--dataset", "digits", "--set", setting)

    assert found.code == 2
    assert reason in found.err
    assert not [name for name in _files(home) if name.startswith("checkpoints")]


def test_a_setting_given_twice_is_refused(harness):
    found = harness("train", "trades", *TINY, "--set", "beta=1", "--set", "beta=2")

    assert found.code == 2
    assert "given twice" in found.err


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_a_seed_that_no_database_could_hold_is_refused(harness, seed):
    assert harness(*STANDARD, "--seed", seed).code == 2


def test_digits_has_no_full_scale(harness):
    found = harness("train", "standard", "--dataset", "digits", "--scale", "full")

    assert found.code == 2
    assert "--scale smoke or reduced" in found.err


def test_the_threat_model_of_training_is_what_was_asked_for(harness):
    harness("train", "trades", *TINY, "--epochs", 1, "--norm", "l2", "--epsilon", "0.25")
    (record,) = _records().values()

    assert str(record.threat) == "l2 1/4"


@pytest.mark.parametrize(
    ("options", "epsilon"),
    [
        ((), None),
        (("--set", "epsilon=0.031"), 0.031),
        (("--set", "epsilon=0.031", "--epsilon", "0.05"), 0.05),
    ],
)
def test_the_epsilon_of_the_recipe_is_used_unless_another_is_asked_for(harness, options, epsilon):
    assert harness("train", "trades", *TINY, "--epochs", 1, *options).code == 0
    (record,) = _records().values()

    default = data.dataset("digits").threat
    assert float(record.threat.epsilon) == (epsilon or float(default.epsilon))
    assert record.threat.norm == default.norm


def test_full_scale_trains_at_the_epsilon_of_its_paper(harness, monkeypatch):
    asked = []
    estimate = "harness.training.estimate."
    monkeypatch.setattr(estimate + "steps_per_epoch", lambda *_: 391)
    monkeypatch.setattr(
        estimate + "seconds_per_step", lambda request, *_, **__: asked.append(request) or 1.0
    )
    monkeypatch.setattr(data, "load", lambda *_, **__: SimpleNamespace(is_exact=True))
    full = ("--dataset", "cifar10", "--scale", "full", "--dry-run")
    for defense in ("trades_frpat", "trades_ancra"):
        assert harness("train", defense, *full).code == 0
    assert [float(request.threat.epsilon) for request in asked] == [0.031, 8 / 255]


def test_progress_is_plain_lines_where_there_is_no_terminal(harness):
    found = harness("train", "standard", *TINY, "--epochs", 2, "--name", "lines")
    lines = found.err.splitlines()

    assert lines[0] == "lines: 2 epochs of 10 steps"
    assert [line.partition("  loss")[0] for line in lines[1:3]] == [
        "lines: epoch 1/2",
        "lines: epoch 2/2",
    ]
    assert lines[3] == "Next: harness eval lines --adaptive"
    assert "\x1b" not in found.err + found.out
    assert found.out.startswith("lines: ")


def test_quiet_says_nothing(harness):
    assert harness(*STANDARD, "-q") == (0, "", "")


def test_a_dry_run_trains_and_stores_nothing(harness, home):
    found = harness(*STANDARD, "--dry-run")

    assert found.code == 0
    assert "1 epochs of 10 steps" in found.out
    assert "Nothing was trained" in found.out
    assert _files(home) == set()


def test_a_stored_checkpoint_becomes_the_teacher_and_is_recorded(harness):
    harness(*STANDARD, "--name", "clean")
    found = harness("train", "pgd_at_frpat", *TINY, "--epochs", 1, "--teacher", "clean")

    assert found.code == 0, found.err
    records = _records()
    name = "pgd_at_frpat-digits-small_resnet-smoke-s0"
    assert records[name].training["teacher"] == "clean"
    assert records["clean"].training["teacher"] == ""


def test_a_dry_run_with_a_teacher_finds_its_weights(harness):
    harness(*STANDARD, "--name", "clean")
    found = harness("train", "pgd_at_rkd", *TINY, "--teacher", "clean", "--dry-run")

    assert found.code == 0, found.err
    assert "Nothing was trained" in found.out
    assert [*_records()] == ["clean"]


@pytest.mark.parametrize(
    ("defense", "options", "reason"),
    [
        ("pgd_at_frpat", ("--teacher", "claen"), "Did you mean 'clean'?"),
        ("pgd_at_frpat", ("--teacher", "pgd_at_frpat"), "no checkpoint named 'pgd_at_frpat'"),
        ("trades", ("--teacher", "clean"), "has no second network"),
        ("trades", ("--recipe", "F-nwe"), "Did you mean 'F-new'?"),
        ("trades", ("--recipe", "f-main"), "Did you mean 'F-main'?"),
    ],
)
def test_a_teacher_or_recipe_that_cannot_be_is_refused_before_anything_runs(
    harness, monkeypatch, defense, options, reason
):
    harness(*STANDARD, "--name", "clean")
    monkeypatch.setattr(data, "load", None)
    found = harness("train", defense, *TINY, *options)

    assert found.code == 2
    assert reason in found.err
    assert [*_records()] == ["clean"]


def test_a_teacher_whose_weights_are_elsewhere_is_refused_before_anything_runs(
    harness, home, monkeypatch
):
    harness(*STANDARD, "--name", "clean")
    monkeypatch.setattr(data, "load", None)
    monkeypatch.setenv("HARNESS_CHECKPOINTS", str(home / "elsewhere"))
    found = harness("train", "pgd_at_frpat", *TINY, "--teacher", "clean")

    assert found.code == 2
    assert "the weights of 'clean' are not here" in found.err


def test_a_teacher_without_any_database_is_refused_and_none_is_made(harness, home):
    found = harness("train", "pgd_at_frpat", *TINY, "--teacher", "clean")

    assert found.code == 2
    assert _files(home) == set()


def test_digits_have_one_recipe_which_is_recorded(harness):
    refused = harness(*STANDARD, "--recipe", "F-new")
    assert refused.code == 2
    assert "leave out --recipe F-new" in refused.err
    assert harness(*STANDARD, "--name", "own").code == 0
    assert _records()["own"].training["recipe"] == "digits"


def test_another_recipe_of_the_papers_is_used_and_recorded(harness, home):
    pixels = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    for split in ("train", "test"):
        for number, label in enumerate("abab"):
            place = home / "images" / split / label / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels.save(place)
    folder = (
        "train",
        "standard",
        "--dataset",
        f"folder:{home / 'images'}",
        "--arch",
        "small_resnet",
    )
    small = ("--epochs", "1", "--set", "width=2", "--set", "batch_size=2", "--set", "augment=false")
    assert harness(*folder, *small, "--recipe", "F-new", "--name", "new").code == 0
    assert harness(*folder, *small, "--name", "own").code == 0
    recipes = {name: record.training["recipe"] for name, record in _records().items()}
    assert recipes == {"new": "F-new", "own": "F-teacher"}


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_keeps_the_last_good_state(
    harness, home, monkeypatch
):
    from harness.training.loop import Training

    step = Training.step

    def explode(self, epoch, number, order):
        taken = step(self, epoch, number, order)
        if (epoch, number) == (1, 4):
            return taken._replace(loss=taken.loss * float("nan"))
        return taken

    command = ("train", "standard", *TINY, "--epochs", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", explode)
        found = harness(*command)

    assert found.code == 2
    assert "the loss became nan at epoch 2, step 5" in found.err
    assert "learning_rate" in found.err
    assert any("unfinished" in name for name in _files(home))
    assert _records() == {}
    resumed = harness(*command)
    assert "goes on after 10 of 20 steps" in resumed.err
    assert resumed.code == 0
    assert not any("unfinished" in name for name in _files(home))


def test_an_unfinished_run_that_cannot_be_read_says_which_file_to_delete(
    harness, home, monkeypatch
):
    from harness.training.loop import Training

    command = ("train", "standard", *TINY, "--epochs", 2)

    def interrupt(self, epoch, number, order):
        raise KeyboardInterrupt

    step = Training.step
    with monkeypatch.context() as patch:
        patch.setattr(
            Training,
            "step",
            lambda self, epoch, *rest: (interrupt if epoch else step)(self, epoch, *rest),
        )
        assert harness(*command).code == 130
    (state,) = (home / "checkpoints").glob("unfinished-*")
    state.write_bytes(state.read_bytes()[:500])
    found = harness(*command)

    assert found.code == 2
    assert state.name in found.err
    assert "Delete the file" in found.err


def test_other_pixels_than_the_published_ones_are_said_and_recorded(harness, monkeypatch):
    real = data.load
    monkeypatch.setattr(data, "load", lambda *a, **k: replace(real(*a, **k), is_exact=False))
    found = harness("train", "standard", "--dataset", "digits", "--epochs", 1)

    assert found.code == 0
    assert "not the published pixels of digits" in found.err
    (record,) = _records().values()
    assert record.training["exact_images"] == "false"


def test_rows_on_other_pixels_have_a_board_of_their_own(stored, harness, monkeypatch):
    real = data.load
    monkeypatch.setattr(data, "load", lambda *a, **k: replace(real(*a, **k), is_exact=False))
    (row,) = harness(
        "eval", "plain", "--attacks", "fgsm", "--examples", 5, "--workers", 1, "--json"
    ).json()

    assert row["dataset"] == "digits (other pixels)"
