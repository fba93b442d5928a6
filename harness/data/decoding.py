"""Encoded images to uint8 arrays: measured before they are decoded, never with loss."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from harness.errors import HarnessError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
LIMIT = 16 * 1024**3
"""Bytes of the largest split that is decoded: a split lives in memory."""

MAX_SIDE = 4096
"""Pixels along an image whose size nobody declared; decoding larger ones could fill the memory."""

_CHANNELS = {"L": 1, "1": 1, "RGB": 3, "P": 3, "CMYK": 3}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH = 24  # offset of the bit depth in a PNG file


def measure(data: bytes, where: str) -> tuple[int, int, int]:
    """(C, H, W) of an encoded image, from its header alone; C is 1 for grey and 3 for colour.

    Args:
        data: the encoded image.
        where: its name, for errors.

    Raises:
        HarnessError: it is no 8-bit image of an allowed format, carries transparency, or is
            larger than `MAX_SIDE`.
    """
    channels, height, width = _measure(_open(data, where), data, where)
    if max(height, width) > MAX_SIDE:
        raise HarnessError(
            f"{where} is {width} x {height} pixels: at most {MAX_SIDE} a side are read."
        )
    return channels, height, width


def decode(data: bytes, shape: tuple[int, int, int], where: str) -> NDArray[np.uint8]:
    """The pixels of an encoded image that must have `shape`.

    A grey image of a colour dataset gets three equal channels (Tiny-ImageNet has many).

    Args:
        data: the encoded image.
        shape: (C, H, W) that it must have; checked on the header, so that a small file which
            would decode to a huge image never does.
        where: its name, for errors.

    Returns:
        [H, W, C].

    Raises:
        HarnessError: it is no 8-bit image of an allowed format, is truncated, or has another
            size, or colour where the dataset is grey.
    """
    image = _open(data, where)
    channels, height, width = _measure(image, data, where)
    if (height, width) != shape[1:]:
        raise HarnessError(
            f"{where} is {width} x {height} pixels, but every image must be "
            f"{shape[2]} x {shape[1]}: resize it, or leave it away."
        )
    if channels > shape[0]:
        raise HarnessError(f"{where} is a colour image in a grey dataset: all must be of one kind.")
    try:
        pixels = np.asarray(image.convert("L" if shape[0] == 1 else "RGB"))
    except Exception as error:
        raise _unreadable(where, error) from error
    return pixels.reshape(height, width, shape[0])


def decode_all(
    items: Iterable[tuple[str, bytes]], count: int, shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Decode `count` images of one shape into one array.

    Args:
        items: (name for errors, encoded image).
        count: N, how many `items` yields.
        shape: (C, H, W) of each.

    Returns:
        [N, H, W, C].

    Raises:
        HarnessError: see `decode`; or together they would not fit into memory.
    """
    channels, height, width = shape
    if count * channels * height * width > LIMIT:
        raise HarnessError(
            f"{count} images of {width} x {height} need more than {LIMIT // 1024**3} GiB: "
            "a split must fit into memory."
        )
    images = np.empty((count, height, width, channels), np.uint8)
    index = -1
    for index, (where, data) in zip(range(count), items, strict=False):
        images[index] = decode(data, shape, where)
    if index + 1 < count:
        raise HarnessError(f"only {index + 1} of {count} images are there: the files are damaged.")
    return images


def _open(data: bytes, where: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # decoders raise nearly anything at broken files
        raise _unreadable(where, error) from error


def _measure(image: Image.Image, data: bytes, where: str) -> tuple[int, int, int]:
    if data.startswith(_PNG_SIGNATURE) and data[_PNG_BIT_DEPTH] > 8:
        # Pillow opens a 16-bit colour PNG as 8-bit RGB without a word.
        raise HarnessError(
            f"{where} has {data[_PNG_BIT_DEPTH]} bits per channel: images must be 8-bit."
        )
    if "transparency" in image.info or image.mode not in _CHANNELS:
        raise HarnessError(
            f"{where} has pixels of kind '{image.mode}': images must be 8-bit grey or RGB, "
            "without transparency."
        )
    return _CHANNELS[image.mode], image.height, image.width


def _unreadable(where: str, error: Exception) -> HarnessError:
    # Pillow's own sentence for an unknown format names an address in memory.
    reason = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
    return HarnessError(f"{where} is no whole {', '.join(FORMATS)} image ({reason}).")
