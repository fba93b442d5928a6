"""Per-image facts as bytes: packed bits, and compressed columns that come back bit for bit."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]
Numbers = NDArray[np.float64]
_Dtype = np.dtype[np.float32] | np.dtype[np.float64]

_SHUFFLED = b"\x01"
"""Format byte of columns: zlib of a JSON header line and the little-endian arrays, byte planes
first (the exponents of a column resemble each other more than the bytes of one number do)."""

_MOST_COLUMNS = 64
_LONGEST_HEADER = 20_000
_DTYPES: dict[str, _Dtype] = {
    "f4": np.dtype("<f4"),
    "f8": np.dtype("<f8"),
}


def pack(bits: Sequence[bool] | Bits) -> bytes:
    """Eight images per byte, the first image in the highest bit."""
    return np.packbits(np.asarray(bits, dtype=np.bool_)).tobytes()


def unpack(packed: bytes, count: int) -> Bits:
    """The `count` bools that `pack` packed.

    Raises:
        ValueError: the bytes cannot have come from `count` bools.
    """
    array = np.frombuffer(packed, dtype=np.uint8)
    if len(array) != -(-count // 8):
        raise ValueError(f"{len(array)} bytes of bits for {count} images")
    bits = np.unpackbits(array)
    if bits[count:].any():
        raise ValueError(f"bits beyond the last of {count} images")
    return bits[:count].astype(np.bool_)


def encode_columns(columns: Mapping[str, Sequence[float]]) -> bytes:
    """Columns as bytes, each in float32 where that loses nothing and else in float64."""
    header: list[tuple[str, str]] = []
    planes: list[bytes] = []
    for name, values in columns.items():
        array = np.asarray(values, dtype="<f8")
        with np.errstate(over="ignore"):
            short = array.astype("<f4")
        is_exact = np.array_equal(short.astype("<f8"), array, equal_nan=True)
        array = short if is_exact else array
        header.append((name, "f4" if is_exact else "f8"))
        planes.append(array.view(np.uint8).reshape(len(array), array.itemsize).T.tobytes())
    return _SHUFFLED + zlib.compress(json.dumps(header).encode() + b"\n" + b"".join(planes), 6)


def decode_columns(encoded: bytes, count: int) -> dict[str, tuple[float, ...]]:
    """The columns of `count` images that `encode_columns` encoded.

    Raises:
        ValueError: the bytes are damaged, too long, or of another number of images.
    """
    header, body = _opened(encoded, count)
    columns: dict[str, tuple[float, ...]] = {}
    for name, dtype in header:
        length = dtype.itemsize * count
        columns[name] = tuple(_values(body[:length], dtype, count).tolist())
        body = body[length:]
    if body or len(columns) != len(header):
        raise ValueError("columns are longer than their header says")
    return columns


def decode_column(encoded: bytes, count: int, wanted: str) -> Numbers | None:
    """One of the columns that `decode_columns` decodes, without the others; None if it is absent.

    Returns:
        [count], NaN where an image has no number.

    Raises:
        ValueError: as `decode_columns`, as far as this column's end.
    """
    header, body = _opened(encoded, count)
    start = 0
    for name, dtype in header:
        end = start + dtype.itemsize * count
        if name == wanted:
            return _values(body[start:end], dtype, count).astype(np.float64)
        start = end
    return None


def _opened(encoded: bytes, count: int) -> tuple[list[tuple[str, _Dtype]], bytes]:
    if encoded[:1] != _SHUFFLED:
        raise ValueError(f"columns of unknown format {encoded[:1]!r}")
    head, _, body = _inflate(encoded[1:], _LONGEST_HEADER + _MOST_COLUMNS * 8 * count).partition(
        b"\n"
    )
    return _read_header(head), body


def _values(planes: bytes, dtype: _Dtype, count: int) -> NDArray[np.float32] | Numbers:
    array = np.frombuffer(planes, dtype=np.uint8)
    if len(array) != dtype.itemsize * count:
        raise ValueError("columns end too early")
    return np.ascontiguousarray(array.reshape(dtype.itemsize, count).T).view(dtype).ravel()


def _inflate(compressed: bytes, most: int) -> bytes:
    machine = zlib.decompressobj()
    try:
        raw = machine.decompress(compressed, most)
    except zlib.error as error:
        raise ValueError(f"columns are damaged: {error}") from error
    if not machine.eof or machine.unused_data:
        raise ValueError("columns do not end where they should")
    return raw


def _read_header(head: bytes) -> list[tuple[str, _Dtype]]:
    pairs = json.loads(head)
    if not isinstance(pairs, list) or len(pairs) > _MOST_COLUMNS:
        raise ValueError("columns have no proper header")
    header = []
    for pair in pairs:
        match pair:
            case [str(name), str(dtype)] if dtype in _DTYPES:
                header.append((name, _DTYPES[dtype]))
            case _:
                raise ValueError("columns have no proper header")
    return header
