"""A node's view of the transforms: /tf and /tf_static into a buffer."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

from tf2_msgs.msg import TFMessage

from camtrack_core.geometry.camera import Pose
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import STATIC_TRANSFORMS, TRANSFORMS
from camtrack_core.ros.tf.transforms import Jumps, TooEarly, TransformBuffer, TransformError, checked

LOGGING = 1.0  # seconds at least between two lines of the log about transforms that jump


class Buffer(Protocol):
    """What remembers transforms: tf2's buffer or our own."""

    def add(self, message: Any, static: bool = False) -> None: ...

    def lookup(self, target: str, source: str, time_ns: int) -> Pose: ...


def new_buffer() -> Buffer:
    """An empty buffer: tf2's where tf2_ros is installed, as on a ROS host, elsewhere our own."""
    if find_spec("tf2_ros") is None:
        return TransformBuffer()
    from camtrack_core.ros.tf.tf2_buffer import Tf2Buffer

    return Tf2Buffer()


class TransformListener:
    """Create it in the node's configure, and close it in its cleanup.

    Args:
        node: whose callbacks serve it; a broken transform is a drop of the node.
        changed: called after new transforms while the node is active.
    """

    def __init__(self, node: CamtrackNode[Any], changed: Callable[[], None]) -> None:
        self._node, self._changed = node, changed
        self._buffer = new_buffer()
        self._jumps, self._logged = Jumps(), 0.0
        # Static transforms come once, perhaps while the node is inactive: no guarded subscription for them.
        self._static = node.create_subscription(TFMessage, "/tf_static", self._on_static, STATIC_TRANSFORMS)
        self._moving = node.subscribe(TFMessage, "/tf", self._on_transforms, TRANSFORMS)

    def lookup(self, target: str, source: str, time_ns: int) -> Pose:
        """The pose of `source` in `target` at a time.

        Raises TooEarly, also of the transforms that have come and not had their turn yet, or TransformError.
        """
        try:
            return self._buffer.lookup(target, source, time_ns)
        except TooEarly:
            self._take_waiting()
        return self._buffer.lookup(target, source, time_ns)

    def close(self) -> None:
        self._node.destroy_subscription(self._static)

    def _take_waiting(self) -> None:
        """Take in what has come: in a process of several busy nodes its turn may be far off."""
        while (taken := self._node.take_next(self._static)) is not None:
            self._on_static(taken[0])
        while (taken := self._node.take_next(self._moving)) is not None:
            self._take(taken[0])

    def _on_static(self, message: Any) -> None:
        self._remember(message, static=True)

    def _on_transforms(self, message: Any) -> None:
        self._take(message)
        self._changed()

    def _take(self, message: Any) -> None:
        self._tell_jumps(message)
        self._remember(message, static=False)

    def _tell_jumps(self, message: Any) -> None:
        jumps = self._jumps.seen_in(checked(message)[0])
        if not jumps:
            return
        self._node.monitor.event(jumps[0], subject="jumps")
        now = time.monotonic()
        if now - self._logged > LOGGING:
            self._logged = now
            self._node.get_logger().warning(jumps[0])

    def _remember(self, message: Any, static: bool) -> None:
        try:
            self._buffer.add(message, static)
        except TransformError as error:
            self._node.drop("broken transform", str(error))
