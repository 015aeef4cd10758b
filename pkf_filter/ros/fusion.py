"""Fusion of several sensors for the PKF node: messages and transforms in, tracks in the fixed frame out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from camtrack_core.errors import CamtrackError, ConfigurationError
from camtrack_core.geometry.boxes import Boxes2D, Detections3D
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.messages import cdr, cdr3d
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.camera_info import distortion, read_camera
from camtrack_core.ros.messages.frames import frame_name
from camtrack_core.ros.messages.image import measurement_time
from camtrack_core.ros.messages.stamps import NANOSECONDS, fill_stamp, to_nanoseconds
from camtrack_core.ros.tf.transform_listener import TransformListener
from camtrack_core.ros.tf.transforms import TooEarly, TransformError
from pkf_filter.ros.fusion_config import FusionParameters, SensorParameters
from pkf_filter.ros.precompile import warm_up_in_space
from pkf_filter.ros.trajectories import Trajectories
from pkf_filter.space.config import SensorModel
from pkf_filter.space.tracker import WorldTracker

RETRY = 0.02  # seconds between two looks for a transform that detections wait for
WATCH = 1.0  # seconds between two looks for silent sensors
MAX_WAITING = 100  # messages
MAX_VELOCITIES = 10  # messages of a sensor
LOW_AGREEMENT = 0.6
LARGE_OFFSET = 1.0  # deviations


class NoCalibration(CamtrackError):
    """Boxes in an image whose camera is not known."""

    cause = "no calibration"


class FromTheFuture(CamtrackError):
    """A stamp ahead of the clock."""

    cause = "stamp from the future"


@dataclass
class _Sensor:
    """One sensor: its parameters, what is known of its camera, when it was heard and when its measurements were taken
    last (monotonic seconds)."""

    name: str
    parameters: SensorParameters
    topic: str
    heard: float
    taken: float
    ever: bool = False
    camera: Camera | None = None
    velocities: dict[int, dict[str, tuple[float, ...]]] = field(default_factory=dict)  # by stamp; the newest few


@dataclass(frozen=True)
class _Waiting:
    """Detections whose transform or velocities may still arrive, until a deadline (monotonic seconds)."""

    sensor: _Sensor
    detections: Any
    time_ns: int
    deadline: float


class Fusion:
    """Tracks in the fixed frame from the topics of all sensors. Create it in the node's configure.

    Publishes `~/tracks`, and while someone listens `~/trajectories` and `~/markers`.
    """

    def __init__(self, node: CamtrackNode[Any], parameters: FusionParameters) -> None:
        self._node = node
        self._parameters = parameters
        unknown = set(parameters.publish_after) - set(parameters.sensors)
        if unknown:
            raise ConfigurationError(f"parameter 'publish_after': expected names of sensors, got {sorted(unknown)}")
        sensors = {name: getattr(parameters, name) for name in parameters.sensors}
        warm_up_in_space(parameters.world)
        models = {
            name: SensorModel(**sensor.model_dump(include=set(SensorModel.model_fields)))
            for name, sensor in sensors.items()
        }
        self._tracker = WorldTracker(parameters.world, models)
        self._trajectories = Trajectories(parameters.history, parameters.horizon, parameters.trajectory_step)
        self._waiting: deque[_Waiting] = deque()
        self._published_ns = 0
        self._measured = time.monotonic()

        self._tracks = node.advertise(Detection3DArray, "~/tracks", RESULTS)
        self._motion = node.advertise(MultiDOFJointTrajectory, "~/trajectories", RESULTS)
        self._markers = node.advertise(MarkerArray, "~/markers", RESULTS)
        self._transforms = TransformListener(node, self._retry)
        self._sensors = [self._listen(name, sensor) for name, sensor in sensors.items()]
        self._look_again = node.alarm(self._retry)
        node.repeat(WATCH, self._watch)
        if parameters.publish_rate:
            node.repeat(1 / parameters.publish_rate, self._publish_at_rate)

    def reset(self) -> None:
        """Time went backwards."""
        self._tracker.reset()
        self._trajectories.reset()
        self._waiting.clear()
        self._published_ns = 0

    def close(self) -> None:
        self._transforms.close()

    # --- In

    def _listen(self, name: str, parameters: SensorParameters) -> _Sensor:
        node, topic = self._node, parameters.topic or f"{name}/tracks"
        now = time.monotonic()
        sensor = _Sensor(name, parameters, node.resolve_topic_name(topic), heard=now, taken=now)
        if parameters.kind == "boxes_2d":
            info = parameters.camera_info or f"{name}/camera_info"
            node.subscribe(CameraInfo, info, lambda message: self._on_camera_info(sensor, message), SENSOR_DATA)
            kind: Any = Detection2DArray
            unpack: Callable[[bytes], Any] = cdr.unpack
        else:
            kind, unpack = Detection3DArray, cdr3d.unpack_detections
            if parameters.velocities:
                node.subscribe_serialised(
                    MultiDOFJointTrajectory,
                    parameters.velocities,
                    lambda data: self._on_velocities(sensor, data),
                    RESULTS,
                )
        node.subscribe_serialised(kind, topic, lambda data: self._on_detections(sensor, unpack, data), RESULTS)
        return sensor

    def _on_detections(self, sensor: _Sensor, unpack: Callable[[bytes], Any], data: bytes) -> None:
        sensor.heard, sensor.ever = time.monotonic(), True
        monitor = self._node.monitor
        with monitor.stage("total"):
            with monitor.stage("convert"):
                detections = unpack(data)
            time_ns = measurement_time(detections)
            self._check_future(sensor, time_ns)
            if self._node.accept(sensor.topic, time_ns, self._parameters.world.max_lag):
                self._take(_Waiting(sensor, detections, time_ns, sensor.heard + self._parameters.transform_timeout))

    def _on_velocities(self, sensor: _Sensor, data: bytes) -> None:
        header, velocities = cdr3d.unpack_velocities(data)
        sensor.velocities[to_nanoseconds(header.stamp)] = velocities
        if len(sensor.velocities) > MAX_VELOCITIES:
            del sensor.velocities[next(iter(sensor.velocities))]
        self._retry()

    def _check_future(self, sensor: _Sensor, time_ns: int) -> None:
        now = self._node.get_clock().now().nanoseconds
        ahead = (time_ns - now) / NANOSECONDS
        if now and ahead > self._parameters.future_tolerance:  # 0: simulated time that has not begun
            raise FromTheFuture(f"'{sensor.name}' is {ahead:.3f} s ahead of the clock: are the clocks synchronised?")

    def _on_camera_info(self, sensor: _Sensor, message: Any) -> None:
        rectified = self._parameters.rectified
        try:
            sensor.camera, wrong = read_camera(message, rectified), distortion(message, rectified)
        except ConfigurationError as error:
            sensor.camera, wrong = None, str(error)
        self._node.warn(f"{sensor.name} camera_info", None if wrong is None else f"'{sensor.name}': {wrong}")

    # --- Transforms and velocities that come after the detections

    def _retry(self) -> None:
        """Take what waits, in order of arrival; what still lacks something goes on waiting."""
        for _ in range(len(self._waiting)):
            self._take(self._waiting.popleft())

    def _wait(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._look_again.set(RETRY)

    def _take(self, waiting: _Waiting) -> None:
        frame, time_ns = frame_name(waiting.detections.header.frame_id), waiting.time_ns
        sensor, may_wait = waiting.sensor, time.monotonic() < waiting.deadline and len(self._waiting) < MAX_WAITING
        if sensor.parameters.velocities and time_ns not in sensor.velocities and may_wait:
            self._wait(waiting)
            return
        try:
            pose = self._transforms.lookup(self._parameters.fixed_frame, frame, time_ns)
        except TooEarly as error:
            if may_wait:
                self._wait(waiting)
            else:
                self._node.drop(error.cause, f"detections of '{sensor.name}': {error}")
            return
        except TransformError as error:
            self._node.drop(error.cause, f"detections of '{sensor.name}': {error}")
            return
        try:
            self._track(sensor, waiting.detections, time_ns, pose)
        except CamtrackError as error:  # one message must not stop those that wait behind it
            self._node.drop(getattr(error, "cause", type(error).__name__), str(error))

    def _track(self, sensor: _Sensor, detections: Any, time_ns: int, pose: Pose) -> None:
        monitor, tracker, dropped = self._node.monitor, self._tracker, self._tracker.dropped
        if sensor.parameters.kind == "boxes_2d":
            if sensor.camera is None:
                raise NoCalibration(f"expected a usable CameraInfo for '{sensor.name}' before its detections, got none")
            for name in messages.class_names(detections):
                tracker.class_id(name)
            boxes: Boxes2D | Detections3D = messages.to_boxes(detections, tracker.class_names)
            with monitor.stage("track"):
                tracks = tracker.step_image(time_ns, boxes, sensor.camera, pose, sensor.name)  # type: ignore[arg-type]
        else:
            velocities = sensor.velocities.pop(time_ns, {})
            boxes = messages3d.to_detections(detections, tracker.class_id, pose, velocities)
            with monitor.stage("track"):
                tracks = tracker.step(time_ns, boxes, sensor.name, pose)
        unusable = len(detections.ids) - len(boxes) + tracker.dropped - dropped
        if unusable:
            self._node.drop("unusable detection", "expected finite boxes of plausible size with a class", unusable)
        monitor.processed += 1
        monitor.facts["tracks"] = str(len(tracks))
        self._measured = sensor.taken = time.monotonic()
        assert tracker.time_ns is not None
        if self._is_due(sensor) and tracker.time_ns > self._published_ns:
            self._publish(tracker.time_ns, tracks)

    # --- Out

    def _is_due(self, sensor: _Sensor) -> bool:
        """Whether tracks are published after this sensor's measurement."""
        after = self._parameters.publish_after
        return not self._parameters.publish_rate and (not after or sensor.name in after or self._all_silent(after))

    def _all_silent(self, names: tuple[str, ...]) -> bool:
        """Whether nothing of any of these sensors has been taken within its timeout."""
        now = time.monotonic()
        named = [sensor for sensor in self._sensors if sensor.name in names]
        return all(now - sensor.taken > sensor.parameters.timeout for sensor in named)

    def _publish_at_rate(self) -> None:
        """Publish the tracks as they are expected now.

        Now is the clock's time where that is near the measurements, else the newest measurement's plus the time
        since it came: recordings are often played without their clock.
        """
        newest = self._tracker.time_ns
        if newest is None:
            return
        now = self._node.get_clock().now().nanoseconds
        silence = self._parameters.world.max_silence * NANOSECONDS
        if not 0 <= now - newest <= silence:
            now = newest + round((time.monotonic() - self._measured) * NANOSECONDS)
        if self._published_ns < now <= newest + silence:
            self._publish(now, self._tracker.predicted(now))

    def _publish(self, time_ns: int, tracks: Tracks3D) -> None:
        self._published_ns = time_ns
        header = Header(frame_id=self._parameters.fixed_frame, stamp=fill_stamp(Time(), time_ns))
        names = self._tracker.class_names
        with self._node.monitor.stage("publish"):
            self._tracks.publish(messages3d.pack_tracks(tracks, names, header))
            self._trajectories.add(time_ns, tracks)
            if self._motion.get_subscription_count():
                places, velocities = self._trajectories.sample(time_ns, tracks.ids, self._tracker.predicted)
                offsets = self._trajectories.offsets
                self._motion.publish(messages3d.pack_motion(tracks.ids, header, offsets, places, velocities))
            if self._markers.get_subscription_count():
                self._markers.publish(messages3d.to_markers(tracks, names, header))

    # --- Health

    def _watch(self) -> None:
        now = time.monotonic()
        for sensor in self._sensors:
            silence = now - sensor.heard
            since = "" if sensor.ever else " (never so far)"
            sentence = f"no detections of '{sensor.name}' on {sensor.topic} for {silence:.0f} s{since}"
            self._node.warn(sensor.name, sentence if silence > sensor.parameters.timeout else None)
            agreement = self._tracker.agreement[sensor.name]
            sentence = (
                f"only {agreement:.0%} of the tracks in view of '{sensor.name}' are confirmed by it: is its pose right?"
            )
            self._node.warn(f"{sensor.name} agreement", sentence if agreement < LOW_AGREEMENT else None)
            offset = float(np.abs(self._tracker.offsets[sensor.name]).max())
            sentence = (
                f"detections of '{sensor.name}' lie {offset:.1f} deviations beside the tracks on average: "
                "are its pose and calibration right?"
            )
            self._node.warn(f"{sensor.name} offset", sentence if offset > LARGE_OFFSET else None)
        after = self._parameters.publish_after
        sentence = f"nothing usable of {', '.join(after)}: tracks are published without"
        self._node.warn("publish_after", sentence if after and self._all_silent(after) else None)
