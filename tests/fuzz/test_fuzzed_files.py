"""Files from anywhere: read to what their dataset or network allows, or refused in a sentence."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fuzzing import VALUES, WORDS, damaged, efforts, fuzz
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_safetensors
from torch import Tensor

from harness.data import dataset, parquet_shard
from harness.data.archives import read_tar
from harness.data.idx import read_idx
from harness.data.loading import load
from harness.data.pickles import load_pickle
from harness.data.saved import file_of
from harness.errors import HarnessError
from harness.models.inspection import MOST_SHARING
from harness.models.layouts import to_network_layout
from harness.models.weights import read_weights

STATE = {
    "trunk.weight": torch.arange(6.0).reshape(2, 3),
    "head.weight": torch.zeros(4, 3, dtype=torch.float16),
    "bn.num_batches_tracked": torch.tensor(7),
}


def torch_file(**options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def tensors_of(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else ()
    return [tensor for one in inner for tensor in tensors_of(one)]


@efforts(500)
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_damaged_state_dict_holds_no_more_than_its_file_or_is_refused(effort, kind, tmp_path):
    whole = {
        "safetensors": lambda: save_safetensors(STATE),
        "zip": torch_file,
        "legacy": lambda: torch_file(_use_new_zipfile_serialization=False),
    }[kind]()
    path = tmp_path / "weights"

    def read(content):
        path.write_bytes(content)
        tensors = tensors_of(read_weights(path))
        assert all(type(one) in {Tensor, torch.nn.Parameter} for one in tensors)
        assert all(one.layout is torch.strided and one.device.type == "cpu" for one in tensors)
        assert sum(one.nbytes for one in tensors) <= MOST_SHARING * len(content)
        assert all(one.nbytes <= one.untyped_storage().nbytes() for one in tensors)

    fuzz(effort, read, content=damaged(whole))


@efforts(500)
def test_a_header_of_any_values_fits_its_file_or_is_refused(effort, tmp_path):
    path = tmp_path / "weights"
    sizes = st.one_of(st.integers(-1, 5), st.sampled_from([2**31, 2**62, 10**30]), VALUES)
    entry = st.fixed_dictionaries(
        {
            "dtype": st.one_of(st.sampled_from(["F32", "F16", "I64", "BOOL", "C64"]), WORDS),
            "shape": st.one_of(st.lists(sizes, max_size=4), VALUES),
            "data_offsets": st.one_of(st.lists(sizes, min_size=2, max_size=2), VALUES),
        }
    )
    fitting = st.integers(0, 3).map(
        lambda count: {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
    )
    header = st.dictionaries(WORDS, st.one_of(entry, fitting, fitting), max_size=3)

    def read(entries, count):
        text = json.dumps(entries, default=str).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * count))
        found = read_weights(path)
        assert sum(one.nbytes for one in found.values()) == 4 * count
        assert {*found} == {*entries} - {"__metadata__"}

    fuzz(effort, read, entries=header, count=st.integers(0, 3))


@efforts(500)
def test_a_layout_gives_the_networks_own_keys_and_shapes_or_is_refused(effort):
    expected = {
        **{"trunk.conv.weight": torch.zeros(2, 3), "trunk.bn.num_batches_tracked": torch.tensor(0)},
        **{"head.weight": torch.zeros(4, 2), "normalisation.mean": torch.zeros(1, 3, 1, 1)},
    }
    names = st.sampled_from(
        ["conv.weight", "module.conv.weight", "linear.weight", "fc.weight", "mean", "mu", "0.conv"]
    )
    tensors = st.one_of(
        st.sampled_from([torch.zeros(2, 3), torch.zeros(4, 2), torch.zeros(3), torch.zeros(())]),
        st.sampled_from([torch.ones(3, 1, 1), torch.zeros(0)]),
    )
    good = st.just({"conv.weight": torch.ones(2, 3), "fc.weight": torch.ones(4, 2)})
    keys = st.one_of(names, names, WORDS, st.integers())
    state = st.dictionaries(keys, st.one_of(tensors, tensors, VALUES), max_size=4)
    whole = st.tuples(good, state).map(lambda parts: {**parts[1], **parts[0]})
    wrapped = st.sampled_from(["state_dict", "net", "model"]).flatmap(
        lambda key: st.one_of(whole, good).map(lambda inner: {key: inner, "epoch": 1})
    )

    def read(value):
        found = to_network_layout(value, expected)
        assert list(found) == list(expected)
        assert all(found[name].shape == expected[name].shape for name in found)

    fuzz(effort, read, value=st.one_of(state, good, whole, wrapped, VALUES))


def png(number: int = 0, size: int = 4) -> bytes:
    buffer = io.BytesIO()
    pixels = np.full((size, size, 3), number, np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def check_dataset(name: str) -> None:
    found = dataset(name)
    split = load(name, "test")
    assert split.images.shape[1:] == found.shape
    assert len(split.images) == len(split.labels) <= 100
    assert 0 <= split.labels.min() <= split.labels.max() < len(found.classes)


@efforts(300)
def test_a_damaged_parquet_file_is_a_dataset_or_refused(effort, tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": png(number), "path": None} for number in range(4)]
    table = pa.table({"img": pa.array(rows, kind), "label": pa.array([0, 1, 2, 1], pa.int64())})
    info = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)

    def read(content):
        (tmp_path / "test-0.parquet").write_bytes(content)
        check_dataset(f"parquet:{tmp_path}")

    fuzz(effort, read, accepted=1, content=damaged(buffer.getvalue()))


@efforts(300)
def test_a_parquet_file_of_any_metadata_and_labels_is_a_dataset_or_refused(effort, tmp_path):
    kinds = st.sampled_from([pa.int64(), pa.int8(), pa.uint64(), pa.float64(), pa.string()])
    labels = st.lists(st.one_of(st.integers(0, 3), st.integers(), st.none()), max_size=3)

    def read(kind, numbers, metadata, images):
        try:
            column = pa.array(numbers, kind)
        except (pa.ArrowException, OverflowError) as error:
            raise HarnessError("no column") from error
        table = pa.table({"image": pa.array(images[: len(numbers)], pa.binary()), "label": column})
        table = table.replace_schema_metadata({"huggingface": metadata})
        pq.write_table(table, tmp_path / "test-0.parquet")
        check_dataset(f"parquet:{tmp_path}")

    names = st.lists(WORDS, max_size=4).map(
        lambda names: json.dumps({"info": {"features": {"label": {"names": names}}}})
    )
    text = st.one_of(
        names, VALUES.map(lambda one: json.dumps(one, default=str)), st.just("[" * 9000)
    )
    image = st.sampled_from([png(1), png(2), png(3, 5), b"", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
    good = st.just([png(1)] * 3)
    fuzz(
        effort,
        read,
        kind=st.one_of(st.just(pa.int64()), kinds),
        numbers=st.one_of(st.just([0, 1, 2]), labels),
        metadata=st.one_of(text, st.just("{}")),
        images=st.one_of(good, st.lists(image, min_size=3, max_size=3)),
    )


@efforts(300)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_LZMA], ids=["plain", "lzma"])
def test_a_damaged_zip_of_images_is_a_dataset_or_refused(effort, method, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for number in range(4):
            archive.writestr(f"test/{'cat' if number % 2 else 'dog'}/{number}.png", png(number))
    path = tmp_path / "images.zip"

    def read(content):
        path.write_bytes(content)
        check_dataset(f"folder:{path}")

    fuzz(effort, read, accepted=1, content=damaged(buffer.getvalue()))


@efforts(200)
def test_a_folder_of_any_names_and_images_is_a_dataset_or_refused(effort, tmp_path_factory):
    parts = st.text(
        st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=9
    ).filter(lambda name: name not in {".", ".."})
    label = st.one_of(st.sampled_from(["cat", "dog"]), parts)
    name = st.one_of(st.sampled_from(["1.png", "2.PNG", "a.jpg", "x.tiff"]), parts)
    content = st.one_of(st.just(png(1)), st.just(png(1)), damaged(png(2)), st.just(png(3, 6)))
    good = st.just([("cat", "1.png", png(1)), ("dog", "1.png", png(2))])
    files = st.lists(st.tuples(label, name, content), max_size=3)

    def read(some, more):
        folder = tmp_path_factory.mktemp("folder")
        for label, name, content in (*some, *more):
            file = folder / "test" / label / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        check_dataset(f"folder:{folder}")

    fuzz(effort, read, some=st.one_of(good, files), more=files)


@efforts(500)
def test_a_damaged_pickle_of_cifar_is_plain_values_or_refused(effort):
    rows = np.arange(2 * 12, dtype=np.uint8).reshape(2, 12)
    whole = pickle.dumps({"data": rows, "labels": [0, 1]}, protocol=4)

    def read(content):
        found = load_pickle(content, "batch")
        assert type(found) is dict
        assert all(type(key) is str for key in found)

    fuzz(effort, read, content=damaged(whole))


@efforts(300)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_idx_file_has_its_shape_or_is_refused(effort, packed, tmp_path):
    header = struct.pack(">4I", 0x803, 3, 2, 2)
    whole = header + bytes(range(12))
    path = tmp_path / ("images.gz" if packed else "images")

    def read(content):
        path.write_bytes(content)
        assert read_idx(path, (2, 2)).shape[1:] == (2, 2)

    fuzz(effort, read, content=damaged(gzip.compress(whole, mtime=0) if packed else whole))


@efforts(400)
@pytest.mark.parametrize("kind", ["", "gz", "xz", "bz2"])
def test_a_damaged_archive_gives_the_file_asked_for_or_is_refused(effort, kind, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}", format=tarfile.PAX_FORMAT) as archive:
        for name in ("long" * 40, "wanted", "other"):
            entry = tarfile.TarInfo(name)
            entry.size = 600
            archive.addfile(entry, io.BytesIO(bytes(600)))
    path = tmp_path / "archive.tar"

    def read(content):
        path.write_bytes(content)
        (found,) = read_tar(path, ["wanted"], 1000).values()
        assert len(found) <= 1000

    fuzz(effort, read, accepted=1, content=damaged(buffer.getvalue()))


@efforts(300)
def test_a_damaged_file_of_our_own_is_a_split_or_refused(effort, tmp_path):
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    tensors = {"images": pixels, "labels": np.array([3, 4])}
    whole = save_numpy(tensors, {"dataset": "cifar10"})[:-6144]
    path = file_of(tmp_path, "cifar10", "test")

    def read(start, pixel):
        path.write_bytes(start + bytes([pixel]) * 6144)
        split = load("cifar10", "test", data_dir=tmp_path)
        assert split.images.shape == (2, 3, 32, 32)

    starts = st.one_of(st.just(whole), damaged(whole))
    fuzz(effort, read, start=starts, pixel=st.integers(0, 255))


def test_an_archive_cannot_unpack_a_name_without_end(tmp_path):
    """tarfile reads the name of a file at once, however long the header says it is."""
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 2**27
    path = tmp_path / "archive.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(entry.tobuf())
        file.write(bytes(2**27))
    tracemalloc.start()
    try:
        with pytest.raises(HarnessError, match="no whole tar archive"):
            read_tar(path, ["wanted"], 1000)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_parquet_file_cannot_claim_labels_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_shard, "MOST_ROWS", 3)
    table = pa.table({"image": pa.array([png()] * 4, pa.binary()), "label": [0] * 4})
    pq.write_table(table, tmp_path / "test-0.parquet")
    with pytest.raises(HarnessError, match="claims 4 images: the limit is 3"):
        dataset(f"parquet:{tmp_path}")


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_an_archive_that_is_damaged_in_the_middle_is_refused(kind, tmp_path):
    path = tmp_path / "archive.tar"
    with tarfile.open(path, f"w:{kind}") as archive:
        for name in ("before", "wanted"):
            entry = tarfile.TarInfo(name)
            entry.size = 900_000
            numbers = np.random.default_rng(0).integers(0, 4, entry.size, np.uint8)
            archive.addfile(entry, io.BytesIO(numbers.tobytes()))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=r"no whole tar archive|lacks wanted"):
        read_tar(path, ["wanted"], 10**6)
