"""Images: every encoding against cv2's conversions, shared memory, a sentence for each broken message."""

from __future__ import annotations

import array
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camtrack_core.encoded import Undecodable
from camtrack_core.errors import ImageError
from camtrack_core.ros.messages import image as images
from camtrack_core.ros.messages.image import (
    ENCODINGS,
    UnknownEncoding,
    WrongSize,
    ZeroStamp,
    compressed_to_bgr,
    fill_compressed,
    fill_image,
    measurement_time,
    to_bgr,
)

SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 9), st.integers(0, 2**32 - 1))


def image_message(encoding: str, rows: np.ndarray, height: int, width: int, big_endian: bool = False):
    """A message of `rows`, a (rows, step) uint8 array."""
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=rows.shape[1],
        data=array.array("B", rows.tobytes()),
    )


def padded(pixels: np.ndarray, padding: int) -> np.ndarray:
    """Rows of bytes of an image, each followed by bytes that belong to no pixel."""
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)


def noise(seed: int, *shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@given(SIZES)
def test_bgr8_is_a_view_of_the_message(size):
    height, width, padding, seed = size
    pixels = noise(seed, height, width, 3)
    message = image_message("bgr8", padded(pixels, padding), height, width)

    image = to_bgr(message)

    assert image.dtype == np.uint8 and np.array_equal(image, pixels)
    message.data[0] ^= 0xFF
    assert image[0, 0, 0] == message.data[0], "expected shared memory"


@pytest.mark.parametrize(
    ("encoding", "channels", "conversion"),
    [
        ("rgb8", 3, cv2.COLOR_RGB2BGR),
        ("rgba8", 4, cv2.COLOR_RGBA2BGR),
        ("bgra8", 4, cv2.COLOR_BGRA2BGR),
        ("mono8", 1, cv2.COLOR_GRAY2BGR),
    ],
)
@given(size=SIZES)
@settings(max_examples=25)
def test_packed_encodings_equal_cv2(encoding, channels, conversion, size):
    height, width, padding, seed = size
    pixels = noise(seed, height, width, channels)
    message = image_message(encoding, padded(pixels, padding), height, width)
    assert np.array_equal(to_bgr(message), cv2.cvtColor(pixels, conversion))


@pytest.mark.parametrize(
    ("encoding", "conversion"),
    [
        ("yuv422", cv2.COLOR_YUV2BGR_UYVY),
        ("uyvy", cv2.COLOR_YUV2BGR_UYVY),
        ("yuv422_yuy2", cv2.COLOR_YUV2BGR_YUYV),
        ("yuyv", cv2.COLOR_YUV2BGR_YUYV),
    ],
)
@given(size=SIZES)
@settings(max_examples=25)
def test_yuv422_equals_cv2(encoding, conversion, size):
    height, half_width, padding, seed = size
    pixels = noise(seed, height, 2 * half_width, 2)
    message = image_message(encoding, padded(pixels, padding), height, 2 * half_width)
    assert np.array_equal(to_bgr(message), cv2.cvtColor(pixels, conversion))


@pytest.mark.parametrize(
    ("encoding", "conversion"), [("nv12", cv2.COLOR_YUV2BGR_NV12), ("nv21", cv2.COLOR_YUV2BGR_NV21)]
)
@given(size=SIZES)
@settings(max_examples=25)
def test_semiplanar_encodings_equal_cv2(encoding, conversion, size):
    half_height, half_width, padding, seed = size
    planes = noise(seed, 3 * half_height, 2 * half_width)
    message = image_message(encoding, padded(planes, padding), 2 * half_height, 2 * half_width)
    assert np.array_equal(to_bgr(message), cv2.cvtColor(planes, conversion))


@pytest.mark.parametrize("big_endian", [False, True])
@given(size=SIZES)
@settings(max_examples=25)
def test_mono16_keeps_the_upper_byte_in_both_byte_orders(big_endian, size):
    height, width, padding, seed = size
    values = noise(seed, height, width, dtype=np.uint16)
    rows = padded(values.astype(">u2" if big_endian else "<u2"), padding)
    message = image_message("mono16", rows, height, width, big_endian)
    grey = np.rint(values / 65535 * 255).astype(np.uint8)
    assert np.array_equal(to_bgr(message), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bgr", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (30, 90, 200)])
def test_bayer_patterns_give_the_colour_back(pattern, bgr):
    """A mosaic of one colour, built from the pattern's letters, not from cv2's names."""
    mosaic = np.empty((8, 10), np.uint8)
    for index, letter in enumerate(pattern):
        mosaic[index // 2 :: 2, index % 2 :: 2] = bgr["bgr".index(letter)]
    image = to_bgr(image_message(f"bayer_{pattern}8", padded(mosaic, 3), 8, 10))
    assert np.array_equal(image, np.full((8, 10, 3), bgr, np.uint8))


@pytest.mark.parametrize("encoding", ["rgb8; png compressed bgr8", "png", "bgr8; png compressed bgr8"])
def test_png_is_lossless(encoding):
    pixels = noise(1, 12, 17, 3)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    assert np.array_equal(compressed_to_bgr(SimpleNamespace(format=encoding, data=data)), pixels)


def test_png_stored_as_rgb_is_swapped():
    pixels = noise(1, 12, 17, 3)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    message = SimpleNamespace(format="rgb8; png compressed rgb8", data=data)
    assert np.array_equal(compressed_to_bgr(message), pixels[..., ::-1])


@pytest.mark.parametrize("encoding", ["jpeg", "jpg", "bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed bgr8"])
def test_jpeg_equals_cv2(encoding):
    data = cv2.imencode(".jpg", noise(2, 32, 48, 3))[1]
    message = SimpleNamespace(format=encoding, data=array.array("B", data.tobytes() + bytes(3)))
    assert np.array_equal(compressed_to_bgr(message), cv2.imdecode(data, cv2.IMREAD_COLOR))


@given(SIZES)
def test_an_array_survives_the_way_through_a_message(size):
    height, width, padding, seed = size
    for pixels in (noise(seed, height, width + padding, 3)[:, :width], noise(seed, height, width)):
        message = fill_image(SimpleNamespace(), pixels)
        assert isinstance(message.data, array.array) and len(message.data) == height * message.step
        expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
        assert np.array_equal(to_bgr(message), expected)


def test_a_compressed_array_survives_nearly():
    pixels = cv2.GaussianBlur(noise(3, 64, 80, 3), (0, 0), 6)
    image = compressed_to_bgr(fill_compressed(SimpleNamespace(), pixels))
    assert np.abs(image.astype(int) - pixels).mean() < 3


def test_measurement_time():
    header = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=5))
    assert measurement_time(SimpleNamespace(header=header)) == 3_000_000_005
    header.stamp.sec = header.stamp.nanosec = 0
    with pytest.raises(ZeroStamp, match="expected the time of the measurement"):
        measurement_time(SimpleNamespace(header=header))


def broken(**changes):
    message = image_message("bgr8", noise(0, 4, 18), 4, 6)
    return SimpleNamespace(**{**vars(message), **changes})


@pytest.mark.parametrize(
    ("message", "kind", "sentence"),
    [
        (broken(data=bytes(71)), WrongSize, "expected 72 bytes for bgr8 6x4 with step 18, got 71"),
        (broken(data=bytes(73)), WrongSize, "expected 72 bytes for bgr8 6x4 with step 18, got 73"),
        (broken(data=b""), WrongSize, "got 0"),
        (broken(step=17), WrongSize, "expected a step of at least 18 bytes for bgr8 6x4, got 17"),
        (broken(height=0, data=b""), WrongSize, "expected an image of at least 1x1 pixel, got bgr8 6x0"),
        (broken(width=0), WrongSize, "expected an image of at least 1x1 pixel, got bgr8 0x4"),
        (
            broken(encoding="yuv422", width=5),
            WrongSize,
            "expected an even size for the yuv422 layout, got 5x4",
        ),
        (broken(encoding="nv12", height=3), WrongSize, "expected an even size for the nv12 layout, got 6x3"),
        (broken(encoding="32FC1"), UnknownEncoding, "expected one of the encodings bgr8, .*, got '32FC1'"),
        (broken(encoding=""), UnknownEncoding, "got ''"),
    ],
)
def test_broken_images_get_a_sentence(message, kind, sentence):
    with pytest.raises(kind, match=sentence) as caught:
        to_bgr(message)
    assert isinstance(caught.value, ImageError) and caught.value.cause


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_truncated_data_of_every_encoding(encoding):
    with pytest.raises(WrongSize, match=r"expected \d+ bytes for .*, got 50"):
        to_bgr(broken(encoding=encoding, step=24, data=bytes(50)))


JPEG, PNG = (cv2.imencode(kind, noise(0, 40, 40, 3))[1].tobytes() for kind in (".jpg", ".png"))


@pytest.mark.parametrize(
    ("encoding", "data", "kind", "sentence"),
    [
        ("jpeg", JPEG[:-500], Undecodable, "expected a whole image, got .* bytes without its end"),
        ("png", PNG[:-500], Undecodable, "expected a whole image"),
        ("jpeg", b"", Undecodable, "got 0 bytes"),
        ("jpeg", b"no picture \xff\xd9", Undecodable, "bytes that cannot be decoded"),
        ("h264", JPEG, UnknownEncoding, "expected a jpeg or png CompressedImage, got the format 'h264'"),
        ("16UC1; compressedDepth png", PNG, UnknownEncoding, "compressedDepth"),
        ("", JPEG, UnknownEncoding, "got the format ''"),
    ],
)
def test_broken_compressed_images_get_a_sentence(encoding, data, kind, sentence):
    with pytest.raises(kind, match=sentence):
        compressed_to_bgr(SimpleNamespace(format=encoding, data=data))


@pytest.fixture
def bridge(monkeypatch):
    """Puts a module in the place of cv_bridge; counts how often its CvBridge is made."""
    made = []

    def use(convert) -> list:
        def make():
            made.append(1)
            if convert is None:
                raise ImportError("built against another numpy")
            return SimpleNamespace(imgmsg_to_cv2=convert)

        monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=make))
        return made

    images._cv_bridge.cache_clear()
    yield use
    images._cv_bridge.cache_clear()


def test_what_this_module_does_not_know_cv_bridge_converts(bridge):
    made = bridge(lambda message, encoding: np.full((4, 6, 3), 7, np.uint8) if encoding == "bgr8" else None)
    for _ in range(3):
        assert (to_bgr(broken(encoding="32FC1")) == 7).all()
    assert len(made) == 1


def test_a_cv_bridge_that_refuses_or_does_not_load_is_a_sentence_and_asked_once(bridge):
    def refuse(message, encoding):
        raise TypeError("not 32FC1")

    bridge(refuse)
    with pytest.raises(UnknownEncoding, match="which cv_bridge does not convert either: not 32FC1"):
        to_bgr(broken(encoding="32FC1"))
    images._cv_bridge.cache_clear()
    made = bridge(None)
    made.clear()
    for _ in range(3):
        with pytest.raises(UnknownEncoding, match=r"got '32FC1'$"):
            to_bgr(broken(encoding="32FC1"))
    assert len(made) == 1
