"""Videos that can be played whatever ends their recording: fragmented mp4 (ISO/IEC 14496-12) of JPEG images.

Every image is appended with its own time as a fragment of its own, so that the file is whole after each of them.
OpenCV's writer lays an index at the end of the file, without which nothing can be played, and knows one distance of
frames alone.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2

from camtrack.recording.append import AppendedFile
from camtrack_core.encoded import Image

TICKS = 90_000  # a second
NANOSECONDS = 1_000_000_000
QUALITY = 85  # of JPEG
NO_DURATION = TICKS // 25  # of the first frame, until a second one tells
DURATION = 88  # where a fragment holds that of its frame
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # nothing is turned or moved
SAMPLE_IS_KEY, DEFAULT_BASE_IS_FRAGMENT = 0x02000000, 0x020000


class VideoFile:
    """An mp4 file; its frames have the distances of their stamps.

    Raises DataError where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = AppendedFile(path)
        self._size = (0, 0)
        self._first_ns = self._last = self._count = 0
        self._duration = NO_DURATION
        self._place = 0  # of the last fragment

    def write(self, time_ns: int, image: Image) -> None:
        """Append an image, all of it or nothing. Those of another size than the first are fitted to it.

        A stamp that is not after the one before is taken as one frame later.
        """
        height, width = image.shape[:2]
        if not self._count:
            self._size, self._first_ns = (width, height), time_ns
            self._file.append(_beginning(width, height))
        if (width, height) != self._size:
            image = cv2.resize(image, self._size)  # type: ignore[assignment]
        time = (time_ns - self._first_ns) * TICKS // NANOSECONDS
        if self._count and time <= self._last:
            self._first_ns -= (self._last + self._duration - time) * NANOSECONDS // TICKS
            time = self._last + self._duration
        if self._count:
            self._duration = time - self._last
            self._file.change(self._place + DURATION, struct.pack(">I", self._duration))  # of the frame before
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        self._place = self._file.append(_fragment(self._count + 1, time, self._duration, data.tobytes()))
        self._last, self._count = time, self._count + 1

    def close(self) -> None:
        self._file.close()


def _fragment(number: int, time: int, duration: int, data: bytes) -> bytes:
    """One frame: its place in time and its bytes."""

    def header(offset: int) -> bytes:
        track = _full_box(b"tfhd", DEFAULT_BASE_IS_FRAGMENT, struct.pack(">I", 1))
        decoded = _full_box(b"tfdt", 0, struct.pack(">Q", time), version=1)
        run = _full_box(b"trun", 0x301, struct.pack(">IiII", 1, offset, duration, len(data)))
        return _box(b"moof", _full_box(b"mfhd", 0, struct.pack(">I", number)), _box(b"traf", track, decoded, run))

    return header(len(header(0)) + 8) + _box(b"mdat", data)


def _beginning(width: int, height: int) -> bytes:
    """What kind of file this is, and its only track; the frames follow in fragments."""
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">2H2I4xH", width, height, 72 << 16, 72 << 16, 1)
    entry += bytes(32) + struct.pack(">Hh", 24, -1)
    tables = [_full_box(name, 0, bytes(4)) for name in (b"stts", b"stsc", b"stco")]
    samples = _box(
        b"stbl",
        _full_box(b"stsd", 0, struct.pack(">I", 1), _box(b"jpeg", entry)),
        *tables,
        _full_box(b"stsz", 0, bytes(8)),
    )
    place = _box(b"dinf", _full_box(b"dref", 0, struct.pack(">I", 1), _full_box(b"url ", 1)))
    media = _box(
        b"mdia",
        _full_box(b"mdhd", 0, struct.pack(">4I2H", 0, 0, TICKS, 0, 0x55C4, 0)),  # of no language
        _full_box(b"hdlr", 0, bytes(4), b"vide", bytes(12), b"frames\0"),
        _box(b"minf", _full_box(b"vmhd", 1, bytes(8)), place, samples),
    )
    shown = struct.pack(">5I", 0, 0, 1, 0, 0) + bytes(16) + MATRIX + struct.pack(">2I", width << 16, height << 16)
    film = struct.pack(">4IIH", 0, 0, TICKS, 0, 0x10000, 0x100) + bytes(10) + MATRIX + bytes(24) + struct.pack(">I", 2)
    defaults = _full_box(b"trex", 0, struct.pack(">5I", 1, 1, 0, 0, SAMPLE_IS_KEY))
    track = _box(b"trak", _full_box(b"tkhd", 3, shown), media)
    return _box(b"ftyp", b"iso5", struct.pack(">I", 512), b"iso5iso6mp41") + _box(
        b"moov", _full_box(b"mvhd", 0, film), track, _box(b"mvex", defaults)
    )


def _box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + name + body


def _full_box(name: bytes, flags: int, *content: bytes, version: int = 0) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags), *content)
