"""Whether a camera that sends images in time and in form shows anything: they may be black, white or always one."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

GRID = 8  # every so many pixels are looked at, both ways
BLACK, WHITE = 8, 247  # grey levels that nothing of a picture lies above, or below
PERSISTENT = 5  # pictures in a row
FROZEN = 1_000_000_000  # nanoseconds of the same picture


class PictureWatch:
    """Remembers what is wrong with the pictures of one camera. A sensor's noise alone makes two of them differ."""

    def __init__(self) -> None:
        self._sample = np.zeros(0, np.uint8)
        self._checksum: int | None = None  # of the whole picture, once the sample was the same twice
        self._black = self._white = self._same = 0  # pictures in a row
        self._since = self._newest = 0  # nanoseconds, from the first to the last of those that are the same

    def look(self, image: NDArray[np.uint8], time_ns: int) -> None:
        """Look at the next picture, (H, W, 3) uint8, and its stamp."""
        sample = image[::GRID, ::GRID].copy()  # three looks at it cost less when it lies together
        self._black = self._black + 1 if sample.max() < BLACK else 0
        self._white = self._white + 1 if sample.min() > WHITE else 0
        if self._is_the_same(image, sample):
            self._same += 1
        else:
            self._same, self._since, self._sample = 0, time_ns, sample
        self._newest = time_ns

    def _is_the_same(self, image: NDArray[np.uint8], sample: NDArray[np.uint8]) -> bool:
        """Whether this is the picture before; the whole of it is looked at only where the sample says so."""
        if not np.array_equal(sample, self._sample):
            self._checksum = None
            return False
        before, self._checksum = self._checksum, zlib.crc32(np.ascontiguousarray(image).data)
        return before in (None, self._checksum)

    def complaint(self) -> str | None:
        """What is wrong with the pictures, in a sentence; None where nothing is."""
        if self._black >= PERSISTENT:
            return "images are black: is the lens covered?"
        if self._white >= PERSISTENT:
            return "images are white: is the exposure right?"
        frozen = self._newest - self._since
        if self._same >= PERSISTENT and frozen >= FROZEN:
            return f"images do not change for {frozen / FROZEN:.0f} s, to the last pixel: does the camera hang?"
        return None
