"""The buffer of tf2, on machines that have tf2_ros, behind the interface of our own."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.time import Time
from tf2_ros import BufferCore, TransformException

from camtrack_core.geometry.camera import Pose
from camtrack_core.ros.messages.frames import frame_name
from camtrack_core.ros.tf.transforms import HISTORY, Restarts, TooEarly, TransformError, checked, to_pose

AUTHORITY = "camtrack"  # what tf2 calls the source of a transform in its own messages


class Tf2Buffer:
    """The transforms of the last seconds, looked up at a time; see TransformBuffer, which it does the same as.

    tf2 alone ignores broken transforms, and mixes those of a recording that starts again with those of its end.
    """

    def __init__(self) -> None:
        self._core = BufferCore(Duration(nanoseconds=HISTORY))
        self._restarts = Restarts()

    def add(self, message: Any, static: bool = False) -> None:
        """Take in a TFMessage. Raises TransformError where some of its transforms are broken, after the others."""
        transforms, broken = checked(message)
        if not static and self._restarts.seen_in(transforms):
            self._core.clear()  # static transforms stay
        put = self._core.set_transform_static if static else self._core.set_transform
        for transform, _ in transforms:
            put(transform, AUTHORITY)
        if broken:
            raise TransformError("; ".join(broken))

    def lookup(self, target: str, source: str, time_ns: int) -> Pose:
        """The pose of `source` in `target` at a time: maps points of source to target.

        Raises:
            TooEarly: a transform on the way ends before the time, and may still arrive.
            TransformError: the frames are unknown or not connected, or the time is further back than is remembered.
        """
        target, source = frame_name(target), frame_name(source)
        try:
            found = self._core.lookup_transform_core(target, source, Time(nanoseconds=time_ns))
        except TransformException as error:
            sentence = f"expected transforms from '{source}' to '{target}' at {time_ns / 1e9:.3f} s: {error}"
            raise self._kind(target, source, time_ns)(sentence) from error
        return to_pose(found.transform)

    def _kind(self, target: str, source: str, time_ns: int) -> type[TransformError]:
        """Of the error of a failed lookup: TooEarly where what it lacks may still arrive."""
        try:
            newest = self._core.get_latest_common_time(target, source)
        except TransformException:  # nothing connects the frames so far, or since a recording started again
            return TooEarly
        return TooEarly if time_ns > newest.nanoseconds else TransformError
