"""Encoded images: one decoder for files and messages; whole or not at all, turned or as they lie."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from camtrack_core.encoded import Undecodable, decode, decode_upright
from camtrack_core.ros.messages.image import UnknownEncoding, compressed_to_bgr, to_bgr

PICTURE = cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, (40, 60, 3), np.uint8), (9, 9), 4)
WIDTH, HEIGHT = 60, 40
QUARTER_TURN = 6  # of EXIF: to be shown turned clockwise


def encoded(suffix: str, pixels: np.ndarray = PICTURE) -> bytes:
    return cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF segment of one entry."""
    entry = struct.pack(">HHLHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08" + struct.pack(">H", 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("zeros", [0, 3, 200, 70_000])
def test_zeros_behind_the_end_do_no_harm(suffix: str, zeros: int) -> None:
    """As USB cameras send, whose buffers are larger than the image."""
    data = encoded(suffix)
    assert np.array_equal(decode(data + bytes(zeros)), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("zeros", [0, 200])
def test_a_missing_end_is_told_from_zeros(suffix: str, zeros: int) -> None:
    with pytest.raises(Undecodable, match="without its end"):
        decode(encoded(suffix)[:-40] + bytes(zeros))


def test_the_end_of_a_thumbnail_is_not_that_of_the_image() -> None:
    whole, small = encoded(".jpg"), encoded(".jpg", PICTURE[:8, :8])
    exif = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    assert decode(whole[:2] + exif + whole[2:]).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(Undecodable, match="without its end"):
        decode((whole[:2] + exif + whole[2:])[:-40])


def test_the_stated_size_says_whether_an_image_is_turned() -> None:
    data = with_orientation(encoded(".jpg"), QUARTER_TURN)
    assert np.array_equal(decode_upright(data, (WIDTH, HEIGHT)), decode(encoded(".jpg")))
    turned = cv2.rotate(decode(encoded(".jpg")), cv2.ROTATE_90_CLOCKWISE)
    assert np.array_equal(decode_upright(data, (HEIGHT, WIDTH)), turned)
    assert np.array_equal(decode_upright(data), turned)
    with pytest.raises(Undecodable, match="expected an image of 60x60 pixels, got 60x40"):
        decode_upright(data, (60, 60))


def test_messages_hold_pixels_as_they_lie() -> None:
    message = SimpleNamespace(format="jpeg", data=with_orientation(encoded(".jpg"), QUARTER_TURN))
    assert np.array_equal(compressed_to_bgr(message), decode(encoded(".jpg")))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("stored", ["", " mono8", " bayer"])
def test_a_compressed_mosaic_has_the_colours_of_the_raw_one(pattern: str, stored: str) -> None:
    encoding = f"bayer_{pattern}8"
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for index, letter in enumerate(pattern):
        mosaic[index // 2 :: 2, index % 2 :: 2] = (30, 90, 200)["bgr".index(letter)]
    raw = SimpleNamespace(
        encoding=encoding, height=HEIGHT, width=WIDTH, step=WIDTH, is_bigendian=0, data=mosaic.tobytes()
    )
    stored = stored.replace("bayer", encoding)
    message = SimpleNamespace(format=f"{encoding}; png compressed{stored}", data=encoded(".png", mosaic))
    assert np.array_equal(compressed_to_bgr(message), to_bgr(raw))
    lossy = SimpleNamespace(format=f"{encoding}; jpeg compressed{stored}", data=encoded(".jpg", mosaic))
    assert np.abs(compressed_to_bgr(lossy).astype(int) - to_bgr(raw)).mean() < 2


def test_a_mosaic_whose_colours_are_made_already_is_taken_as_it_is() -> None:
    message = SimpleNamespace(format="bayer_rggb8; png compressed bgr8", data=encoded(".png"))
    assert np.array_equal(compressed_to_bgr(message), PICTURE)


def test_a_mosaic_of_unknown_depth_is_refused() -> None:
    message = SimpleNamespace(format="bayer_rggb16; png compressed", data=encoded(".png"))
    with pytest.raises(UnknownEncoding, match="got 'bayer_rggb16; png compressed'"):
        compressed_to_bgr(message)
