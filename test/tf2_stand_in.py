"""What camtrack calls of tf2_ros, for machines without it: names, arguments and exceptions are tf2's own.

Written over scipy and matrices, apart from camtrack's buffer, which is compared with it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from scipy.spatial.transform import Rotation, Slerp


class TransformException(Exception):
    pass


class LookupException(TransformException):
    pass


class ConnectivityException(TransformException):
    pass


class ExtrapolationException(TransformException):
    pass


class InvalidArgumentException(TransformException):
    pass


Placed = tuple[Rotation, np.ndarray]


class BufferCore:
    """Transforms by child; the time 0 asks for the newest, as in tf2."""

    def __init__(self, cache_time: Duration) -> None:
        self._cache = cache_time.nanoseconds
        self._static: dict[str, tuple[str, Placed]] = {}
        self._moving: dict[str, dict[int, tuple[str, Placed]]] = defaultdict(dict)

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        child, entry = _read(transform, authority)
        times = self._moving[child]
        time_ns = Time.from_msg(transform.header.stamp).nanoseconds
        if time_ns >= max(times, default=0) - self._cache:
            times[time_ns] = entry
        for old in [t for t in times if t < max(times) - self._cache]:
            del times[old]

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        child, entry = _read(transform, authority)
        self._static[child] = entry

    def clear(self) -> None:
        for times in self._moving.values():  # the frames stay known
            times.clear()

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        chain = [*self._chain(target_frame), *self._chain(source_frame)]
        if not {target_frame, source_frame} <= self._frames() or self._chain(target_frame)[-1] != chain[-1]:
            raise TransformException(f"no connection between {target_frame} and {source_frame}")
        return Time(nanoseconds=min((max(self._moving[f]) for f in chain if self._moving.get(f)), default=0))

    def lookup_transform_core(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        for frame in (target_frame, source_frame):
            if not frame or frame.startswith("/"):
                raise InvalidArgumentException(f'"{frame}" is no valid frame')
            if frame not in self._frames():
                raise LookupException(f'"{frame}" does not exist')
        roots = [self._chain(frame)[-1] for frame in (target_frame, source_frame)]
        if roots[0] != roots[1] and any(root in self._moving for root in roots):
            raise ExtrapolationException("the cache of a frame on the way is empty")
        if roots[0] != roots[1]:
            raise ConnectivityException(f"{target_frame} and {source_frame} are not part of the same tree")
        asked = time.nanoseconds or self.get_latest_common_time(target_frame, source_frame).nanoseconds
        common = next(frame for frame in self._chain(source_frame) if frame in self._chain(target_frame))
        up, down = (self._matrix(frame, common, asked) for frame in (source_frame, target_frame))
        return _written(np.linalg.inv(down) @ up)

    def _frames(self) -> set[str]:
        entries = [*self._static.values(), *(entry for times in self._moving.values() for entry in times.values())]
        return {*self._static, *self._moving, *(parent for parent, _ in entries)}

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._static or self._moving.get(chain[-1]):
            entry = self._static.get(chain[-1]) or next(reversed(self._moving[chain[-1]].values()))
            if entry[0] in chain:
                raise LookupException("the tree contains a loop")
            chain.append(entry[0])
        return chain

    def _matrix(self, frame: str, ancestor: str, time_ns: int) -> np.ndarray:
        matrix = np.eye(4)
        while frame != ancestor:
            parent, (rotation, translation) = self._static.get(frame) or self._at(frame, time_ns)
            step = np.eye(4)
            step[:3, :3], step[:3, 3] = rotation.as_matrix(), translation
            matrix, frame = step @ matrix, parent
        return matrix

    def _at(self, frame: str, time_ns: int) -> tuple[str, Placed]:
        times = self._moving[frame]
        if time_ns in times:
            return times[time_ns]
        before = max((t for t in times if t < time_ns), default=None)
        after = min((t for t in times if t > time_ns), default=None)
        if before is None or after is None:
            raise ExtrapolationException(f"Lookup would require extrapolation at time {time_ns / 1e9:.9f}")
        (parent, (r0, t0)), (_, (r1, t1)) = times[before], times[after]
        share = (time_ns - before) / (after - before)
        return parent, (Slerp([0, 1], Rotation.concatenate([r0, r1]))(share), (1 - share) * t0 + share * t1)


def _read(transform: TransformStamped, authority: str) -> tuple[str, tuple[str, Placed]]:
    assert isinstance(authority, str)
    t, q = transform.transform.translation, transform.transform.rotation
    placed = Rotation.from_quat([q.x, q.y, q.z, q.w]), np.array([t.x, t.y, t.z])
    return transform.child_frame_id.lstrip("/"), (transform.header.frame_id.lstrip("/"), placed)


def _written(matrix: np.ndarray) -> Any:
    found = TransformStamped()
    t, q = found.transform.translation, found.transform.rotation
    t.x, t.y, t.z = matrix[:3, 3].tolist()
    q.x, q.y, q.z, q.w = Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()
    return found
