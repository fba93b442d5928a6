"""Corruptions made here, where there are no published files: the same pixels for the same image.

The `imagecorruptions` library draws the pictures, with the severities of ImageNet-C whatever the
size of the image. CIFAR-10-C uses weaker ones, so what is generated is never called published.
"""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray

from harness.corruptions import Corruption
from harness.data.splits import Split, sha256
from harness.errors import HarnessError, first_line
from harness.identity import digest

PACKAGE = "imagecorruptions-imaug"
"""The maintained fork of bethgelab's package; both import as `imagecorruptions`."""

LEAST_SIDE = 32
"""Pixels along the shortest side for which the library is documented."""

_PROBES = 8
"""Images in a fingerprint: frost chooses between six textures."""

Image = NDArray[np.uint8]


class Generated:
    """Corrupted test images that are made when they are asked for.

    Where the strength of a corruption is a length, an image below `LEAST_SIDE` is drawn larger by
    a whole factor, corrupted, and averaged back: 28 x 28 as 56 x 56, 8 x 8 as 32 x 32. A disk of
    3 pixels would leave nothing of a digit. All others act on the image as it is.

    A grey image is corrupted in colour, of which the green channel stays: the nearest to
    brightness, and a mean of the three would weaken independent noise.

    Raises:
        HarnessError: the library is not installed.
    """

    pixels = "generated"

    def __init__(self, split: Split) -> None:
        self._name, self._images = split.dataset, split.images
        self.made_by = _library()[1]

    def fingerprint(self, corruption: Corruption, severity: int) -> str:
        """SHA-256 of what this machine's libraries make of a fixed pattern.

        Part of the identity of every outcome: where another version draws other pixels, results
        are not mixed.

        Raises:
            HarnessError: the images are grey and only colours would change.
        """
        _, channels, height, width = self._images.shape
        if corruption.is_colour and channels == 1:
            raise HarnessError(
                f"{corruption.name} changes colours, and the images of {self._name} are grey: "
                "leave it away."
            )
        pattern = _pattern(height, width, channels)
        made = [corrupt_image(pattern, corruption, severity, index) for index in range(_PROBES)]
        return sha256(np.stack(made))

    def read(self, corruption: Corruption, severity: int, first: int, last: int) -> Image:
        """Images first to last - 1, [last - first, H, W, C]."""
        clean = self._images[first:last].numpy().transpose(0, 2, 3, 1)
        made = [
            corrupt_image(image, corruption, severity, first + number)
            for number, image in enumerate(clean)
        ]
        return np.stack(made)


def corrupt_image(image: Image, corruption: Corruption, severity: int, index: int) -> Image:
    """One corrupted image; a function of its arguments alone.

    Args:
        image: [H, W, C] uint8.
        corruption: which one.
        severity: 1 to 5.
        index: of the image in its split; seeds the randomness together with name and severity.

    Returns:
        [H, W, C] uint8.
    """
    draw, _ = _library()
    seed = int(digest([corruption.name, severity, index])[:8], 16)
    factor = max(1, -(-LEAST_SIDE // min(image.shape[:2]))) if corruption.is_length else 1
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    coloured = np.ascontiguousarray(np.broadcast_to(large, (*large.shape[:2], 3)))
    with _seeded(seed), contextlib.redirect_stdout(io.StringIO()):
        made = draw(coloured, corruption.name, severity, seed)
    return _averaged(made[..., 1:2] if image.shape[2] == 1 else made, factor)


def _averaged(image: Image, factor: int) -> Image:
    """[H f, W f, C] -> [H, W, C], the mean of each block, rounded."""
    height, width, channels = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    averaged: Image = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return averaged


def _pattern(height: int, width: int, channels: int) -> Image:
    """Stripes, a slope and fine detail, the same everywhere."""
    row, column, channel = np.indices((height, width, channels))
    pattern: Image = ((7 * row + 13 * column + 29 * channel + row * column) % 256).astype(np.uint8)
    return pattern


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The library draws from NumPy's global generator: lend it one that nobody misses."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        # Where nothing spatters it divides by zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            yield
    finally:
        np.random.set_state(before)


@lru_cache(maxsize=1)
def _library() -> tuple[Callable[[Image, str, int, int], Image], str]:
    """(image, name, severity, seed) -> corrupted image; and the library in words."""
    try:
        import imagecorruptions  # noqa: PLC0415 - optional, and a second to import

        found = f"{PACKAGE} {version(PACKAGE)}"
    except (ImportError, PackageNotFoundError) as error:
        raise HarnessError(
            f"there are no files of corrupted images, and {PACKAGE}, which generates them, cannot "
            f"be used ({first_line(error)}). Name the files with --corrupted-dir, or install it: "
            "pip install 'robust-harness[corruptions]'."
        ) from error

    def corrupted(image: Image, name: str, severity: int, seed: int) -> Image:
        function = imagecorruptions.corruption_dict[name]
        # Those that do not draw from the global generator take a seed of their own.
        own = {"seed": seed} if "seed" in inspect.signature(function).parameters else {}
        # As the library's `corrupt` does, which would refuse small images.
        made = np.asarray(function(fromarray(image), severity, **own))
        pixels: Image = np.nan_to_num(made).astype(np.uint8)
        return pixels

    return corrupted, found
