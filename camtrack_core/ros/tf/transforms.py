"""Poses to transform messages and back, and a buffer of transforms over time.

The buffer does what tf2 does for lookups at a stamp, on machines that have tf2_msgs but no tf2_ros.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion as QuaternionMessage
from geometry_msgs.msg import Transform, TransformStamped, Vector3
from std_msgs.msg import Header

from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Pose
from camtrack_core.ros.messages.frames import frame_name
from camtrack_core.ros.messages.stamps import NANOSECONDS, Arrival, StampOrder, to_nanoseconds

HISTORY = 10 * NANOSECONDS  # how long transforms are remembered
MAX_POSES = 5000  # of one frame
REORDERING = NANOSECONDS  # a stamp further below the newest may be a recording's that starts again
FASTEST = 100.0  # m/s of anything that drives
CORRECTION = 2.0  # metres that a localisation may correct itself by at once
SMALL_TURN = 1e-6  # rad; below it interpolation is linear


def to_transform(pose: Pose, parent: str, child: str, stamp: Time) -> TransformStamped:
    """The transform that maps points of `child` to `parent`."""
    x, y, z, w = quaternion(pose.rotation).tolist()
    return TransformStamped(
        header=Header(stamp=stamp, frame_id=parent),
        child_frame_id=child,
        transform=Transform(
            translation=Vector3(**dict(zip("xyz", map(float, pose.translation), strict=True))),
            rotation=QuaternionMessage(x=x, y=y, z=z, w=w),
        ),
    )


def quaternion(rotation: Floats) -> Floats:
    """(4,) unit quaternion x, y, z, w of a (3, 3) rotation matrix, w not negative.

    The rotation R of q fixes the symmetric matrix q q^T; its row with the largest diagonal entry, which
    cannot be near zero, is q up to scale.
    """
    r = np.asarray(rotation, np.float64)
    diagonal = np.diag(r)
    products = np.empty((4, 4))  # 4 q q^T, in the order x, y, z, w
    products[:3, :3] = r + r.T
    products[range(3), range(3)] = 1 + 2 * diagonal - diagonal.sum()
    products[3, 3] = 1 + diagonal.sum()
    products[3, :3] = products[:3, 3] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    q = products[np.argmax(products.diagonal())]
    q = q / np.linalg.norm(q)
    return -q if q[3] < 0 else q


def to_pose(transform: Transform) -> Pose:
    """The pose that a transform message holds. Raises TransformError where it is not finite or no rotation."""
    t, r = transform.translation, transform.rotation
    translation, q = np.array([t.x, t.y, t.z]), np.array([r.x, r.y, r.z, r.w])
    norm = float(np.linalg.norm(q))
    if not (np.isfinite(translation).all() and 0.5 < norm < 2.0):
        raise TransformError(f"expected a finite translation and a unit quaternion, got {translation} and {q}")
    return Pose(rotation_matrix(q / norm), translation)


def rotation_matrix(q: Floats) -> Floats:
    """(3, 3) rotation matrix of a unit quaternion x, y, z, w (4,)."""
    x, y, z, w = q.tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def interpolated(a: Pose, b: Pose, share: float) -> Pose:
    """The pose at a share of the way from a to b, turning at a constant rate about one axis."""
    p, q = quaternion(a.rotation), quaternion(b.rotation)
    cosine = float(p @ q)
    if cosine < 0:
        q, cosine = -q, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < SMALL_TURN:
        mixed = (1 - share) * p + share * q
    else:
        mixed = (np.sin((1 - share) * angle) * p + np.sin(share * angle) * q) / np.sin(angle)
    translation = (1 - share) * a.translation + share * b.translation
    return Pose(rotation_matrix(mixed / np.linalg.norm(mixed)), translation)


class TransformError(CamtrackError):
    """A transform that is not known at the time."""

    cause = "no transform"


class TooEarly(TransformError):
    """The transform is not known yet: it may still arrive."""


def checked(message: Any) -> tuple[list[tuple[Any, Pose]], list[str]]:
    """The transforms of a TFMessage that can be used, with their poses, and a sentence for each of the others."""
    usable, broken = [], []
    for transform in message.transforms:
        try:
            pose = to_pose(transform.transform)
        except TransformError as error:
            broken.append(f"from '{transform.child_frame_id}' to '{transform.header.frame_id}': {error}")
            continue
        usable.append((transform, pose))
    return usable, broken


class Restarts:
    """Tells where a recording of transforms starts again: see StampOrder. A straggler does not make one forget."""

    def __init__(self) -> None:
        self._orders: dict[str, StampOrder] = {}  # by child

    def seen_in(self, transforms: Iterable[tuple[Any, Pose]]) -> bool:
        """Whether these transforms show that the recording has started again."""
        jumped = {}
        for transform, _ in transforms:
            child = transform.child_frame_id
            order = self._orders.setdefault(child, StampOrder(REORDERING))
            if order.judge(to_nanoseconds(transform.header.stamp)) is Arrival.JUMP_BACK:
                jumped[child] = order
        if jumped:
            self._orders = jumped
        return bool(jumped)


class Jumps:
    """Tells of frames that are moved faster than anything drives, as by two publishers that disagree."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, Floats]] = {}  # stamp and place by child

    def seen_in(self, transforms: Iterable[tuple[Any, Pose]]) -> list[str]:
        """A sentence for each of these transforms that lies too far from the one before."""
        sentences = []
        for transform, pose in transforms:
            child, time_ns = transform.child_frame_id, to_nanoseconds(transform.header.stamp)
            before_ns, place = self._last.get(child, (time_ns, pose.translation))
            self._last[child] = time_ns, pose.translation
            seconds = abs(time_ns - before_ns) / NANOSECONDS
            distance = float(np.linalg.norm(pose.translation - place))
            if distance > CORRECTION + FASTEST * seconds:
                what = f"the transform from '{child}' to '{transform.header.frame_id}' jumps by {distance:.1f} m"
                sentences.append(f"{what} within {seconds:.2f} s: do two publishers send it?")
        return sentences


class TransformBuffer:
    """The transforms of the last seconds, looked up at a time.

    Frames form a tree. Memory is bounded by the number of frames and HISTORY.
    """

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {}  # by child
        self._restarts = Restarts()

    def add(self, message: Any, static: bool = False) -> None:
        """Take in a TFMessage. Raises TransformError where some of its transforms are broken, after the others."""
        transforms, broken = checked(message)
        if not static and self._restarts.seen_in(transforms):
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}
        for transform, pose in transforms:
            child, parent = frame_name(transform.child_frame_id), frame_name(transform.header.frame_id)
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
            edge.add(to_nanoseconds(transform.header.stamp), pose)
        if broken:
            raise TransformError("; ".join(broken))

    def lookup(self, target: str, source: str, time_ns: int) -> Pose:
        """The pose of `source` in `target` at a time: maps points of source to target.

        Raises:
            TooEarly: a transform on the way ends before the time, and may still arrive.
            TransformError: the frames are unknown or not connected, or the time is further back than is remembered.
        """
        target, source = frame_name(target), frame_name(source)
        up, down = self._ancestors(source), self._ancestors(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            raise TooEarly(f"expected transforms from '{source}' to '{target}', but nothing connects them so far")
        return self._pose(target, common, time_ns).inverse() @ self._pose(source, common, time_ns)

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame]
        while frame in self._edges and self._edges[frame].parent not in chain:
            frame = self._edges[frame].parent
            chain.append(frame)
        return chain

    def _pose(self, frame: str, ancestor: str, time_ns: int) -> Pose:
        """The pose of a frame in one of its ancestors."""
        pose = Pose(np.eye(3), np.zeros(3))
        while frame != ancestor:
            edge = self._edges[frame]
            pose = edge.at(time_ns, frame) @ pose
            frame = edge.parent
        return pose


class _Edge:
    """Poses of one frame in its parent over time; a static one has a single pose for all times."""

    def __init__(self, parent: str, static: bool) -> None:
        self.parent = parent
        self.static = static
        self._times: list[int] = []
        self._poses: list[Pose] = []

    def add(self, time_ns: int, pose: Pose) -> None:
        if self.static:
            self._times, self._poses = [], []
        place = bisect_left(self._times, time_ns)
        if place < len(self._times) and self._times[place] == time_ns:
            self._poses[place] = pose
            return
        self._times.insert(place, time_ns)
        self._poses.insert(place, pose)
        forgotten = max(bisect_left(self._times, self._times[-1] - HISTORY), len(self._times) - MAX_POSES)
        if forgotten > 0:
            del self._times[:forgotten], self._poses[:forgotten]

    def at(self, time_ns: int, frame: str) -> Pose:
        if self.static:
            return self._poses[0]
        after = bisect_left(self._times, time_ns)
        if after == len(self._times):
            behind = (time_ns - self._times[-1]) / NANOSECONDS
            raise TooEarly(f"expected a transform from '{frame}' to '{self.parent}', the newest is {behind:.3f} s old")
        if self._times[after] == time_ns:
            return self._poses[after]
        if after == 0:
            ahead = (self._times[0] - time_ns) / NANOSECONDS
            sentence = f"expected a transform from '{frame}' to '{self.parent}', the first is {ahead:.3f} s later"
            raise TransformError(sentence)
        start, end = self._times[after - 1], self._times[after]
        return interpolated(self._poses[after - 1], self._poses[after], (time_ns - start) / (end - start))
