"""Detection3DArray and MultiDOFJointTrajectory in serialised form; see `cdr`, which does the same for 2D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError

import numpy as np
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection3DArray

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import MOTIONS, Floats, Integers
from camtrack_core.ros.messages.cdr import COUNT, LITTLE_ENDIAN, STAMP, Reader, align, little_endian, string
from camtrack_core.ros.messages.stamps import NANOSECONDS

_POSE = 7  # position x, y, z and orientation x, y, z, w
_RESULT = 1 + _POSE + 36  # score, pose, its covariance
_BOX = Struct("<10d")  # pose and size
_RESULTS = Struct("<2I")  # number of results, and length of the first one's class
_SCORED = Struct(f"<d{8 * _POSE}x36d")  # a result's score and covariance, its pose left out
_ONE_RESULT = Struct(f"<d{8 * _POSE}x46d")  # the only result's score and covariance, then the box
_NO_RESULT = (np.nan,) * 37
_TRANSFORM = Struct("<7d")
_TWIST = Struct("<6d")  # linear and angular


@dataclass(frozen=True)
class Detections3DMessage:
    """A Detection3DArray as arrays, a row each.

    Of a detection's results the best by score counts, those named like MOTIONS apart, which say how it moves.

    Attributes:
        header: of the message.
        ids: N strings.
        names: N class names of the best result by score, None where a detection has no result.
        scores: (N,) float64, of the best result, NaN where there is none.
        poses: (N, 7) float64, of the box: centre in metres and orientation x, y, z, w.
        sizes: (N, 3) float64, metres, along the box's own axes.
        covariances: (N, 6, 6) float64, of the pose of the best result, as it stands there: of x, y, z and the rotations
            about them, in the frame of the header; NaN without a result.
        motions: (N, 3) float64, scores of the results named like MOTIONS as shares of the best one's; 0 for those that
            are not there.
    """

    header: Header
    ids: list[str]
    names: list[str | None]
    scores: Floats
    poses: Floats
    sizes: Floats
    covariances: Floats
    motions: Floats


def pack_detections(
    header: Header,
    ids: Sequence[str],
    names: Sequence[str],
    scores: Floats,
    poses: Floats,
    covariances: Floats,
    sizes: Floats,
    motions: Floats,
) -> bytes:
    """Serialised Detection3DArray of N boxes, each with one result of the same pose, all with `header`.

    A second result of the same pose names the likeliest motion, where one is known, with the probability that the
    object is there and moves so: never above the first one's score.

    Args:
        scores: (N,), poses: (N, 7), sizes: (N, 3), motions: (N, 3), as in Detections3DMessage.
        covariances: (N, 6, 6) of x, y, z and the rotations about them.
    """
    count = len(scores)
    placed = np.concatenate([poses, covariances.reshape(count, 36)], 1)
    numbers = np.concatenate([scores[:, None], placed, poses, sizes], 1, dtype="<f8")
    likeliest = [-1] * count
    if motions.any():
        likeliest = np.where(motions.any(1), motions.argmax(1), -1).tolist()
        seconds = np.concatenate([(scores * motions.max(1))[:, None], placed], 1, dtype="<f8")
    results = {name: string(name) for name in set(names)}
    head = _head(header)
    beginnings = {
        (name, many, start): _beginning(head, COUNT.pack(many) + result, start)
        for name, result in results.items()
        for many in (1, 2)
        for start in (0, 4)
    }
    out = bytearray(head)
    align(out, 4)
    out += COUNT.pack(count)
    for row, motion in enumerate(likeliest):
        align(out, 4)
        out += beginnings[names[row], 1 if motion < 0 else 2, len(out) % 8]
        if motion < 0:
            out += numbers[row].data
        else:
            out += numbers[row, :_RESULT].tobytes() + string(MOTIONS[motion])
            align(out, 8)
            out += seconds[row].tobytes() + numbers[row, _RESULT:].tobytes()
        out += string(ids[row])
    return LITTLE_ENDIAN + bytes(out)


def unpack_detections(data: bytes) -> Detections3DMessage:
    """What a serialised Detection3DArray says. Raises DataError where the bytes break off."""
    try:
        return _Reader3D(little_endian(data, Detection3DArray)).read()
    except (ValueError, IndexError, StructError) as error:
        raise DataError(f"expected a serialised Detection3DArray, got {len(data)} bytes: {error}") from error


def unpack_velocities(data: bytes) -> tuple[Header, dict[str, tuple[float, ...]]]:
    """Linear velocities by joint name, in the frame of the header, at the first point of a MultiDOFJointTrajectory.

    Raises DataError where the bytes break off.
    """
    try:
        return _Reader3D(little_endian(data, MultiDOFJointTrajectory)).velocities()
    except (ValueError, IndexError, StructError) as error:
        raise DataError(f"expected a serialised MultiDOFJointTrajectory, got {len(data)} bytes: {error}") from error


class _Reader3D(Reader):
    def velocities(self) -> tuple[Header, dict[str, tuple[float, ...]]]:
        header = self.header()
        names = [self.string() for _ in range(self.count())]
        if not self.count():
            return header, {}
        for _ in range(self.count()):
            self.take(_TRANSFORM, 8)
        twists = [self.take(_TWIST, 8) for _ in range(self.count())]
        return header, {name: twist[:3] for name, twist in zip(names, twists, strict=True)}

    def _one_result(self, names: list[str | None], rows: list[tuple[float, ...]]) -> bool:
        """Append the class, and the score and box, of a detection with one result; False, and nothing, for others.

        Then all of its numbers lie in a row: most detections are like that.
        """
        start = (self._at + 3) & -4
        many, length = _RESULTS.unpack_from(self._data, start)
        if many != 1:
            return False
        start += _RESULTS.size
        numbers = (start + length + 7) & -8
        rows.append(_ONE_RESULT.unpack_from(self._data, numbers))
        names.append(str(self._data[start : start + length - 1], "utf-8", "replace"))
        self._at = numbers + _ONE_RESULT.size
        return True

    def read(self) -> Detections3DMessage:
        header = self.header()
        ids: list[str] = []
        names: list[str | None] = []
        rows: list[tuple[float, ...]] = []
        told: dict[int, dict[str, float]] = {}  # by row, the results that name a motion
        for row in range(self.detection_count()):
            self.take(STAMP, 4)
            self.skip_string()
            if self._one_result(names, rows):
                ids.append(self.string())
                continue
            results = [(self.string(), self.take(_SCORED, 8)) for _ in range(self.count())]
            if len(results) > 1:
                told[row] = {motion: scored[0] for motion, scored in results if motion in MOTIONS}
                results = [result for result in results if result[0] not in MOTIONS]
            name, scored = max(results, key=lambda result: result[1][0], default=(None, _NO_RESULT))
            rows.append((*scored, *self.take(_BOX, 8)))
            names.append(name)
            ids.append(self.string())
        table = np.array(rows, np.float64).reshape(-1, 47)
        motions = np.zeros((len(rows), len(MOTIONS)))
        for row, said in told.items():
            if table[row, 0] > 0:
                motions[row] = np.clip([said.get(motion, 0.0) / table[row, 0] for motion in MOTIONS], 0, 1)
        motions[np.isnan(motions)] = 0.0
        covariances = table[:, 1:37].reshape(-1, 6, 6)
        return Detections3DMessage(
            header, ids, names, table[:, 0], table[:, 37:44], table[:, 44:], covariances, motions
        )


def pack_trajectories(
    header: Header, names: Sequence[str], offsets: Integers, transforms: Floats, twists: Floats
) -> bytes:
    """Serialised MultiDOFJointTrajectory of N joints over T points.

    Args:
        names: N joint names.
        offsets: (T,) nanoseconds of the points from the header's stamp.
        transforms: (T, N, 7) translation and rotation x, y, z, w.
        twists: (T, N, 6) linear and angular velocity.
    """
    out = bytearray(_head(header))
    align(out, 4)
    out += COUNT.pack(len(names))
    for name in names:
        align(out, 4)
        out += string(name)
    align(out, 4)
    out += COUNT.pack(len(offsets))
    for offset, poses, velocities in zip(offsets.tolist(), transforms, twists, strict=True):
        for table in (poses, velocities):
            align(out, 4)
            out += COUNT.pack(len(table))
            if len(table):
                align(out, 8)
                out += np.ascontiguousarray(table, "<f8").tobytes()
        align(out, 4)
        out += COUNT.pack(0)  # accelerations
        out += STAMP.pack(*divmod(offset, NANOSECONDS))
    return LITTLE_ENDIAN + bytes(out)


def _beginning(head: bytes, result: bytes, start: int) -> bytes:
    """Head and first result, up to its numbers, of a detection that begins `start` bytes behind a multiple of 8."""
    out = bytearray(start) + head
    align(out, 4)
    out += result
    align(out, 8)
    return bytes(out[start:])


def _head(header: Header) -> bytes:
    return STAMP.pack(header.stamp.sec, header.stamp.nanosec) + string(header.frame_id)
