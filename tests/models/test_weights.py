"""Weights: whole or not at all, named by their content, never executed."""

import io
import os
import pickle
import random
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors

from harness.errors import HarnessError
from harness.models import weights
from harness.models.weights import file_sha256, read_weights, write_weights, write_whole

STATE = {
    "a.weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "a.bias": torch.zeros(3, dtype=torch.float64),
    "bn.num_batches_tracked": torch.tensor(7),
}


def same(first, second):
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key])
        for key in first
    )


def test_a_state_dict_comes_back_bit_for_bit_under_the_name_of_its_digest(tmp_path):
    name, sha256 = write_weights(STATE, tmp_path)
    assert name == f"{sha256}.safetensors"
    assert file_sha256(tmp_path / name) == sha256
    assert same(read_weights(tmp_path / name, sha256), STATE)
    assert write_weights(dict(reversed(STATE.items())), tmp_path) == (name, sha256)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_views_gradients_and_half_precision_are_written_as_plain_tensors(tmp_path):
    state = {
        "view": torch.arange(6.0).reshape(2, 3).T,
        "leaf": torch.randn(2, requires_grad=True),
        "half": torch.randn(2).bfloat16(),
    }
    name, sha256 = write_weights(state, tmp_path)
    assert same(read_weights(tmp_path / name, sha256), {k: v.detach() for k, v in state.items()})


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pytorch_file_of_tensors_is_read(tmp_path, legacy):
    path = tmp_path / "weights.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=not legacy)
    assert same(read_weights(path), STATE)
    assert same(read_weights(path, file_sha256(path)), STATE)


@given(st.integers(1, 400))
@settings(max_examples=60)
def test_safetensors_are_known_whatever_the_length_of_their_header(tmp_path_factory, length):
    """A header of 128 bytes starts like a pickle, one of 19,280 like a zip file."""
    path = tmp_path_factory.mktemp("weights") / "file"
    path.write_bytes(save_safetensors({"n" * length: torch.ones(1)}))
    assert list(read_weights(path)) == ["n" * length]


@pytest.mark.parametrize(("length", "start"), [(70, b"\x80"), (19_220, b"PK")])
def test_safetensors_that_start_like_a_pytorch_file_are_read(tmp_path, length, start):
    contents = (save_safetensors({"n" * k: torch.ones(1)}) for k in range(length - 9, length + 16))
    content = next(content for content in contents if content.startswith(start))
    (tmp_path / "file").write_bytes(content)
    assert len(read_weights(tmp_path / "file")) == 1


@pytest.mark.parametrize("position", [0, 8, 20, -1])
def test_one_flipped_bit_is_found_by_the_digest(tmp_path, position):
    name, sha256 = write_weights(STATE, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[position] ^= 1
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(HarnessError, match=f"recorded is {sha256[:12]}: the file was changed"):
        read_weights(tmp_path / name, sha256)


def test_writing_again_mends_a_damaged_file(tmp_path):
    name, sha256 = write_weights(STATE, tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    write_weights(STATE, tmp_path)
    assert same(read_weights(tmp_path / name, sha256), STATE)


class Runs:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [None, False, True], ids=["pickle", "zip", "legacy"])
@pytest.mark.parametrize("how", ["system", "write", "eval"])
def test_a_malicious_file_is_refused_and_not_run(tmp_path, how, legacy):
    marker = tmp_path / "executed"
    attack = {
        "system": Runs(os.system, f"touch {marker}"),
        "write": Runs(Path.write_text, marker, "x"),
        "eval": Runs(eval, f"open({str(marker)!r}, 'w')"),
    }[how]
    path = tmp_path / "weights.pt"
    state = {"weight": torch.zeros(2), "more": attack}
    if legacy is None:
        path.write_bytes(pickle.dumps({"weight": 1, "more": attack}))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(HarnessError, match="was not run") as caught:
        read_weights(path)
    assert not marker.exists()
    assert len(str(caught.value)) < 500


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(HarnessError, match=r"Save the weights alone: torch.save"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize("value", [torch.zeros(2), [torch.zeros(2)], 5])
def test_something_else_than_a_state_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "weights.pt")
    with pytest.raises(HarnessError, match="not a state dict of tensors"):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"PK",
        b"PK\x03\x04",
        b"hello, I am no model",
        b"{}",
        b"\x00" * 100,
        b"\xff" * 8 + b"{}",
        b"\x80\x02}q\x00.",
        b"<html>404</html>",
    ],
)
def test_files_that_hold_no_weights_are_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match="weights"):
        read_weights(path)


def torch_bytes(legacy):
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_damaged_files_are_refused_in_a_sentence_or_hold_tensors(tmp_path, kind):
    content = save_safetensors(STATE) if kind == "safetensors" else torch_bytes(kind == "legacy")
    draws, path = random.Random(0), tmp_path / "file"  # noqa: S311
    refused = 0
    for _ in range(150):
        damaged = bytearray(content[: draws.randrange(len(content))])
        if draws.random() < 0.5:
            damaged = bytearray(content)
            damaged[draws.randrange(len(content))] = draws.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except HarnessError as error:
            refused += str(path) in str(error)
    assert refused > 60


def test_a_missing_file_and_a_folder_are_told_in_a_sentence(tmp_path):
    with pytest.raises(HarnessError, match=r"there is no file .*nothing"):
        read_weights(tmp_path / "nothing")
    with pytest.raises(HarnessError, match="there is no file"):
        read_weights(tmp_path)


def test_a_file_above_the_limit_is_not_read(tmp_path, monkeypatch):
    name, _ = write_weights(STATE, tmp_path)
    monkeypatch.setattr(weights, "LARGEST_FILE", 10)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("the file was read"))
    with pytest.raises(HarnessError, match="above the limit"):
        read_weights(tmp_path / name)


def refuse(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace")])
def test_a_write_that_fails_leaves_the_old_file_and_no_scratch(tmp_path, monkeypatch, owner, call):
    path = tmp_path / "file"
    write_whole(path, b"old")
    monkeypatch.setattr(owner, call, refuse)
    with pytest.raises(HarnessError, match=r"cannot write .*No space left.*HARNESS_CHECKPOINTS"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_kill_while_writing_leaves_the_old_file_and_no_scratch(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def kill(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_folders_on_the_way_are_made_and_a_file_in_the_way_is_told(tmp_path):
    write_whole(tmp_path / "a" / "b" / "file", b"x")
    with pytest.raises(HarnessError, match="cannot write"):
        write_whole(tmp_path / "a" / "b" / "file" / "c", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(HarnessError, match=r"cannot write .*Permission denied"):
            write_weights(STATE, tmp_path)
    finally:
        tmp_path.chmod(0o700)
