"""Weights from anywhere: nothing of them runs, and they take no memory that they do not fill."""

import builtins
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from harness.errors import HarnessError
from harness.models import inspection
from harness.models.weights import file_sha256, read_weights, write_weights

HUGE = 10**12


class Calls:
    """Pickled as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Stored:
    """Pickled as a reference to a storage."""

    def __init__(self, count=4, key="0", kind=torch.FloatStorage, more=()):
        self.reference = ("storage", kind, key, "cpu", count, *more)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.reference if isinstance(value, Stored) else None


def pickled(value):
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def tensor(storage=None, offset=0, size=(4,), stride=(1,), *more):
    """A call that PyTorch allows, with any arguments."""
    rebuild = torch._utils._rebuild_tensor_v2
    return Calls(rebuild, storage or Stored(), offset, size, stride, False, OrderedDict(), *more)


def zipped(value, records=None, top="archive", compression=zipfile.ZIP_STORED, numbers=b"\0" * 16):
    """A file as `torch.save` lays it out, with any pickle and any further records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        data = value if isinstance(value, bytes) else pickled(value)
        archive.writestr(f"{top}/data.pkl", data)
        archive.writestr(f"{top}/byteorder", "little")
        archive.writestr(f"{top}/data/0", numbers)
        archive.writestr(f"{top}/version", "3\n")
        for name, content in (records or {}).items():
            archive.writestr(name, content)
    return buffer.getvalue()


def legacy(value, keys=("0",), numbers=b"\0" * 16):
    """A file of PyTorch before 1.6."""
    numbers = struct.pack("<q", len(numbers) // 4) + numbers
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    values = (0x1950A86A20F9469CFC6C, 1001, system, value, list(keys))
    return b"".join(map(pickled, values)) + numbers


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def script():
    buffer = io.BytesIO()
    module = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2), check_trace=False)
    torch.jit.save(module, buffer)
    return buffer.getvalue()


def tar(value):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickled(value)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def file_of(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    return path


def refused(tmp_path, content, match):
    path = file_of(tmp_path, content)
    with pytest.raises(HarnessError, match=match) as caught:
        read_weights(path)
    assert len(str(caught.value)) < 600 + len(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", [zipped, legacy, pickled, tar])
@pytest.mark.parametrize("how", ["system", "eval", "open", "import"])
def test_no_function_that_a_file_names_is_called(tmp_path, layout, how):
    proof = tmp_path / "proof"
    call = {
        "system": Calls(os.system, f"touch {proof}"),
        "eval": Calls(builtins.eval, f"open({str(proof)!r}, 'w')"),
        "open": Calls(open, str(proof), "w"),
        "import": Calls(builtins.__import__, "antigravity"),
    }[how]
    refused(tmp_path, layout({"weight": tensor(), "more": call}), "weights")
    assert not proof.exists()


def test_a_pickle_in_a_zip_file_within_the_zip_file_is_never_read(tmp_path):
    proof = tmp_path / "proof"
    inner = zipped({"more": Calls(os.system, f"touch {proof}")})
    with pytest.raises(HarnessError, match="points out of the archive"):
        read_weights(file_of(tmp_path, zipped({"w": tensor()}, {"other/data.pkl": inner})))
    found = read_weights(file_of(tmp_path, zipped({"w": tensor()}, {"archive/inner.zip": inner})))
    assert list(found) == ["w"]
    assert not proof.exists()


def test_the_archives_that_these_tests_build_are_read(tmp_path):
    for content in (zipped({"w": tensor()}), legacy({"w": tensor(Stored(more=(None,)))})):
        assert torch.equal(read_weights(file_of(tmp_path, content))["w"], torch.zeros(4))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (script, "it is a TorchScript archive, which is a program"),
        (lambda: saved(nn.Linear(2, 2)), "it names '?torch.nn.modules.linear.Linear"),
        (lambda: saved({"w": np.zeros(2)}), "it names '?numpy"),
        (lambda: pickled({"w": np.zeros(2)}), "it names '?numpy"),
        (lambda: saved({"w": torch.eye(2).to_sparse()}), "_rebuild_sparse_tensor"),
        (
            lambda: saved({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)}),
            "it names",
        ),
        (lambda: saved({"w": torch.empty(2, device="meta")}), "_rebuild_meta_tensor"),
        (lambda: saved({"w": torch.zeros(2, dtype=torch.complex64)}), "ComplexFloatStorage"),
        (lambda: pickled({"w": 1}), "is a pickle, but not one of torch.save"),
    ],
    ids=["script", "module", "numpy", "pickle", "sparse", "quantised", "meta", "complex", "plain"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_is_no_plain_tensor_is_refused_in_a_sentence(tmp_path, content, reason):
    refused(tmp_path, content(), reason)


class Marked(torch.Tensor):
    """A kind of tensor with code of its own."""


def test_a_tensor_of_a_kind_of_its_own_is_refused(tmp_path):
    refused(tmp_path, saved({"w": torch.zeros(2).as_subclass(Marked)}), "it names")


def test_safetensors_hold_no_complex_numbers(tmp_path):
    content = save_safetensors({"w": torch.zeros(2, dtype=torch.complex64)})
    refused(tmp_path, content, "numbers of kind 'C64'")


@pytest.mark.parametrize("layout", [zipped, legacy])
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (tensor(size=(HUGE,)), "has shape"),
        (tensor(size=(HUGE,), stride=(0,)), "has shape"),
        (tensor(size=(1000, 1000), stride=(0, 0)), "has shape"),
        (tensor(size=(2,), stride=(-1,)), "no whole numbers from 0"),
        (tensor(size=(-1,)), "no whole numbers from 0"),
        (tensor(size=(2.0,)), "no whole numbers from 0"),
        (tensor(offset=4, size=(1,)), "has shape"),
        (tensor(offset=-1), "no whole numbers from 0"),
        (tensor(size=(2, 2), stride=(3, 1)), "has shape"),
        (tensor(size=(1,) * 9, stride=(1,) * 9), "9 dimensions"),
        (tensor(None, 0, (4,), (1,), {"a": 1}), "something beside its numbers"),
        (tensor(Stored(HUGE), size=(HUGE,)), "not in the file|longer than the file"),
        (tensor(Stored(5)), "not in the file|longer than the file"),
        (tensor(Stored(-1)), "no whole numbers from 0"),
        (tensor(Stored(2, kind=torch.DoubleStorage), size=(4,)), "has shape"),
        (tensor(Stored(kind=torch.QInt8Storage)), "it names '?torch.QInt8Storage"),
        ([tensor(Stored(4)), tensor(Stored(2), size=(2,))], "has two sizes"),
        (
            Calls(torch._utils._rebuild_tensor_v2, "no storage", 0, (1,), (1,), False, None),
            "beside",
        ),
    ],
)
def test_an_allowed_call_with_hostile_arguments_is_refused(tmp_path, layout, call, reason):
    value = {
        str(number): one for number, one in enumerate(call if isinstance(call, list) else [call])
    }
    refused(tmp_path, layout(value), reason)


@pytest.mark.parametrize("layout", [zipped, legacy])
def test_many_names_for_the_same_numbers_are_refused(tmp_path, layout):
    """Written out, they would take as much again for every name."""
    storage = Stored(4000, more=(None,) if layout is legacy else ())
    state = {str(number): tensor(storage, size=(4000,)) for number in range(3)}
    assert len(read_weights(file_of(tmp_path, layout(state, numbers=b"\0" * 16_000)))) == 3
    state |= {f"more {number}": tensor(storage, size=(4000,)) for number in range(20)}
    refused(tmp_path, layout(state, numbers=b"\0" * 16_000), "over 4 times the file")


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ({"archive/../../evil": b""}, "points out of the archive"),
        ({"archive/a\\b": b""}, "points out of the archive"),
        ({"/etc/passwd": b""}, "points out of the archive"),
        ({"other/data.pkl": b""}, "points out of the archive"),
        ({"archive/constants.pkl": b""}, "TorchScript"),
    ],
)
def test_records_that_are_no_weights_are_refused(tmp_path, records, reason):
    refused(tmp_path, zipped({"w": tensor()}, records), reason)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_record_twice_is_refused(tmp_path):
    refused(tmp_path, zipped({"w": tensor()}, {"archive/data/0": b"\1" * 16}), "a record twice")


def test_records_that_lie_in_each_other_are_refused(tmp_path):
    content = zipped({"w": tensor()})
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    moved = bytearray(content)
    moved[second + 42 : second + 46] = content[first + 42 : first + 46]  # where the entry starts
    refused(tmp_path, bytes(moved), "lies in another")


def test_what_comes_before_the_archive_is_refused(tmp_path):
    refused(tmp_path, b"PK" + zipped({"w": tensor()}), "lies in another")


def test_compressed_records_are_refused_without_being_unpacked(tmp_path):
    bomb = zipped({"w": tensor(Stored(2**26), size=(2**26,))}, numbers=b"\0" * 2**28, compression=8)
    assert len(bomb) < 2**20
    refused(tmp_path, bomb, "record 'archive/data.pkl' is compressed")


def test_a_key_that_would_be_hashed_for_years_is_refused(tmp_path):
    """Each line doubles the tuple: t = (t, t), sixty times, then a dictionary with the key t."""
    data = b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 60 + b"K\x01s."
    refused(tmp_path, zipped(data), "the key of a dictionary is a tuple")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__K\x01s\x86b.",
        b"\x80\x02}}U\x01aK\x01sb.",
        b"\x80\x02U\x05print)R.",
    ],
)
def test_nothing_but_a_stand_in_is_called_or_changed(tmp_path, data):
    refused(tmp_path, zipped(data), "it changes|it calls")


def header(entries, numbers=b""):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(kind="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header({"w": entry(shape=(HUGE,))}, b"\0" * 4), "does not take 4 bytes"),
        (header({"w": entry(shape=(HUGE,), offsets=(0, 4 * HUGE))}, b"\0" * 4), "describes"),
        (header({"w": entry(shape=(-1,))}, b"\0" * 4), "no whole numbers from 0"),
        (header({"w": entry(shape=(2**62, 4))}, b"\0" * 4), "does not take 4 bytes"),
        (header({"w": entry(shape=(1,) * 9)}, b"\0" * 4), "9 dimensions"),
        (header({"w": entry(kind="F8_E4M3")}, b"\0" * 4), "numbers of kind 'F8_E4M3'"),
        (header({"w": entry(), "v": entry()}, b"\0" * 4), "gap or overlap at byte 0"),
        (header({"w": entry(offsets=(4, 8))}, b"\0" * 8), "gap or overlap at byte 4"),
        (header({"w": entry()}, b"\0" * 8), "describes 4 bytes, not the 8"),
        (header(b'{"w":' + json.dumps(entry()).encode() + b',"w":1}', b"\0" * 4), "a name twice"),
        (header(b"{" + b'"a":{' * 9 + b"[" * 200_000), "neither safetensors"),
        (struct.pack("<Q", 2**62) + b"{}", "is not in the file"),
        (struct.pack("<Q", 2**24 + 1) + b"{}" + b" " * 2**24, "is not in the file"),
    ],
)
def test_a_header_that_contradicts_the_file_is_refused(tmp_path, content, reason):
    refused(tmp_path, content, reason)


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "MOST_TENSORS", 3)
    state = {str(number): torch.zeros(1) for number in range(4)}
    for content in (save_safetensors(state), saved(state)):
        refused(tmp_path, content, "above the limit of 3")


def test_a_large_pickle_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "LARGEST_HEADER", 100)
    refused(tmp_path, saved({"w": torch.zeros(3)}), "its pickle has")


GIANTS = """
import resource, sys
from pathlib import Path
from harness.errors import HarnessError
from harness.models.weights import read_weights

def now(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024

small = sys.argv[1]
try:
    read_weights(Path(small))  # what is imported and allocated once
except HarnessError as error:
    print(error)
before, limit = now("VmPeak"), now("VmSize") + 2**27
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for file in sys.argv[2:]:
    try:
        read_weights(Path(file))
    except HarnessError as error:
        print(error)
print("grown by", now("VmPeak") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_no_hostile_file_takes_memory_before_it_is_refused(tmp_path):
    """In 128 MiB of address space, which PyTorch alone asks for and cannot have."""
    many = 2**27
    giants = {
        "small": zipped({"w": tensor()}),
        "legacy": legacy({"w": tensor(Stored(many), size=(many,))}),
        "zip": zipped({"w": tensor(Stored(many), size=(many,))}),
        "bomb": zipped(
            {"w": tensor(Stored(many), size=(many,))}, numbers=b"\0" * 2**29, compression=8
        ),
        "resized": zipped({"w": tensor(size=(many,))}),
        "memo": zipped(b"\x80\x02}r" + struct.pack("<I", 2**31) + b"."),
        "safetensors": header({"w": entry(shape=(many,), offsets=(0, 4 * many))}, b"\0" * 4),
    }
    files = [tmp_path / name for name in giants]
    for file, content in zip(files, giants.values(), strict=True):
        file.write_bytes(content)
    run = subprocess.run(
        [sys.executable, "-c", GIANTS, *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    *said, grown = run.stdout.splitlines()
    reasons = ("longer than the file", "not in the file", "compressed", "shape", "describes")
    assert len(said) == len(reasons)
    for sentence, reason in zip(said, reasons, strict=True):
        assert reason in sentence
        assert "alloc" not in sentence.lower()
    assert int(grown.split()[-1]) < 2**26


def test_a_flipped_byte_is_found_by_the_digest_and_by_nothing_else(tmp_path):
    state = {"w": torch.ones(8)}
    name, sha256 = write_weights(state, tmp_path)
    path = tmp_path / name
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(bytes(damaged))
    assert not torch.equal(load_safetensors(bytes(damaged))["w"], state["w"])
    with pytest.raises(HarnessError, match="the file was changed or damaged"):
        read_weights(path, sha256)

    content = bytearray(saved(state))
    position = content.index(torch.ones(8).numpy().tobytes())
    whole = file_of(tmp_path, bytes(content))
    sha256 = file_sha256(whole)
    content[position] ^= 1
    whole.write_bytes(bytes(content))
    found = torch.load(io.BytesIO(bytes(content)), weights_only=True)
    assert not torch.equal(found["w"], state["w"])
    with pytest.raises(HarnessError, match="the file was changed or damaged"):
        read_weights(whole, sha256)


def test_weights_that_are_no_numbers_are_read_and_left_to_the_evaluation(tmp_path):
    path = file_of(tmp_path, saved({"w": torch.full((2,), float("nan"))}))
    assert read_weights(path)["w"].isnan().all()


@pytest.mark.parametrize("old", [False, True])
def test_what_training_scripts_save_is_read(tmp_path, old):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    network[1].weight = nn.Parameter(network[1].bias.detach()[:])  # tied by hand
    momentum = {number: {"momentum_buffer": torch.zeros(2)} for number in range(4)}
    value = {
        "state_dict": network.state_dict(),
        "parameters": dict(network.named_parameters()),
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "epoch": 3,
        "best": (0.5, None, True, "words"),
    }
    torch.save(value, tmp_path / "weights.pt", _use_new_zipfile_serialization=not old)
    found = read_weights(tmp_path / "weights.pt")
    assert found["epoch"] == 3
    assert all(
        torch.equal(found["state_dict"][name], number)
        for name, number in network.state_dict().items()
    )
