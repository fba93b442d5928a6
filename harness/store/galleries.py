"""Pictures to rows and back: a few test images in grey levels, compressed, never beyond a bound."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.identity import PICTURES, AdversarialGallery, Gallery
from harness.store import schema
from harness.store.rows import Row, believed, check_types, threat_of, threat_row
from harness.threat import ThreatModel

LARGEST_PICTURE = 2**20
"""Bytes of one image: what a row may make its reader unpack is `PICTURES` times as much."""

_OVERHEAD = 1024
"""Bytes by which a compressed text may be longer than what it holds."""

_ROUNDING = 1e-6
"""How far beyond epsilon two grey levels may be whose float32 numbers are inside."""

Shape = tuple[int, int, int]


def gallery_row(gallery: Gallery) -> dict[str, Any]:
    """All columns of a gallery but the images it is of.

    Raises:
        ValueError: it contradicts itself, which is a bug of whoever made it.
    """
    row = {name: list(getattr(gallery, name)) for name in ("indices", "labels", "shape")}
    _check(row, "labels")
    return row | {"pixels": _packed(gallery.pixels, row)}


@believed(schema.gallery)
def gallery_of(row: Row) -> Gallery:
    """What `gallery_row` wrote, with the names of its images."""
    check_types(schema.gallery, row)
    shape = _check(row, "labels")
    return Gallery(
        dataset=row["dataset"],
        images=row["images"],
        indices=tuple(row["indices"]),
        labels=tuple(row["labels"]),
        shape=shape,
        pixels=_unpacked(row["pixels"], _size(row)),
    )


def adversarial_row(gallery: AdversarialGallery) -> dict[str, Any]:
    """All columns of adversarial pictures but the rows they refer to.

    Raises:
        ValueError: they contradict themselves, which is a bug of whoever made them.
    """
    row = threat_row(gallery.threat) | {
        "attack": gallery.attack,
        "seed": gallery.seed,
        "indices": list(gallery.indices),
        "broken": [int(broken) for broken in gallery.broken],
        "predicted": list(gallery.predicted),
        "shape": list(gallery.shape),
        "created": gallery.created,
    }
    _check(row, "broken", "predicted")
    if not gallery.threat.is_ball:
        raise ValueError(f"{gallery.threat} has no adversarial images")
    return row | {"pixels": _packed(gallery.pixels, row)}


@believed(schema.adversarial)
def adversarial_of(row: Row) -> AdversarialGallery:
    """What `adversarial_row` wrote, with the names of what it refers to."""
    check_types(schema.adversarial, row)
    shape = _check(row, "broken", "predicted")
    threat = threat_of(row)
    if not threat.is_ball:
        raise ValueError(f"{threat} has no adversarial images")
    return AdversarialGallery(
        threat=threat,
        indices=tuple(row["indices"]),
        broken=tuple(map(bool, row["broken"])),
        predicted=tuple(row["predicted"]),
        shape=shape,
        pixels=_unpacked(row["pixels"], _size(row)),
        **{name: row[name] for name in _NAMED},
    )


_NAMED = ("checkpoint", "dataset", "images", "attack", "seed", "created")


def _check(row: Row, *per_image: str) -> Shape:
    """Refuse pictures that are none, too many, too large, or counted differently.

    Raises:
        ValueError: they are.
    """
    indices = row["indices"]
    if not 1 <= len(indices) <= PICTURES or indices != sorted(set(indices)):
        raise ValueError(f"its indices are {indices!r:.80}: 1 to {PICTURES}, ascending")
    for name in per_image:
        if len(row[name]) != len(indices):
            raise ValueError(f"{name} holds {len(row[name])} numbers for {len(indices)} pictures")
    match row["shape"]:
        case [channels, height, width] if 1 <= channels * height * width <= LARGEST_PICTURE:
            return channels, height, width
    raise ValueError(f"its shape is {row['shape']!r:.80}")


def _size(row: Row) -> int:
    return len(row["indices"]) * math.prod(row["shape"])


def _packed(pixels: bytes, row: Row) -> bytes:
    if len(pixels) != _size(row):
        raise ValueError(f"{len(pixels)} bytes are not {len(row['indices'])} images of its shape")
    return zlib.compress(pixels, 9)


def _unpacked(packed: bytes, size: int) -> bytes:
    """The `size` bytes that were packed; no more is ever unpacked.

    Raises:
        ValueError: the bytes are damaged, or hold fewer or more.
    """
    if len(packed) > size + _OVERHEAD:
        raise ValueError(f"{len(packed)} bytes of pixels where {size} would do")
    machine = zlib.decompressobj()
    try:
        pixels = machine.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(f"its pixels are damaged: {error}") from error
    if len(pixels) != size or not machine.eof or machine.unused_data:
        raise ValueError(f"its pixels are not the {size} bytes of its shape")
    return pixels


def picture_problems(found: AdversarialGallery, clean: Gallery | None) -> Iterator[str]:
    """How adversarial pictures contradict the clean ones beside them, one sentence each."""
    if clean is None:
        yield "the clean pictures beside them are not stored"
        return
    if found.shape != clean.shape:
        yield f"their shape is {found.shape}, that of the clean ones {clean.shape}"
        return
    places = {index: place for place, index in enumerate(clean.indices)}
    for place, index in enumerate(found.indices):
        if index not in places:
            yield f"of image {index} there is no clean picture"
            continue
        if found.broken[place] and found.predicted[place] == clean.labels[places[index]]:
            yield f"image {index} is broken, but is decided rightly"
        distance = _distance(_picture(found, place), _picture(clean, places[index]), found.threat)
        if distance > float(found.threat.epsilon) + _ROUNDING:
            yield f"image {index} is {distance:.6g} from the clean one, further than epsilon"


def _picture(gallery: Gallery | AdversarialGallery, place: int) -> NDArray[np.int64]:
    size = math.prod(gallery.shape)
    pixels = np.frombuffer(gallery.pixels, dtype=np.uint8, count=size, offset=place * size)
    return pixels.astype(np.int64)


def _distance(first: NDArray[np.int64], second: NDArray[np.int64], threat: ThreatModel) -> float:
    """In the norm of the threat, on the [0, 1] pixel scale."""
    difference = np.abs(first - second)
    levels = math.sqrt(int((difference**2).sum())) if threat.norm == "l2" else difference.max()
    return float(levels) / 255
