"""Recordings to rosbag2 bags, without ROS: images, calibration, transforms and, on request, the truth.

For a camera CAM the topics are /CAM/image or /CAM/image/compressed, /CAM/camera_info, /CAM/ground_truth and
/CAM/ground_truth_3d, beside /tf and /tf_static. Messages lie at the time of their stamp; who receives an image finds
its transforms, calibration and truth already there.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from camtrack_core.datasets.frames import Frame, Labels, Sequence
from camtrack_core.datasets.rosbag import types
from camtrack_core.datasets.rosbag.bag import TRUTH, TRUTH_3D, VEHICLE_FRAME
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import Pose

Storage = Literal["mcap", "sqlite3"]
VERSION: Literal[9] = 9  # of the metadata, as Jazzy writes them
FIXED_FRAME = "map"
STILL = 1e-9  # metres and radians; a mounting that moves less stays where it was
NO_DISTORTION = "plumb_bob"


@dataclass(frozen=True)
class BagOptions:
    """What a bag is to hold.

    Attributes:
        storage: of rosbag2.
        quality: of JPEG images, 1 to 100; 0 for raw images.
        truth: the labels as detections.
    """

    storage: Storage = "mcap"
    quality: int = 0
    truth: bool = False


Entry = tuple[str, int, Any]  # topic, time in nanoseconds, message


def write_bag(
    cameras: Mapping[str, Sequence], out: Path, options: BagOptions, advance: Callable[[], None] = lambda: None
) -> int:
    """Writes what the cameras of one recording saw; returns the number of messages.

    Args:
        cameras: recordings by the name of the camera, which is its namespace and the frame of its images.
        out: folder to be made.
        options: what to write.
        advance: called after every frame.

    Raises:
        DataError: `out` is there already or cannot be written, or a recording is broken; in this case the bag holds
            all that came before the fault.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

    if out.exists():
        raise DataError(f"{out} is there already; expected the name of a bag to be made")
    writer = Writer(out, version=VERSION, storage_plugin=StoragePlugin[options.storage.upper()])
    fault: DataError | None = None
    count = 0
    try:
        with writer:
            topics = _Topics(writer)
            steps = bag_messages(cameras, options)
            while True:
                try:
                    step = next(steps)
                except StopIteration:
                    break
                except DataError as error:
                    fault = error
                    break
                for topic, time_ns, message in step:
                    topics.write(topic, time_ns, message)
                count += len(step)
                advance()
    except (OSError, WriterError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot write the bag {out}: {reason}; what is there of it is incomplete") from error
    if not count and fault is None:
        raise DataError(f"expected at least one frame for the bag {out}, found none")
    if fault is not None:
        raise DataError(f"{fault}; {out} ends before it, after {count} messages") from fault
    return count


def bag_messages(cameras: Mapping[str, Sequence], options: BagOptions) -> Iterator[list[Entry]]:
    """The messages of one frame after the other, in the order of their stamps."""
    mountings: dict[str, Pose] = {}
    placed = (-1, "")
    frames = heapq.merge(*(_named(name, s) for name, s in cameras.items()), key=lambda item: item[0].time_ns)
    for frame, name, class_names in frames:
        entries = []
        mounting = _mounting(frame)
        if mounting is not None and _moved(mountings.get(name), mounting):
            mountings[name] = mounting
            entries.append(_transforms("/tf_static", mounting, VEHICLE_FRAME, name, frame.time_ns))
        place = frame.ego_pose if frame.ego_pose is not None else frame.camera_pose
        child = VEHICLE_FRAME if frame.ego_pose is not None else name
        if place is not None and placed != (frame.time_ns, child):  # cameras of one vehicle share its pose
            entries.append(_transforms("/tf", place, FIXED_FRAME, child, frame.time_ns))
            placed = (frame.time_ns, child)
        entries.append((f"/{name}/camera_info", frame.time_ns, camera_info(frame, name)))
        if options.truth and frame.labels is not None:
            truth = detections_2d(frame.labels, class_names, frame.time_ns, name)
            entries.append((f"/{name}/{TRUTH}", frame.time_ns, truth))
            if frame.boxes3d is not None:
                spatial = detections_3d(frame.labels, frame.boxes3d, class_names, frame.time_ns, FIXED_FRAME)
                entries.append((f"/{name}/{TRUTH_3D}", frame.time_ns, spatial))
        topic = f"/{name}/image/compressed" if options.quality else f"/{name}/image"
        image = compressed(frame, name, options.quality) if options.quality else raw(frame, name)
        yield [*entries, (topic, frame.time_ns, image)]


def _named(name: str, sequence: Sequence) -> Iterator[tuple[Frame, str, tuple[str, ...]]]:
    for frame in sequence:
        yield frame, name, sequence.class_names


def _mounting(frame: Frame) -> Pose | None:
    """Camera in the vehicle."""
    if frame.ego_pose is None or frame.camera_pose is None:
        return None
    return frame.ego_pose.inverse() @ frame.camera_pose


def _moved(before: Pose | None, now: Pose) -> bool:
    if before is None:
        return True
    shift, turn = now.translation - before.translation, now.rotation - before.rotation
    return bool(max(np.abs(shift).max(), np.abs(turn).max()) > STILL)


class _Topics:
    """The connections of a bag that is being written; topics appear with their first message."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._connections: dict[str, Any] = {}

    def write(self, topic: str, time_ns: int, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, message.__msgtype__, typestore=types.typestore(), offered_qos_profiles=[_qos(topic)]
            )
        self._writer.write(self._connections[topic], time_ns, types.serialise(message))


def _qos(topic: str) -> Any:
    """What `ros2 bag play` offers; static transforms are kept for those who come later."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    kept = topic == "/tf_static"
    forever = QosTime(9223372036, 854775807)  # how rosbag2 writes a duration without end
    return Qos(
        QosHistory.KEEP_LAST,
        100 if topic.startswith("/tf") else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if kept else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )


# ------------------------------------------------------------------------------------------------ messages


def raw(frame: Frame, frame_id: str) -> Any:
    height, width = frame.image.shape[:2]
    return types.message(
        types.IMAGE, header=types.header(frame.time_ns, frame_id), height=height, width=width, encoding="bgr8",
        is_bigendian=0, step=3 * width, data=np.ascontiguousarray(frame.image).reshape(-1),
    )  # fmt: skip


def compressed(frame: Frame, frame_id: str, quality: int) -> Any:
    _, data = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return types.message(
        types.COMPRESSED_IMAGE, header=types.header(frame.time_ns, frame_id), format="bgr8; jpeg compressed bgr8",
        data=data,
    )  # fmt: skip


def camera_info(frame: Frame, frame_id: str) -> Any:
    """Calibration of a frame; zero intrinsics mean "uncalibrated" in ROS."""
    height, width = frame.image.shape[:2]
    known = frame.camera is not None or bool(frame.camera_fault)
    k = frame.calibrated().intrinsics.astype(float) if known else np.zeros((3, 3))
    region = types.message(
        "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return types.message(
        types.CAMERA_INFO, header=types.header(frame.time_ns, frame_id), height=height, width=width,
        distortion_model=NO_DISTORTION, d=np.zeros(5), k=k.reshape(-1), r=(np.eye(3) * known).reshape(-1),
        p=np.column_stack([k, np.zeros(3)]).reshape(-1), binning_x=0, binning_y=0, roi=region,
    )  # fmt: skip


def detections_2d(labels: Labels, class_names: tuple[str, ...], time_ns: int, frame_id: str) -> Any:
    """The labels as detections; a score says how much of the object is seen."""
    head = types.header(time_ns, frame_id)
    rows = []
    for row, (x1, y1, x2, y2) in enumerate(labels.xyxy.astype(float).tolist()):
        centre = types.message("vision_msgs/msg/Point2D", x=(x1 + x2) / 2, y=(y1 + y2) / 2)
        place = types.message("vision_msgs/msg/Pose2D", position=centre, theta=0.0)
        box = types.message("vision_msgs/msg/BoundingBox2D", center=place, size_x=x2 - x1, size_y=y2 - y1)
        rows.append(_detection("Detection2D", labels, row, class_names, head, box))
    return types.message(types.DETECTIONS_2D, header=head, detections=rows)


def detections_3d(labels: Labels, boxes: Boxes3D, class_names: tuple[str, ...], time_ns: int, frame_id: str) -> Any:
    """The labelled boxes in space as detections, in the fixed frame."""
    head = types.header(time_ns, frame_id)
    rows = []
    for row, (centre, size, yaw) in enumerate(zip(boxes.centre, boxes.size, boxes.yaw.tolist(), strict=True)):
        turn = types.message(
            "geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2))
        )
        x, y, z = centre.tolist()
        point = types.message("geometry_msgs/msg/Point", x=x, y=y, z=z)
        pose = types.message("geometry_msgs/msg/Pose", position=point, orientation=turn)
        box = types.message("vision_msgs/msg/BoundingBox3D", center=pose, size=types.vector(size))
        rows.append(_detection("Detection3D", labels, row, class_names, head, box))
    return types.message(types.DETECTIONS_3D, header=head, detections=rows)


def _detection(kind: str, labels: Labels, row: int, class_names: tuple[str, ...], head: Any, box: Any) -> Any:
    name, score = class_names[labels.class_ids[row]], float(labels.visible[row])
    hypothesis = types.message("vision_msgs/msg/ObjectHypothesis", class_id=name, score=score)
    result = types.message("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=types.no_pose())
    return types.message(f"vision_msgs/msg/{kind}", header=head, results=[result], bbox=box, id=str(labels.ids[row]))


def _transforms(topic: str, pose: Pose, parent: str, child: str, time_ns: int) -> Entry:
    return topic, time_ns, types.message(types.TRANSFORMS, transforms=[types.transform(pose, parent, child, time_ns)])
