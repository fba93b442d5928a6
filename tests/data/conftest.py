"""Fixtures that build small datasets in every layout, and a cache that is not the person's own."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, request) -> Path:
    """An empty cache for each test; without the mark `network`, nothing can be fetched."""
    folder = tmp_path / "cache"
    if "network" not in request.keywords:
        monkeypatch.setenv("HARNESS_DATA", str(folder))
        monkeypatch.setattr("urllib.request.urlopen", _refuse)
        monkeypatch.setattr("shutil.which", lambda name: None)
    return folder


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no network in tests")


@pytest.fixture
def pictures() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(count, classes, size, channels, seed) -> random images [N, H, W, C] and labels [N]."""

    def build(count=20, classes=10, size=32, channels=3, seed=0):
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
        return images, np.arange(count) % classes

    return build


def _encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    """One [H, W, C] image as a file."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, kind)
    return buffer.getvalue()


def _write_folder(folder: Path, images: np.ndarray, labels: np.ndarray, names: list[str]) -> None:
    """CLASS/NUMBER.png for each image."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / names[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_encode(image))


def _write_parquet(
    file: Path,
    images: list[bytes | None],
    labels: list[int | None],
    *,
    columns: tuple[str, str] = ("img", "label"),
    names: list[str] | None = None,
) -> None:
    """A file as the Hugging Face hub has it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": data, "path": None} for data in images]
    table = pa.table(
        {columns[0]: pa.array(rows, struct_type), columns[1]: pa.array(labels, pa.int64())}
    )
    if names is not None:
        features = {columns[1]: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def _cifar_pickle(images: np.ndarray, labels: Any, key: str = "labels") -> bytes:
    """One batch as torchvision finds it, but written by Python 3."""
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))
    return pickle.dumps({"data": rows, key: [int(label) for label in labels]}, protocol=4)


def _python2_pickle(images: np.ndarray, labels: np.ndarray) -> bytes:
    """One batch in the instructions of Python 2, as its authors published it: strings are bytes."""
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))

    def text(value: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return pickle.BININT + struct.pack("<i", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + b"cnumpy\nndarray\n"
        + number(0)
        + pickle.TUPLE1
        + text(b"b")
        + pickle.TUPLE3
        + pickle.REDUCE
        + pickle.MARK
        + number(1)
        + number(rows.shape[0])
        + number(rows.shape[1])
        + pickle.TUPLE2
        + b"cnumpy\ndtype\n"
        + text(b"u1")
        + number(0)
        + number(1)
        + pickle.TUPLE3
        + pickle.REDUCE
        + pickle.MARK
        + number(3)
        + text(b"|")
        + pickle.NONE * 3
        + number(-1)
        + number(-1)
        + number(0)
        + pickle.TUPLE
        + pickle.BUILD
        + pickle.NEWFALSE
        + pickle.BINSTRING
        + struct.pack("<i", rows.size)
        + rows.tobytes()
        + pickle.TUPLE
        + pickle.BUILD
    )
    numbers = pickle.EMPTY_LIST + pickle.MARK + b"".join(map(number, labels)) + pickle.APPENDS
    entries = text(b"data") + array + text(b"labels") + numbers
    return (
        pickle.PROTO
        + b"\x02"
        + pickle.EMPTY_DICT
        + pickle.MARK
        + entries
        + pickle.SETITEMS
        + pickle.STOP
    )


def _idx_file(values: np.ndarray, *, packed: bool = False) -> bytes:
    """Bytes of an IDX file."""
    header = struct.pack(f">{1 + values.ndim}I", 0x800 | values.ndim, *values.shape)
    data = header + values.astype(np.uint8).tobytes()
    return gzip.compress(data) if packed else data


@pytest.fixture
def encode() -> Callable[..., Any]:
    """See `_encode`."""
    return _encode


@pytest.fixture
def write_folder() -> Callable[..., Any]:
    """See `_write_folder`."""
    return _write_folder


@pytest.fixture
def write_parquet() -> Callable[..., Any]:
    """See `_write_parquet`."""
    return _write_parquet


@pytest.fixture
def cifar_pickle() -> Callable[..., Any]:
    """See `_cifar_pickle`."""
    return _cifar_pickle


@pytest.fixture
def python2_pickle() -> Callable[..., Any]:
    """See `_python2_pickle`."""
    return _python2_pickle


@pytest.fixture
def idx_file() -> Callable[..., Any]:
    """See `_idx_file`."""
    return _idx_file
