"""One picture with all kept images of an evaluation: clean, adversarial and their difference."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.identity import AdversarialGallery, Gallery

ROWS = ("clean", "adversarial", "difference")
"""From the top of the sheet; a column per image."""

LARGEST_TILE = 112
"""Pixels: larger images are averaged down, so that a sheet of 24 stays below half a megabyte."""

MOST = 8
"""How many times a difference is amplified at most."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sheet:
    """The pictures that both galleries have, ready to be written.

    Args:
        indices: of the test images, one column each.
        pixels: uint8 [n, 3, C, H, W], for each image what `ROWS` names.
        amplified: by how much the difference was multiplied, around grey.
        tile: width and height of one picture on the sheet.
    """

    indices: tuple[int, ...]
    pixels: Pixels
    amplified: int
    tile: tuple[int, int]

    @property
    def is_reduced(self) -> bool:
        """Whether its pictures are smaller than the images."""
        return self.tile != (self.pixels.shape[-1], self.pixels.shape[-2])


def sheet_of(clean: Gallery, attacked: AdversarialGallery) -> Sheet | None:
    """The images that both galleries show; None where there is none, or no colour is known."""
    common = sorted(set(clean.indices) & set(attacked.indices))
    if not common or clean.shape != attacked.shape or clean.shape[0] not in {1, 3}:
        return None
    before, after = _chosen(clean, common), _chosen(attacked, common)
    moved = after.astype(np.int64) - before
    amplified = max(1, min(MOST, 127 // max(int(np.abs(moved).max()), 1)))
    difference = (128 + amplified * moved).clip(0, 255).astype(np.uint8)
    stacked = np.stack([before, after, difference], axis=1)
    return Sheet(tuple(common), stacked, amplified, _tile(*clean.shape[1:]))


def png(sheet: Sheet) -> bytes:
    """The sheet as a PNG: `ROWS` from the top, the images from the left."""
    count, rows, channels, height, width = sheet.pixels.shape
    across, down = sheet.tile
    picture = Image.new("L" if channels == 1 else "RGB", (count * across, rows * down))
    for column, row in np.ndindex(count, rows):
        one = sheet.pixels[column, row]
        tile = Image.fromarray(one[0] if channels == 1 else one.transpose(1, 2, 0).copy())
        if (width, height) != sheet.tile:
            tile = tile.resize(sheet.tile, Image.Resampling.BOX)
        picture.paste(tile, (column * across, row * down))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _chosen(gallery: Gallery | AdversarialGallery, indices: list[int]) -> Pixels:
    """[n, C, H, W] of these images."""
    pixels = np.frombuffer(gallery.pixels, dtype=np.uint8)
    places = [gallery.indices.index(index) for index in indices]
    return pixels.reshape(len(gallery.indices), *gallery.shape)[places]


def _tile(height: int, width: int) -> tuple[int, int]:
    """Width and height on the sheet, at most `LARGEST_TILE`, at least 1."""
    factor = min(1.0, LARGEST_TILE / max(height, width))
    return max(1, round(factor * width)), max(1, round(factor * height))
