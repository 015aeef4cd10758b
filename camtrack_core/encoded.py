"""Encoded images (JPEG, PNG) to pixels: whole or not at all. Files and messages are read by the same rules."""

from __future__ import annotations

from struct import unpack_from

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ImageError

Image = NDArray[np.uint8]
Size = tuple[int, int]  # width and height in pixels

MOST_PIXELS = 100_000_000  # more is no camera's: some bytes that ask for gigabytes
JPEG, PNG = b"\xff\xd8", b"\x89PNG"
_WITHOUT_CONTENT = (0x00, 0x01, *range(0xD0, 0xD8), 0xFF)  # what follows 0xFF where no segment begins
_AS_IT_LIES = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class Undecodable(ImageError):
    """Compressed data that are broken or truncated."""

    cause = "undecodable"


def decode(data: bytes | Image, flags: int = _AS_IT_LIES) -> Image:
    """Pixels of a whole JPEG or PNG as they lie, whatever orientation the file claims, as camera drivers mean them.

    Args:
        data: the file's bytes, which zeros may follow, as some cameras send.
        flags: cv2's; by default (H, W, 3) uint8 BGR.

    Raises Undecodable.
    """
    data = np.frombuffer(data, np.uint8)
    content = data.tobytes()
    width, height = stated_size(content) or (0, 0)
    if width * height > MOST_PIXELS:
        raise Undecodable(f"expected an image of at most {MOST_PIXELS} pixels, got {width}x{height}")
    if _is_cut_off(content):
        raise Undecodable(f"expected a whole image, got {len(content)} bytes without its end")
    # Of other kinds of files, which the decoder knows as well, it is not known here how large they claim to be.
    image = _decoded(data, flags) if content.startswith((JPEG, PNG)) else None
    if image is None:
        raise Undecodable(f"expected a JPEG or PNG image, got {len(content)} bytes that cannot be decoded")
    return image


def stated_size(data: bytes) -> Size | None:
    """What a JPEG or PNG says of its size before its pixels; None where it says nothing."""
    if data.startswith(PNG):
        return unpack_from(">II", data, 16) if len(data) >= 24 else None
    at = data.find(0xFF, 2) if data.startswith(JPEG) else -1
    while at >= 0 and at + 9 <= len(data):  # decoders skip whatever lies between two segments, and so must this
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = unpack_from(">HH", data, at + 5)
            return width, height
        at = data.find(0xFF, at + (1 if marker in _WITHOUT_CONTENT else 2 + length))
    return None


def decode_upright(data: bytes | Image, size: Size | None = None) -> Image:
    """As `decode`, (H, W, 3) BGR, but turned as the file's EXIF says, unless as it lies it has the `size` stated.

    Raises Undecodable, also for an image that has the size neither way.
    """
    if size is None:
        return decode(data, cv2.IMREAD_COLOR)
    image = decode(data)
    if image.shape[1::-1] == size:
        return image
    turned = decode(data, cv2.IMREAD_COLOR)
    if turned.shape[1::-1] != size:
        height, width = image.shape[:2]
        raise Undecodable(f"expected an image of {size[0]}x{size[1]} pixels, got {width}x{height}")
    return turned


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; decoders fill the missing part with grey and keep silent."""
    if data.startswith(JPEG):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")  # no end of image after the last start of scan
    return data.startswith(PNG) and b"IEND\xaeB`\x82" not in data


def _decoded(data: Image, flags: int) -> Image | None:
    try:
        return cv2.imdecode(data, flags) if len(data) else None  # type: ignore[return-value]
    except cv2.error:
        return None
