"""Message types of bags for `rosbags`, which needs no ROS: those of Jazzy, and vision_msgs, which it does not know."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Pose
from camtrack_core.ros.messages.stamps import NANOSECONDS, to_nanoseconds

VISION_MSGS = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id"
    ),
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections",
}
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
DETECTIONS_2D = "vision_msgs/msg/Detection2DArray"
DETECTIONS_3D = "vision_msgs/msg/Detection3DArray"
POSE_2D = "geometry_msgs/msg/Pose2D"
TRAJECTORIES = "trajectory_msgs/msg/MultiDOFJointTrajectory"


@cache
def typestore() -> Any:
    """The types of Jazzy and vision_msgs."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in VISION_MSGS.items():
        types.update(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    store.register(types)
    return store


class OtherDefinition(ValueError):
    """A message type that a file defines in another way than it is known here."""


@lru_cache(maxsize=64)
def reader(kind: str, definition: str) -> Callable[[bytes], Any]:
    """What makes messages of the type `kind` out of bytes, by the definition in the file where it is another.

    Raises OtherDefinition, also when called, where what came of it is not what is known of the type.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    known = typestore()
    found = get_types_from_msg(definition, kind) if definition else {}
    different = sorted(name for name, fields in found.items() if known.fielddefs.get(name, fields) != fields)
    if not different:
        if kind not in known.fielddefs:
            known.register(found)
        return lambda data: known.deserialize_cdr(data, kind)
    sentence = f"its file defines {', '.join(different)} in another way than ROS Jazzy does"
    # More fields do no harm; of vision_msgs older releases are known.
    rest = [name for name in different if name in known.fielddefs and not name.startswith("vision_msgs/")]
    lacking = [name for name in rest if name != POSE_2D and not _fields(known, name) <= set(found[name][1])]
    own = get_typestore(Stores.EMPTY)
    own.register(found)

    def read(data: bytes) -> Any:
        if lacking:
            raise OtherDefinition(sentence)
        try:
            value = own.deserialize_cdr(data, kind)
            return _as_of_today(value) if kind in (DETECTIONS_2D, DETECTIONS_3D) else value
        except Exception as error:  # the bytes do not fit, or a field is missing
            raise OtherDefinition(sentence) from error

    return read


def _fields(store: Any, name: str) -> set[Any]:
    """Names and types of a type's fields."""
    return set(store.fielddefs[name][1])


def _as_of_today(detections: Any) -> Any:
    """Detections of older releases of vision_msgs with the fields that those of today have."""
    return SimpleNamespace(header=detections.header, detections=[_detection(d) for d in detections.detections])


def _detection(value: Any) -> Any:
    box, identity = value.bbox, value.id if hasattr(value, "id") else value.tracking_id
    if hasattr(box, "size_x") and not hasattr(box.center, "position"):  # a geometry_msgs/Pose2D
        box = SimpleNamespace(
            center=SimpleNamespace(position=box.center, theta=box.center.theta), size_x=box.size_x, size_y=box.size_y
        )
    return SimpleNamespace(header=value.header, results=[_result(r) for r in value.results], bbox=box, id=identity)


def _result(value: Any) -> Any:
    if hasattr(value, "hypothesis"):
        said = value.hypothesis
        return SimpleNamespace(
            hypothesis=SimpleNamespace(
                class_id=said.class_id if hasattr(said, "class_id") else said.id, score=said.score
            )
        )
    return SimpleNamespace(hypothesis=SimpleNamespace(class_id=value.id, score=value.score))


def message(name: str, **fields: Any) -> Any:
    """A message of the type `package/msg/Name`."""
    return typestore().types[name](**fields)


def serialise(value: Any) -> memoryview:
    """The bytes of a message as DDS carries them."""
    return typestore().serialize_cdr(value, value.__msgtype__)


def stamp(time_ns: int) -> Any:
    seconds, rest = divmod(int(time_ns), NANOSECONDS)
    return message("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)


def header(time_ns: int, frame_id: str) -> Any:
    return message("std_msgs/msg/Header", stamp=stamp(time_ns), frame_id=frame_id)


def header_time(value: Any) -> int:
    """The stamp of a message with a header, in nanoseconds."""
    return int(to_nanoseconds(value.header.stamp))


def vector(values: Floats) -> Any:
    x, y, z = map(float, values)
    return message("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def rotation(matrix: Floats) -> Any:
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(matrix).as_quat(canonical=True).tolist()
    return message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def transform(pose: Pose, parent: str, child: str, time_ns: int) -> Any:
    """A TransformStamped that maps points of `child` to `parent`."""
    return message(
        "geometry_msgs/msg/TransformStamped",
        header=header(time_ns, parent),
        child_frame_id=child,
        transform=message(
            "geometry_msgs/msg/Transform", translation=vector(pose.translation), rotation=rotation(pose.rotation)
        ),
    )


@cache
def no_pose() -> Any:
    """The empty pose of a result."""
    origin = message("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0)
    pose = message("geometry_msgs/msg/Pose", position=origin, orientation=rotation(np.eye(3)))
    return message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36))


def to_pose(value: Any) -> Pose:
    """The pose that a Transform says. Raises ValueError for a rotation of length zero and for what is not finite."""
    from scipy.spatial.transform import Rotation

    r, t = value.rotation, value.translation
    turn, shift = np.array([r.x, r.y, r.z, r.w]), np.array([t.x, t.y, t.z])
    if not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        raise ValueError("its numbers are not finite")
    return Pose(Rotation.from_quat(turn).as_matrix(), shift)
