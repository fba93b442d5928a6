from __future__ import annotations

import json
import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store.bits import decode_columns, encode_columns, pack, unpack

NUMBERS = st.floats(allow_infinity=False, width=64) | st.floats(allow_infinity=False, width=32)


@given(st.lists(st.booleans(), max_size=70))
def test_packed_bits_come_back_whatever_their_number(bits: list[bool]) -> None:
    assert unpack(pack(bits), len(bits)).tolist() == bits


@pytest.mark.parametrize(("packed", "count"), [(b"\xff", 9), (b"\xff\x00", 8), (b"\x01", 7)])
def test_bytes_that_hold_another_number_of_bits_are_refused(packed: bytes, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} images"):
        unpack(packed, count)


@given(
    st.integers(0, 12).flatmap(
        _columns := lambda n: st.dictionaries(
            st.text(max_size=8), st.lists(NUMBERS, min_size=n, max_size=n).map(tuple), max_size=4
        ).map(lambda columns: (n, columns))
    )
)
def test_columns_come_back_bit_for_bit(case: tuple[int, dict[str, tuple[float, ...]]]) -> None:
    count, columns = case
    found = decode_columns(encode_columns(columns), count)
    assert list(found) == list(columns)
    for name, values in columns.items():
        for number, expected in zip(found[name], values, strict=True):
            assert math.isnan(number) if math.isnan(expected) else number == expected


def test_columns_of_float32_numbers_take_half_the_room_of_float64() -> None:
    short = encode_columns({"loss": tuple(i / 1024 for i in range(1000))})
    long = encode_columns({"loss": tuple(i / 1000 for i in range(1000))})
    assert len(short) < len(long) / 2


@given(st.binary(max_size=60))
def test_random_bytes_never_pass_for_columns(data: bytes) -> None:
    with pytest.raises(ValueError, match="columns"):
        decode_columns(b"\x01" + data, 3)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([["loss", "f4"]]).encode() + b"\n" + b"\0" * 11,
        json.dumps([["loss", "f4"]]).encode() + b"\n" + b"\0" * 13,
        json.dumps([["loss", "O"]]).encode() + b"\n" + b"\0" * 12,
        json.dumps([["loss", "f4"], ["loss", "f4"]]).encode() + b"\n" + b"\0" * 24,
        json.dumps({"loss": "f4"}).encode() + b"\n",
        b"\0" * 50_000_000,
    ],
    ids=["short", "long", "objects", "twice", "mapping", "bomb"],
)
def test_columns_that_contradict_their_header_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="columns"):
        decode_columns(b"\x01" + zlib.compress(body), 3)
