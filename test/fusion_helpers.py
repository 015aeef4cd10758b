"""A running fusion node and a peer that plays vehicle, sensors and user."""

from __future__ import annotations

from typing import Any

import numpy as np
from ros_helpers import Diagnostics, Graph, collect
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA, STATIC_TRANSFORMS, TRANSFORMS
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transforms import to_transform
from pkf_filter.ros.node import PkfNode

SECOND = 1_000_000_000
FRAME = SECOND // 10
CAMERA = Camera.from_field_of_view(1280, 720, 70.0)
MOUNT = Pose(OPTICAL_IN_VEHICLE, np.array([1.0, 0.0, 1.5]))  # of the camera on the vehicle
UPRIGHT = OPTICAL_IN_VEHICLE.T


def header(frame: str, time_ns: int) -> Header:
    made = Header(frame_id=frame)
    fill_stamp(made.stamp, time_ns)
    return made


def vehicle(time_ns: int) -> Pose:
    """The vehicle drives along x at 10 m/s."""
    return Pose(np.eye(3), np.array([10.0 * time_ns / SECOND, 0, 0]))


def pictured_car(time_ns: int, x: float, y: float) -> Boxes2D:
    """The box of a car at a place in the fixed frame, in the camera's image."""
    boxes = Boxes3D(np.array([[x, y, 0.75]]), np.array([[4.0, 1.8, 1.5]]), np.zeros(1), np.zeros((1, 3)))
    pose = vehicle(time_ns) @ MOUNT
    pixels = CAMERA.project(pose.inverse().apply(boxes.corners()))[0]
    xyxy = np.concatenate([pixels.min(0), pixels.max(0)])[None]
    return Boxes2D(xyxy, np.array([0.95]), np.zeros(1, np.int64))


class Bench:
    """A running node and a peer that plays vehicle, sensors and user."""

    def __init__(self, graph: Graph, **parameters: Any) -> None:
        self.graph = graph
        self.node = graph.start(PkfNode, **{"fixed_frame": "odom", "transform_timeout": 20.0, **parameters})
        self.peer = graph.peer()
        self.diagnostics = Diagnostics(self.peer)
        self.heard = collect(self.peer, Detection3DArray, "pkf_filter/tracks", RESULTS)
        self._publishers: dict[str, Any] = {}
        self._static(TFMessage(transforms=[to_transform(MOUNT, "base_link", "camera", header("", 0).stamp)]))
        graph.spin_until(lambda: self.peer.count_publishers("pkf_filter/tracks"))

    def _static(self, message: TFMessage) -> None:
        self._publisher(TFMessage, "/tf_static", STATIC_TRANSFORMS).publish(message)

    def _publisher(self, kind: type, topic: str, qos: Any) -> Any:
        if topic not in self._publishers:
            publisher = self._publishers[topic] = self.peer.create_publisher(kind, topic, qos)
            self.graph.spin_until(publisher.get_subscription_count)
        return self._publishers[topic]

    def move(self, time_ns: int) -> None:
        pose = to_transform(vehicle(time_ns), "odom", "base_link", header("", time_ns).stamp)
        self._publisher(TFMessage, "/tf", TRANSFORMS).publish(TFMessage(transforms=[pose]))

    def detect(self, time_ns: int, *places: tuple[float, float], topic: str = "front/tracks", frame: str = "camera"):  # type: ignore[no-untyped-def]
        """Cars at places x, y in the fixed frame, as the camera's 3D detector says."""
        centre = np.array([(x, y, 0.75) for x, y in places]).reshape(-1, 3)
        placed = vehicle(time_ns).apply(MOUNT.translation)
        count = len(places)
        boxes = Boxes3D(centre - placed, np.tile([4.0, 1.8, 1.5], (count, 1)), np.zeros(count), np.zeros((count, 3)))
        detections = Detections3D(boxes, np.full(count, 0.95), np.zeros(count, np.int64))
        data = messages3d.pack_boxes(detections, ("car",), header(frame, time_ns), UPRIGHT)
        self._publisher(Detection3DArray, topic, RESULTS).publish(data)

    def detect_car(self, time_ns: int) -> None:
        self.detect(time_ns, (40.0, 2.0))

    def see(self, time_ns: int, x: float, y: float) -> None:
        """The same as the camera's 2D detector says."""
        message = messages.from_boxes(pictured_car(time_ns, x, y), ("car",), header("camera", time_ns))
        self._publisher(Detection2DArray, "image/tracks", RESULTS).publish(message)

    def calibrate(self, **changes: Any) -> None:
        """The camera of the sensor `image`, until the node has taken or refused it."""
        (image,) = (sensor for sensor in self.node._mode._sensors if sensor.name == "image")
        before = image.camera
        k = CAMERA.intrinsics.ravel().tolist()
        info = CameraInfo(**{"width": CAMERA.width, "height": CAMERA.height, "k": k, **changes})
        self._publisher(CameraInfo, "image/camera_info", SENSOR_DATA).publish(info)
        self.graph.spin_until(lambda: image.camera is not before)

    def answer(self, count: int) -> Detection3DArray:
        """The newest tracks, once more than `count` messages came."""
        self.graph.spin_until(lambda: len(self.heard) > count)
        return self.heard[-1]

    def taken(self) -> None:
        """Wait until one more message has been taken."""
        before = self.measurements()
        self.graph.spin_until(lambda: self.measurements() > before)

    def measurements(self) -> int:
        """How many have been taken."""
        return int(self.node.monitor.facts.get("measurements", 0))

    def drive(self, frames: range, *places: tuple[float, float]) -> Detection3DArray:
        for i in frames:
            count = len(self.heard)
            self.move(SECOND + i * FRAME)
            self.detect(SECOND + i * FRAME, *places)
            found = self.answer(count)
        return found


def centre(detection: Any) -> tuple[float, float, float]:
    position = detection.bbox.center.position
    return position.x, position.y, position.z
