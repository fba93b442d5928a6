"""Messages between the harness and the process of a model: JSON and tensors, nothing that runs."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

LONGEST_HEADER = 2**20
LARGEST_PAYLOAD = 8 * 2**30
"""Bytes; far above the weights of any model this project knows."""

_SIZES = struct.Struct("!IQ")
_CHUNK = 2**22


class Message(NamedTuple):
    """What one side says: plain values, and tensors by name."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]


class BadMessageError(Exception):
    """What came is no message of this protocol."""


class Channel:
    """One end of a connected socket.

    Args:
        end: stays open until `close`.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(
        self,
        header: Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        *,
        deadline: float | None = None,
    ) -> None:
        """Say something.

        Args:
            header: plain values.
            tensors: any device, any layout that has a dense copy.
            deadline: of `time.monotonic`, None to wait for ever.

        Raises:
            OSError: the other side is gone, or did not take it in time (`TimeoutError`).
        """
        words = json.dumps(header).encode()
        payload = save({name: _dense(value) for name, value in (tensors or {}).items()})
        self._end.settimeout(_left(deadline))
        self._end.sendall(_SIZES.pack(len(words), len(payload)) + words)
        for first in range(0, len(payload), _CHUNK):
            self._end.settimeout(_left(deadline))
            self._end.sendall(payload[first : first + _CHUNK])

    def receive(self, *, deadline: float | None = None, most: int = LARGEST_PAYLOAD) -> Message:
        """Wait for what the other side says; sizes are checked before memory is taken.

        Args:
            deadline: of `time.monotonic`, None to wait for ever.
            most: bytes of tensors.

        Raises:
            EOFError: the other side is gone.
            OSError: the same, or it said nothing in time (`TimeoutError`).
            BadMessageError: too large, no JSON object, or no tensors.
        """
        sizes = _SIZES.unpack(self._exactly(_SIZES.size, deadline))
        if sizes[0] > LONGEST_HEADER or sizes[1] > most:
            raise BadMessageError(f"a message of {sizes[0]} + {sizes[1]} bytes")
        words, payload = (self._exactly(size, deadline) for size in sizes)
        try:
            header, tensors = json.loads(words), load(bytes(payload))
        except (ValueError, RecursionError, SafetensorError, KeyError, RuntimeError) as error:
            raise BadMessageError(f"a message that cannot be read ({error})") from error
        if not isinstance(header, dict):
            raise BadMessageError("a message that is no JSON object")
        return Message(header, tensors)

    def close(self) -> None:
        """Hang up."""
        self._end.close()

    def _exactly(self, size: int, deadline: float | None) -> bytearray:
        """So many bytes; memory is taken as they come, not as they are announced."""
        found = bytearray()
        while len(found) < size:
            self._end.settimeout(_left(deadline))
            some = self._end.recv(min(size - len(found), _CHUNK))
            if not some:
                raise EOFError("the other side hung up")
            found += some
        return found


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


def _dense(value: Tensor) -> Tensor:
    """A copy in memory of its own: safetensors refuses tensors that share theirs."""
    plain = value.detach()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    return plain.to("cpu", copy=True).contiguous()
