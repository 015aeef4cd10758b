"""Image messages to arrays and back.

The functions read and write the fields of sensor_msgs Image and CompressedImage and need no ROS themselves.
Images are (H, W, 3) uint8, BGR. A message that cannot be turned into pixels raises ImageError, by kind of
fault so that drops can be counted.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from camtrack_core.encoded import Image, decode
from camtrack_core.errors import ImageError
from camtrack_core.ros.messages.stamps import to_nanoseconds

# encoding -> (bytes a pixel, cv2's conversion to BGR). cv2 names a Bayer pattern after the second row's
# second and third pixel, ROS after the first row's first two: rggb is cv2's BG.
_PACKED: dict[str, tuple[int, int]] = {
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    "yuv422": (2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2BGR_YUY2),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2BGR),
}
_SEMIPLANAR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "nv21": cv2.COLOR_YUV2BGR_NV21}
ENCODINGS = ("bgr8", "mono16", *_PACKED, *_SEMIPLANAR)

_CODECS = ("jpeg", "jpg", "png")
_MOSAIC = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION


class UnknownEncoding(ImageError):
    """An encoding that neither this module nor the host's cv_bridge converts."""

    cause = "unknown encoding"


class WrongSize(ImageError):
    """Height, width, step and the amount of data do not fit together."""

    cause = "wrong size"


class ZeroStamp(ImageError):
    """A message without a stamp: its pixels cannot be placed in time."""

    cause = "zero stamp"


def measurement_time(message: Any) -> int:
    """The stamp of a message with a header, in nanoseconds. Raises ZeroStamp."""
    time_ns = to_nanoseconds(message.header.stamp)
    if time_ns <= 0:
        raise ZeroStamp(f"expected the time of the measurement in header.stamp, got {time_ns} ns")
    return time_ns


def to_bgr(message: Any) -> Image:
    """Pixels of an Image message, (H, W, 3) uint8.

    For bgr8, with or without padded rows, this is a view of the message's data: copy it before drawing on it.
    16-bit grey values are scaled to 8 bits. Raises ImageError.
    """
    encoding = message.encoding
    if encoding == "bgr8":
        return _rows(message, 3).reshape(message.height, message.width, 3)
    if encoding == "mono16":
        return _mono16(message)
    if encoding in _PACKED:
        return _packed(message, *_PACKED[encoding])
    if encoding in _SEMIPLANAR:
        return _semiplanar(message, _SEMIPLANAR[encoding])
    return _by_cv_bridge(message)


def compressed_to_bgr(message: Any) -> Image:
    """Pixels of a CompressedImage message (jpeg or png) as they lie, (H, W, 3) uint8.

    The format is a codec ("jpeg") or image_transport's "<encoding>; <codec> compressed <stored encoding>"; where a
    Bayer pattern is stored as it is, its colours are made as those of the raw image. Raises ImageError.
    """
    encoding, stored = _compression(message.format)
    if encoding.startswith("bayer_") and stored in ("", "mono8", encoding):
        if encoding not in _PACKED:
            raise UnknownEncoding(f"expected one of the encodings {', '.join(ENCODINGS)}, got '{message.format}'")
        return _convert(decode(message.data, _MOSAIC), _PACKED[encoding][1])
    image = decode(message.data)
    return _convert(image, cv2.COLOR_RGB2BGR) if stored.startswith("rgb") else image


def fill_image(message: Any, image: Image) -> Any:
    """Write a (H, W, 3) BGR or (H, W) grey uint8 array into an Image message and return the message."""
    message.height, message.width = image.shape[:2]
    message.encoding = "bgr8" if image.ndim == 3 else "mono8"
    message.is_bigendian = 0
    message.step = image.shape[1] * (image.shape[2] if image.ndim == 3 else 1)
    # The one fast way into the message: rclpy checks every element of anything but an array.array.
    message.data = array.array("B")
    message.data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    return message


def fill_compressed(message: Any, image: Image, quality: int = 90) -> Any:
    """Write a (H, W, 3) BGR uint8 array as JPEG into a CompressedImage message and return the message."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    message.format = "bgr8; jpeg compressed bgr8"
    message.data = array.array("B")
    message.data.frombytes(data.data.cast("B"))
    return message


def _rows(message: Any, pixel_bytes: int, rows_per_height: float = 1) -> Image:
    """(rows, width * pixel_bytes) uint8 view of a message without its padding. Raises WrongSize."""
    height, width, step = message.height, message.width, message.step
    what = f"{message.encoding} {width}x{height}"
    if height < 1 or width < 1:
        raise WrongSize(f"expected an image of at least 1x1 pixel, got {what}")
    if step < width * pixel_bytes:
        raise WrongSize(f"expected a step of at least {width * pixel_bytes} bytes for {what}, got {step}")
    rows = int(height * rows_per_height)
    if len(message.data) != rows * step:
        raise WrongSize(f"expected {rows * step} bytes for {what} with step {step}, got {len(message.data)}")
    return np.frombuffer(message.data, np.uint8).reshape(rows, step)[:, : width * pixel_bytes]


def _convert(pixels: Image, conversion: int) -> Image:
    return cv2.cvtColor(pixels, conversion)  # type: ignore[return-value]


def _packed(message: Any, pixel_bytes: int, conversion: int) -> Image:
    if pixel_bytes == 2:
        _require_even(message, message.width)
    rows = _rows(message, pixel_bytes)
    if pixel_bytes > 1:
        rows = rows.reshape(message.height, message.width, pixel_bytes)
    return _convert(rows, conversion)


def _semiplanar(message: Any, conversion: int) -> Image:
    _require_even(message, message.width, message.height)
    return _convert(_rows(message, 1, 1.5), conversion)


def _mono16(message: Any) -> Image:
    rows = np.ascontiguousarray(_rows(message, 2)).view(">u2" if message.is_bigendian else "<u2")
    grey = cv2.convertScaleAbs(rows.astype(np.uint16, copy=False), alpha=1 / 257)  # 65535 becomes 255
    return _convert(np.asarray(grey, np.uint8), cv2.COLOR_GRAY2BGR)


def _require_even(message: Any, *sizes: int) -> None:
    if any(size % 2 for size in sizes):
        raise WrongSize(
            f"expected an even size for the {message.encoding} layout, got {message.width}x{message.height}"
        )


def _by_cv_bridge(message: Any) -> Image:
    """What the host's cv_bridge makes of an encoding that this module does not know."""
    known = f"expected one of the encodings {', '.join(ENCODINGS)}, got '{message.encoding}'"
    bridge = _cv_bridge()
    if bridge is None:
        raise UnknownEncoding(known)
    try:
        return bridge(message, "bgr8")
    except Exception as error:  # its error type lives in the optional package, and it raises others too
        raise UnknownEncoding(f"{known}, which cv_bridge does not convert either: {error}") from error


@cache  # a failed import is not remembered by Python, and costs its time at every image
def _cv_bridge() -> Callable[[Any, str], Image] | None:
    try:
        bridge = import_module("cv_bridge").CvBridge()
    except Exception:  # missing, or built against another numpy
        return None
    return bridge.imgmsg_to_cv2


def _compression(text: str) -> tuple[str, str]:
    """The image's encoding and that of the stored pixels, empty where a CompressedImage's format does not tell them.

    Raises UnknownEncoding.
    """
    encoding, separator, rest = text.lower().partition(";")
    words = (rest if separator else encoding).split()
    if not words or words[0] not in _CODECS or "compresseddepth" in words:
        raise UnknownEncoding(f"expected a jpeg or png CompressedImage, got the format '{text}'")
    return encoding.strip() if separator else "", words[2] if len(words) > 2 else ""
