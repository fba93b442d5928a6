"""`harness add`: a model from elsewhere is taken as it is, or a sentence says why not."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from harness.identity import CLEAN
from harness.store.store import Store

QUICK = ("--attacks", "fgsm", "--examples", 10, "--workers", 1)


QUANTISED = """
def quantised():
    model = build()
    model.register_forward_pre_hook(lambda _, given: (given[0].mul(15).round() / 15,))
    return model
"""


class Malicious:
    """Writes a file where somebody unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def _names() -> list[str]:
    with Store.open(read_only=True) as store:
        return [record.name for record in store.checkpoints()]


def test_an_added_model_is_evaluated_unchanged(add, harness):
    assert add("mine").code == 0
    (row,) = harness("eval", "mine", "--adaptive", *QUICK[2:], "--json").json()

    assert (row["name"], row["status"], row["protocol"]) == ("mine", "ok", "adaptive")


def test_adding_says_what_was_seen(add):
    found = add("mine")

    assert found.out == "mine: 650 parameters, 10 classes, 0 auxiliary outputs\n"
    assert "harness eval mine" in found.err


def test_adding_says_what_standard_attacks_would_miss_and_what_answers_it(add, model_file):
    with model_file.open("a") as file:
        file.write(QUANTISED)
    found = add("mine", "quantised")

    assert "without a gradient: round; answered by straight_through(T) (A4, A11)" in found.out
    assert "input_transformation: images are transformed first" in found.out
    assert "the adaptive protocol is compulsory" in found.out


def test_the_path_of_a_model_may_be_relative_and_the_command_run_elsewhere_later(
    harness, model_file, home, monkeypatch
):
    where = ("--model", "models.py:build", "--weights", "weights.pt", "--dataset", "digits")
    assert harness("add", "mine", *where).code == 0
    monkeypatch.chdir(home.parent)

    assert harness("eval", "mine", *QUICK).code == 0


def test_a_model_file_may_import_its_neighbour(harness, model_file, home):
    (home / "my_neighbour.py").write_text("from models import build\n")
    (home / "outer.py").write_text("from my_neighbour import build\n")
    where = ("--model", "outer.py:build", "--weights", "weights.pt", "--dataset", "digits")

    assert harness("add", "mine", *where).code == 0
    assert harness("eval", "mine", *QUICK).code == 0


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "net", "model"])
def test_weights_wrapped_by_a_training_script_fit(add, home, model_file, wrapper):
    state = torch.load(home / "weights.pt")
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({wrapper: wrapped, "epoch": 3}, home / "weights.pt")

    assert add("mine").code == 0


def test_a_malicious_pickle_is_refused_and_not_run(add, home, model_file):
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save({"linear.weight": Malicious(home / "owned")}, home / "weights.pt")
        found = add("mine")

        assert found.code == 2
        assert "was not run" in found.err
    assert not (home / "owned").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: {"linear.weight": state["linear.weight"]}, "1 missing (linear.bias)"),
        (lambda state: {**state, "head.bias": torch.zeros(1)}, "1 unexpected (head.bias)"),
        (lambda state: {**state, "linear.bias": torch.zeros(7)}, "another shape (linear.bias)"),
        (lambda state: torch.zeros(3), "not a state dict"),
        (lambda state: torch.nn.Linear(64, 10), "was not run"),
    ],
)
def test_weights_that_do_not_fit_are_named(add, home, model_file, change, reason):
    torch.save(change(torch.load(home / "weights.pt")), home / "weights.pt")
    found = add("mine")

    assert found.code == 2
    assert reason in found.err
    assert not _names()


@pytest.mark.parametrize("content", [None, b"", b"hello", b"PK\x03\x04 broken", b"\x80\x02 broken"])
def test_a_file_that_holds_no_weights_is_refused(add, home, model_file, content):
    (home / "weights.pt").unlink()
    if content is not None:
        (home / "weights.pt").write_bytes(content)
    found = add("mine")

    assert found.code == 2
    assert "weights.pt" in found.err


def test_a_model_with_another_number_of_classes_is_refused(add, home, model_file):
    state = {"linear.weight": torch.zeros(7, 64), "linear.bias": torch.zeros(7)}
    torch.save(state, home / "weights.pt")
    found = add("mine", "seven")

    assert found.code == 2
    assert "7 classes but the dataset has 10" in found.err


def test_an_added_model_is_not_tested_on_a_dataset_with_other_classes(add, harness):
    add("mine")
    found = harness("eval", "mine", "--dataset", "cifar100", "--no-download")

    assert found.code == 2
    assert "'mine' decides between 10 classes but cifar100 has 100" in found.err


def test_an_added_model_is_not_tested_on_a_dataset_with_other_channels(add, harness):
    add("mine")
    found = harness("eval", "mine", "--dataset", "cifar10", "--no-download")

    assert found.code == 2
    assert (
        "made for digits and cannot take the images of cifar10: their channels are 1 and 3"
        in found.err
    )


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("models.py", "write FILE.py:CALLABLE"),
        (":build", "write FILE.py:CALLABLE"),
        ("models.py:", "write FILE.py:CALLABLE"),
        ("models.py:1", "write FILE.py:CALLABLE"),
        ("models.py:nothing", "has no callable 'nothing'"),
        ("nowhere.py:build", "there is no file"),
        ("no.such.module:build", "cannot import no.such.module"),
        ("math:pi", "no callable 'pi'"),
        ("os:getpid", "returned a int"),
        ("math:sqrt", "raised TypeError"),
        ("syntax.py:build", "fails on import: SyntaxError"),
        ("script.py:build", "fails on import: SystemExit"),
    ],
)
def test_a_model_that_is_none_is_refused(harness, model_file, home, model, reason):
    (home / "syntax.py").write_text("def build(:\n")
    (home / "script.py").write_text("import sys\nsys.exit('usage: script.py')\n")
    found = harness("add", "x", "--model", model, "--weights", "weights.pt", "--dataset", "digits")

    assert found.code == 2
    assert reason in found.err


@pytest.mark.parametrize("name", ["a/b", "", "é", "trades"])
def test_a_name_that_cannot_be_is_refused(add, name):
    assert add(name).code == 2


def test_the_same_model_again_is_harmless_and_another_under_its_name_refused(add, home):
    assert add("mine").code == 0
    assert add("mine").code == 0
    other = {"linear.weight": torch.zeros(10, 64), "linear.bias": torch.zeros(10)}
    torch.save(other, home / "weights.pt")

    assert add("again").code == 0
    assert add("mine").code == 2
    assert _names() == ["again", "mine"]


def test_a_model_file_that_changed_is_not_evaluated(add, harness, model_file):
    add("mine")
    model_file.write_text(model_file.read_text() + "\n# changed\n")
    found = harness("eval", "mine", *QUICK, "--json")

    assert found.code == 1
    assert "was changed since" in found.json()[0]["message"]


def test_two_models_whose_neighbours_differ_are_two_models(harness, model_file, home):
    where = ("--weights", "weights.pt", "--dataset", "digits")
    for name, sign in (("one", ""), ("other", "-")):
        (home / name).mkdir()
        (home / name / "model.py").write_text(
            "from sided import Net\n\n\ndef build(): return Net()\n"
        )
        (home / name / "sided.py").write_text(
            "import torch\n"
            "class Net(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.linear = torch.nn.Linear(64, 10)\n"
            f"    def forward(self, images): return {sign}self.linear(images.flatten(1))\n"
        )
        assert harness("add", name, "--model", f"{name}/model.py:build", *where).code == 0
    with Store.open(read_only=True) as store:
        one, other = store.checkpoints()

    assert one.digest != other.digest
    assert harness("eval", "--all", *QUICK).code == 0
    with Store.open(read_only=True) as store:
        decided = [
            next(
                o.columns["predicted"]
                for o in store.outcomes(record.digest)
                if o.job.attack == CLEAN
            )
            for record in (one, other)
        ]
    assert decided[0] != decided[1]
