import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from harness.data import decoding
from harness.data.decoding import decode, decode_all, measure
from harness.errors import HarnessError


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def png(width, height, depth, colour, rows):
    """A PNG file put together by hand, so that its header can say anything."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_lossless_image_is_decoded_to_its_bytes(image, encode, kind):
    assert np.array_equal(decode(encode(image, kind), (3, 6, 5), "it"), image)
    assert measure(encode(image, kind), "it") == (3, 6, 5)


def test_a_jpeg_is_decoded_as_pillow_does(image, encode):
    data = encode(image, "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data, (3, 6, 5), "it"), expected)


def test_a_grey_image_stays_grey_or_becomes_three_equal_channels(image, encode):
    grey = image[:, :, :1]
    assert np.array_equal(decode(encode(grey), (1, 6, 5), "it"), grey)
    assert np.array_equal(decode(encode(grey), (3, 6, 5), "it"), grey.repeat(3, axis=2))


def test_a_colour_image_is_never_turned_grey(image, encode):
    with pytest.raises(HarnessError, match="colour image in a grey dataset"):
        decode(encode(image), (1, 6, 5), "it")


def test_sixteen_bits_are_refused_in_grey_and_in_colour():
    grey = png(2, 1, 16, 0, bytes(5))
    colour = png(2, 1, 16, 2, bytes(13))
    assert Image.open(io.BytesIO(colour)).mode == "RGB"  # the trap
    for data in (grey, colour):
        with pytest.raises(HarnessError, match="16 bits per channel: images must be 8-bit"):
            measure(data, "it")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused(mode):
    buffer = io.BytesIO()
    Image.new(mode, (5, 6)).save(buffer, "PNG")
    with pytest.raises(HarnessError, match="without transparency"):
        measure(buffer.getvalue(), "it")


def test_float_images_and_other_formats_are_refused():
    buffer = io.BytesIO()
    Image.new("F", (5, 6)).save(buffer, "TIFF")
    with pytest.raises(HarnessError, match="unknown format"):
        measure(buffer.getvalue(), "it")


def test_an_image_of_another_size_is_refused_before_it_is_decoded(monkeypatch):
    bomb = png(30_000, 30_000, 8, 0, b"")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(HarnessError, match=r"it is 30000 x 30000 pixels|is no whole"):
        decode(bomb, (3, 6, 5), "it")
    with pytest.raises(HarnessError, match="it is 6000 x 6000 pixels"):
        decode(png(6000, 6000, 8, 0, b""), (3, 6, 5), "it")


def test_an_image_of_unknown_size_is_refused_above_the_limit():
    with pytest.raises(HarnessError, match="at most 4096 a side"):
        measure(png(5000, 2, 8, 0, b""), "it")


def test_every_truncation_of_an_image_is_refused(image, encode):
    for kind in ("PNG", "JPEG", "BMP"):
        data = encode(image, kind)
        for length in range(0, len(data) - 20, 7):
            with pytest.raises(HarnessError, match="it "):
                decode(data[:length], (3, 6, 5), "it")


def test_damage_ends_in_pixels_or_in_a_sentence_never_in_a_traceback(image, encode):
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        whole = np.frombuffer(encode(image, kind), np.uint8)
        for _ in range(150):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 3)] = random.integers(0, 256, 3)
            try:
                assert decode(damaged.tobytes(), (3, 6, 5), "it").shape == (6, 5, 3)
            except HarnessError:
                continue


def test_fewer_images_than_announced_are_an_error(image, encode):
    items = [("a", encode(image)), ("b", encode(image))]
    assert len(decode_all(items, 2, (3, 6, 5))) == 2
    with pytest.raises(HarnessError, match="only 2 of 3 images"):
        decode_all(items, 3, (3, 6, 5))


def test_a_split_that_would_not_fit_into_memory_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(decoding, "LIMIT", 1000)
    with pytest.raises(HarnessError, match="must fit into memory"):
        decode_all([], 100, (3, 6, 5))
