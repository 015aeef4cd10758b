"""Detection2DArray straight to and from its serialised form, the bytes that DDS carries.

rclpy makes a Python object of every field: for 80 tracks that takes some 6 ms to publish and 9 ms to receive, more
than the tracking itself. Here the numbers of a detection are one row of an array. The layout is CDR, version 1 (OMG
DDSI-RTPS 2.3, section 10): little-endian, each number aligned to its own size, strings with length and final zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct, unpack_from
from struct import error as StructError

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.ros.messages.stamps import NANOSECONDS

MOST_DETECTIONS = 10_000  # of a message
LITTLE_ENDIAN = b"\x00\x01\x00\x00"  # the four bytes before the message; offsets count from behind them
STAMP = Struct("<iI")
COUNT = Struct("<I")
_SCORE = Struct("<d")
_BOX = Struct("<5d")

# A detection with one result is two strings, a count and these numbers in a row: the result's score, its pose
# (position, orientation, covariance), then the box (centre, angle, size).
_POSE = 3 + 4 + 36
_NUMBERS = 1 + _POSE + 5
_W = 1 + 3 + 3  # of the orientation


@dataclass(frozen=True)
class Detections:
    """A Detection2DArray as arrays, a row each; results other than the best of a detection are left out.

    Attributes:
        header: of the message.
        ids: N strings.
        names: N class names of the best result by score, None where a detection has no result.
        scores: (N,) float64, of the best result, NaN where there is none.
        xyxy: (N, 4) float64, pixels; angles of boxes are ignored.
    """

    header: Header
    ids: list[str]
    names: list[str | None]
    scores: Floats
    xyxy: Floats


def unpack_stamp(data: bytes) -> int:
    """The stamp, in nanoseconds, of any serialised message that begins with a header. Raises DataError without."""
    try:
        seconds, nanoseconds = unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    except (IndexError, StructError) as error:
        raise DataError(f"expected a serialised message with a header, got {len(data)} bytes") from error
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def pack(header: Header, ids: Sequence[str], names: Sequence[str], scores: Floats, xyxy: Floats) -> bytes:
    """Serialised Detection2DArray of N boxes (N, 4), each with one result and an empty pose, all with `header`."""
    numbers = np.zeros((len(xyxy), _NUMBERS), "<f8")
    numbers[:, 0], numbers[:, _W] = scores, 1.0
    numbers[:, -5:-3] = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    numbers[:, -2:] = xyxy[:, 2:] - xyxy[:, :2]
    head = STAMP.pack(header.stamp.sec, header.stamp.nanosec) + string(header.frame_id)
    out = bytearray(head)
    align(out, 4)
    out += COUNT.pack(len(xyxy))
    ends = {name: COUNT.pack(1) + string(name) for name in set(names)}
    for identity, name, row in zip(ids, names, numbers, strict=True):
        align(out, 4)
        out += head
        align(out, 4)
        out += ends[name]
        align(out, 8)
        out += row.tobytes()
        out += string(identity)
    return LITTLE_ENDIAN + bytes(out)


def unpack(data: bytes) -> Detections:
    """What a serialised Detection2DArray says. Raises DataError where the bytes break off."""
    try:
        return Reader(little_endian(data, Detection2DArray)).detections()
    except (ValueError, IndexError, StructError) as error:
        raise DataError(f"expected a serialised Detection2DArray, got {len(data)} bytes: {error}") from error


def little_endian(data: bytes, kind: type) -> bytes:
    """A message as it is read here, whatever a big-endian peer or another encoding of the middleware has made of it.

    Raises ValueError for what the middleware cannot read either.
    """
    if data[:4] == LITTLE_ENDIAN:
        return data
    try:
        return bytes(serialize_message(deserialize_message(data, kind)))
    except RuntimeError as error:  # rclpy's RMWError
        raise ValueError(f"the middleware cannot read them: {error}") from error


class Reader:
    """Walks through a serialised message; raises ValueError, IndexError or struct.error where it breaks off."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)[len(LITTLE_ENDIAN) :]
        self._at = 0

    def header(self) -> Header:
        header = Header(stamp=Time(), frame_id="")
        header.stamp.sec, header.stamp.nanosec = self.take(STAMP, 4)
        header.frame_id = self.string()
        return header

    def detections(self) -> Detections:
        header = self.header()
        ids, names, rows = [], [], []
        for _ in range(self.detection_count()):
            self.take(STAMP, 4)
            self.skip_string()
            name, score = best(self.results())
            rows.append((score, *self.take(_BOX, 8)))
            names.append(name)
            ids.append(self.string())
        table = np.array(rows, np.float64).reshape(-1, 6)
        centre, half = table[:, 1:3], table[:, 4:6] / 2
        with np.errstate(invalid="ignore"):  # of boxes at infinity; refusing them is for others
            xyxy = np.concatenate([centre - half, centre + half], 1)
        return Detections(header, ids, names, table[:, 0], xyxy)

    def detection_count(self) -> int:
        """The number of detections that follow. Raises ValueError for more than anyone detects in an image."""
        count = self.count()
        if count > MOST_DETECTIONS:
            raise ValueError(f"expected at most {MOST_DETECTIONS} detections, got {count}")
        return count

    def results(self) -> list[tuple[str, float]]:
        """Class name and score of a detection's results."""
        return [self.result() for _ in range(self.count())]

    def result(self) -> tuple[str, float]:
        name = self.string()
        (score,) = self.take(_SCORE, 8)
        self._at += 8 * _POSE
        return name, score

    def take(self, what: Struct, alignment: int) -> tuple:
        """The next numbers, the first of which is aligned to so many bytes."""
        start = (self._at + alignment - 1) & -alignment
        self._at = start + what.size
        return what.unpack_from(self._data, start)

    def count(self) -> int:
        start = (self._at + 3) & -4
        self._at = start + 4
        return int(COUNT.unpack_from(self._data, start)[0])

    def string(self) -> str:
        start = self.skip_string()
        return str(self._data[start : self._at - 1], "utf-8", "replace")

    def skip_string(self) -> int:
        """Offset of the string's first character; the reader then stands behind its zero."""
        length = self.count()
        if self._at + length > len(self._data):
            raise ValueError(f"a string of {length} bytes at {self._at} reaches beyond the end")
        self._at += length
        return self._at - length


def best(results: Sequence[tuple[str, float]]) -> tuple[str | None, float]:
    """Class name and score of the best result, the first of equals; None and NaN without any."""
    if len(results) == 1:
        return results[0]
    return max(results, key=lambda result: result[1], default=(None, np.nan))


def string(text: str) -> bytes:
    data = text.encode()
    return COUNT.pack(len(data) + 1) + data + b"\0"


def align(out: bytearray, size: int) -> None:
    out += bytes(-len(out) % size)
