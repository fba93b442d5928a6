"""What a file of weights would take, found in its header: nothing runs, no tensor is made.

PyTorch checks neither what it allocates nor whether a tensor lies inside its storage before it has
taken the memory; a file of 200 bytes may ask for terabytes.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from harness.plain_pickle import PlainUnpickler, StandIn, check_keys

MOST_TENSORS = 100_000
"""Tensors of a file; the largest network here has under a thousand."""

LARGEST_HEADER = 16 * 2**20
"""Bytes of a header, in JSON or as a pickle; reading one takes a second or two."""

MOST_SHARING = 4
"""How often the tensors of a file may use its bytes: tied weights, averages beside the weights."""

MOST_DIMENSIONS = 8

_SAFETENSORS = {
    **dict.fromkeys(("F64", "I64"), 8),
    **dict.fromkeys(("F32", "I32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL"), 1),
}
_STORAGES = {
    **dict.fromkeys(("DoubleStorage", "LongStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage"), 1),
}
_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER = 30  # bytes of an entry of a zip file before its name


def inspect_safetensors(content: bytes) -> None:
    """Compare the header of a safetensors file with the bytes behind it.

    Raises:
        ValueError: sizes that contradict each other or the file, or kinds that no weights have.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(LARGEST_HEADER, len(content) - 8):
        raise ValueError(f"its header of {length} bytes is not in the file")
    header = json.loads(content[8 : 8 + length], object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is no mapping")  # noqa: TRY004 - of a file, not of a caller
    header.pop("__metadata__", None)
    _check_count(len(header))
    ranges = sorted(_byte_range(name, entry) for name, entry in header.items())
    end = 0
    for first, last in ranges:
        if first != end:
            raise ValueError(f"its tensors leave a gap or overlap at byte {first}")
        end = last
    if end != len(content) - 8 - length:
        raise ValueError(f"its header describes {end} bytes, not the {len(content) - 8 - length}")


def inspect_torch(content: bytes) -> None:
    """Follow a file of `torch.save`, in either format, with stand-ins for all that it names.

    Raises:
        ValueError: it names or calls what no tensor needs, or its sizes do not fit.
        Exception: it is damaged; a broken file raises nearly anything.
    """
    if content[:2] == b"PK":
        _inspect_zip(content)
    else:
        _inspect_legacy(content)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _byte_range(name: str, entry: Any) -> tuple[int, int]:
    kind, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in _SAFETENSORS:
        raise ValueError(f"{_short(name)} has numbers of kind {_short(kind)}")
    _check_counts(name, (*shape, first, last))
    _check_dimensions(name, shape)
    if last - first != prod(shape) * _SAFETENSORS[kind]:
        raise ValueError(f"{_short(name)} of shape {shape} does not take {last - first} bytes")
    return first, last


def _check_count(count: int) -> None:
    if count > MOST_TENSORS:
        raise ValueError(f"it has {count} entries, above the limit of {MOST_TENSORS}")


def _check_counts(name: str, numbers: Iterable[object]) -> None:
    if any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise ValueError(f"the sizes of {_short(name)} are no whole numbers from 0")


def _check_dimensions(name: str, shape: Any) -> None:
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"{_short(name)} has {len(shape)} dimensions")


def _short(text: object) -> str:
    return ascii(text)[:80]


@dataclass(frozen=True)
class _Kind:
    """Stands for a storage class."""

    itemsize: int


@dataclass(frozen=True)
class _Storage:
    """Stands for the numbers that tensors lie in."""

    reader: _Reader
    key: str
    kind: _Kind
    count: int

    @property
    def size(self) -> int:
        return self.count * self.kind.itemsize


class _Names(StandIn, dict[Any, Any]):
    """Stands for an ordered dictionary; what a module says beside it is ignored."""

    def __init__(self, pairs: Iterable[Any] = ()) -> None:
        pairs = list(pairs)
        check_keys(key for key, _ in pairs)
        dict.__init__(self, pairs)


class _Tensor(StandIn):
    """Stands for a tensor, which must lie in its storage and not be larger than it."""

    def __init__(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        is_trained: Any = False,
        hooks: Any = None,
        *more: Any,
    ) -> None:
        if not isinstance(storage, _Storage) or type(is_trained) is not bool or hooks or any(more):
            raise ValueError("a tensor has something beside its numbers")
        what = f"a tensor in storage {_short(storage.key)}"
        _check_counts(what, (offset, *size, *stride))
        _check_dimensions(what, size)
        steps = zip(size, stride, strict=True)
        count = prod(size)
        last = offset + sum((length - 1) * step for length, step in steps) if count else offset
        if count and (last >= storage.count or count > storage.count):
            raise ValueError(f"{what} of {storage.count} numbers has shape {_short(size)}")
        storage.reader.used += count * storage.kind.itemsize


class _Parameter(StandIn):
    """Stands for a tensor that is trained."""

    def __init__(self, data: Any, is_trained: Any, hooks: Any = None) -> None:
        if not isinstance(data, _Tensor) or type(is_trained) is not bool or hooks:
            raise ValueError("a parameter has something beside its numbers")


_STAND_INS: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _Names,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    **{
        (module, name): _Kind(itemsize)
        for module in ("torch", "torch.cuda")
        for name, itemsize in _STORAGES.items()
    },
}


@dataclass
class _Reader:
    """One file: the storages that it names so far, and the bytes that its tensors use."""

    storages: dict[str, _Storage] = field(default_factory=dict)
    used: int = 0

    def read(self, file: io.BytesIO) -> Any:
        """The pickle at the file's position."""
        return _Unpickler(file, self).load()

    def storage(self, pid: Any) -> _Storage:
        """What a reference to a storage means."""
        word, kind, key, place, count, *view = pid
        if word != "storage" or not isinstance(kind, _Kind) or any(view):
            raise ValueError(f"it refers to {_short(word)}")
        if type(key) is not str or type(place) is not str:
            raise ValueError("the name of a storage is no text")
        _check_counts(f"storage {_short(key)}", [count])
        found = self.storages.setdefault(key, _Storage(self, key, kind, count))
        if (found.kind, found.count) != (kind, count):
            raise ValueError(f"storage {_short(key)} has two sizes")
        return found

    def check_total(self, size: int) -> None:
        """Compare with the size of the file."""
        _check_count(len(self.storages))
        if self.used > MOST_SHARING * size:
            raise ValueError(
                f"its tensors have {self.used} bytes, over {MOST_SHARING} times the file's {size}"
            )


class _Unpickler(PlainUnpickler):
    """Answers what tensors need; refuses every other name."""

    def __init__(self, file: io.BytesIO, reader: _Reader) -> None:
        super().__init__(file)
        self._reader = reader

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {ascii(f'{module}.{name}')[1:81]}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """See `pickle.Unpickler`."""
        return self._reader.storage(pid)


def _inspect_legacy(content: bytes) -> None:
    """One pickle after the other, then the numbers; PyTorch before 1.6 wrote this."""
    file, reader = io.BytesIO(content), _Reader()
    if reader.read(file) != _MAGIC:
        raise ValueError("it is a pickle, but not one of torch.save")
    for _ in ("protocol", "system", "state", "keys"):
        reader.read(file)
    if sum(8 + storage.size for storage in reader.storages.values()) > len(content) - file.tell():
        raise ValueError("its storages are longer than the file")
    reader.check_total(len(content))


def _inspect_zip(content: bytes) -> None:
    sizes, header = _records(content)
    reader = _Reader()
    reader.read(io.BytesIO(header))
    for key, storage in reader.storages.items():
        if sizes.get(f"data/{key}") != storage.size:
            raise ValueError(f"storage {_short(key)} of {storage.size} bytes is not in the file")
    reader.check_total(len(content))


def _records(content: bytes) -> tuple[dict[str, int], bytes]:
    """The sizes of all records by name, without the archive's own, and the pickle."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise ValueError("it is a TorchScript archive, which is a program")
        _check_entries(entries, archive)
        top = entries[0].filename.partition("/")[0]
        sizes = {entry.filename.removeprefix(f"{top}/"): entry.file_size for entry in entries}
        if sizes.get("data.pkl", 0) > LARGEST_HEADER:
            raise ValueError(f"its pickle has {sizes['data.pkl']} bytes")
        return sizes, archive.read(f"{top}/data.pkl")


def _check_entries(entries: list[zipfile.ZipInfo], archive: zipfile.ZipFile) -> None:
    """As `torch.save` leaves them: stored as they are, side by side, beneath one folder, once."""
    _check_count(len(entries))
    if not entries or archive.comment:
        raise ValueError("it is not an archive of torch.save")
    top = entries[0].filename.partition("/")[0]
    end = 0
    for entry in entries:
        name = entry.filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"its record {_short(name)} is compressed")
        if (
            "\\" in name
            or name.split("/")[0] != top
            or not {"", ".", ".."}.isdisjoint(name.split("/"))
        ):
            raise ValueError(f"its record {_short(name)} points out of the archive")
        if entry.header_offset < end or (end == 0 and entry.header_offset > 0):
            raise ValueError(f"its record {_short(name)} lies in another")
        end = entry.header_offset + _LOCAL_HEADER + len(name) + entry.file_size
    if end > archive.start_dir:
        raise ValueError("its last record runs into the directory")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("it has a record twice")
