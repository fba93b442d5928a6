"""State files: damaged ones are told in a sentence, and saving never leaves half of one."""

import os

import pytest
import torch

from harness.errors import HarnessError
from harness.models.weights import read_weights
from harness.training.loop import Training, train
from harness.training.state import load_state, state_file


@pytest.fixture
def trained(few, tiny, tmp_path):
    request, data = tiny("trades_frpat", settings={"epochs": 1}), few(64)
    train(request, data, tmp_path)
    return request, data, tmp_path, state_file(tmp_path, request.digest(data))


DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "text": lambda content: b"not a state at all",
    "first byte": lambda content: b"X" + content[1:],
    "zeros": lambda content: b"\0" * len(content),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_told_in_a_sentence(trained, damage):
    request, data, folder, path = trained
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(HarnessError, match=r"unfinished run in .* cannot be read.*Delete the file"):
        Training(request, data, folder, "cpu")
    path.unlink()
    assert Training(request, data, folder, "cpu").progress.steps == 0


OTHERS = {
    "list": [1, 2],
    "no networks": {"optimiser": {}, "progress": {}},
    "tensors": {
        "networks": torch.zeros(2),
        "optimiser": torch.zeros(2),
        "progress": torch.zeros(2),
    },
    "numbers": {"networks": {"student": 5, "teacher": 5}, "optimiser": 5, "progress": 5},
}


@pytest.mark.parametrize("content", OTHERS)
def test_a_state_of_something_else_is_told_in_a_sentence(trained, content):
    request, data, folder, path = trained
    torch.save(OTHERS[content], path)
    with pytest.raises(HarnessError, match="cannot be read"):
        Training(request, data, folder, "cpu")


@pytest.mark.parametrize("part", ["networks", "optimiser", "memory", "best", "progress"])
def test_a_state_without_one_of_its_parts_is_refused(trained, part):
    request, data, folder, path = trained
    state = read_weights(path)
    del state[part]
    torch.save(state, path)
    with pytest.raises(HarnessError, match="cannot be read"):
        Training(request, data, folder, "cpu")


def test_a_state_with_a_malicious_pickle_is_refused_and_not_run(trained):
    request, data, folder, path = trained
    marker = folder / "executed"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"networks": Evil()}, path)
    with pytest.raises(HarnessError, match="cannot be read"):
        Training(request, data, folder, "cpu")
    assert not marker.exists()


def test_no_state_is_no_error(trained):
    request, data, folder, _ = trained
    run = Training(request, data, folder, "cpu")
    before = run.progress.steps
    load_state(folder / "nothing.pt", run.run)
    assert run.progress.steps == before > 0


def test_a_save_that_fails_leaves_the_old_state_and_no_scratch(trained, monkeypatch):
    _, data, folder, path = trained
    before = path.read_bytes()
    run = Training(trained[0], data, folder, "cpu")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HarnessError, match="No space left on device"):
        run._save(0, 1)
    assert path.read_bytes() == before
    assert list(folder.iterdir()) == [path]
