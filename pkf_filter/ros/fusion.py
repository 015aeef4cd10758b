"""Fusion of several sensors for the PKF node: messages and transforms in, tracks in the fixed frame out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from camtrack_core.errors import CamtrackError, ConfigurationError
from camtrack_core.geometry.boxes import Boxes2D, Detections3D, Floats
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.ground import height_over_ground
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.messages import cdr, cdr3d, point_cloud
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.camera_info import distortion, read_camera
from camtrack_core.ros.messages.frames import frame_name
from camtrack_core.ros.messages.image import measurement_time
from camtrack_core.ros.messages.stamps import NANOSECONDS, fill_stamp, to_nanoseconds
from camtrack_core.ros.tf.transform_listener import TransformListener
from camtrack_core.ros.tf.transforms import TooEarly, TransformError
from pkf_filter.life.history import TimeError
from pkf_filter.ros.fusion_config import FusionParameters, SensorParameters
from pkf_filter.ros.gathering import Gathering
from pkf_filter.ros.precompile import warm_up_in_space
from pkf_filter.ros.trajectories import Trajectories
from pkf_filter.space.config import SensorModel
from pkf_filter.space.tracker import WorldTracker

RETRY = 0.02  # seconds between two looks for a transform that detections wait for
MAX_WAITING = 100  # messages
MAX_VELOCITIES = 10  # messages of a sensor
LOW_AGREEMENT = 0.6
LARGE_OFFSET = 1.0  # deviations
FEW_ANSWERS = 0.9  # share of its group's stamps
LATE_MARGIN = 1.5  # in the greatest lateness of late
FORGOTTEN = 0.95  # of a sensor's lateness remains with every measurement that is in time


class NoCalibration(CamtrackError):
    """Boxes in an image whose camera is not known."""

    cause = "no calibration"


@dataclass
class _Sensor:
    """One sensor: its parameters, what is known of its camera, and when it was heard last (monotonic seconds).

    Attributes:
        late: seconds by which its measurements come after newer ones have been taken; 0 while they are in time.
        lost: number of those that came too late.
    """

    name: str
    parameters: SensorParameters
    topic: str
    heard: float
    ever: bool = False
    late: float = 0.0
    lost: int = 0
    told: int = 0  # of those lost
    stated: int = 0  # detections with a covariance of their own
    usable: int = 0  # of so many
    due: bool = False  # whether a measurement was taken since tracks were published
    camera: Camera | None = None
    velocities: dict[int, dict[str, tuple[float, ...]]] = field(default_factory=dict)  # by stamp; the newest few


@dataclass(frozen=True)
class _Waiting:
    """Detections whose transform or velocities may still arrive, until a deadline (monotonic seconds)."""

    sensor: _Sensor
    detections: Any
    time_ns: int
    deadline: float


@dataclass(frozen=True)
class _Measurement:
    """Detections that can be taken: it is known where the sensor was."""

    sensor: _Sensor
    detections: Any
    velocities: dict[str, tuple[float, ...]]
    time_ns: int
    pose: Pose
    height: float  # metres of a camera over the ground, 0 where nobody asks


class Fusion:
    """Tracks in the fixed frame from the topics of all sensors. Create it in the node's configure.

    Publishes `~/tracks`, and while someone listens `~/trajectories`, `~/markers`, `~/states` and `~/predictions`.
    """

    def __init__(self, node: CamtrackNode[Any], parameters: FusionParameters) -> None:
        self._node = node
        self._parameters = parameters
        unknown = set(parameters.publish_after) - set(parameters.sensors)
        if unknown:
            raise ConfigurationError(f"parameter 'publish_after': expected names of sensors, got {sorted(unknown)}")
        sensors = _sensors(parameters)
        warm_up_in_space(parameters.world)
        models = {
            name: SensorModel(**sensor.model_dump(include=set(SensorModel.model_fields)))
            for name, sensor in sensors.items()
        }
        self._tracker = WorldTracker(parameters.world, models)
        self._trajectories = Trajectories(parameters.history, parameters.horizon, parameters.trajectory_step)
        self._waiting: deque[_Waiting] = deque()
        self._gathering = Gathering(_groups(sensors), {name: sensor.timeout for name, sensor in sensors.items()})
        self._published_ns = 0
        self._taken = 0  # measurements
        self._measured = time.monotonic()

        self._tracks = node.advertise(Detection3DArray, "~/tracks", RESULTS)
        self._motion = node.advertise(MultiDOFJointTrajectory, "~/trajectories", RESULTS)
        self._markers = node.advertise(MarkerArray, "~/markers", RESULTS)
        self._states = node.advertise(PointCloud2, "~/states", RESULTS)
        self._predictions = node.advertise(PointCloud2, "~/predictions", RESULTS)
        self._transforms = TransformListener(node, self._retry)
        self._sensors = [self._listen(name, sensor) for name, sensor in sensors.items()]
        self._look_again = node.alarm(self._retry)
        node.watch(self._watch)
        if parameters.publish_rate:
            node.repeat(1 / parameters.publish_rate, self._publish_at_rate)

    def reset(self) -> None:
        """Time went backwards."""
        self._tracker.reset()
        self._trajectories.reset()
        self._waiting.clear()
        self._gathering.reset()
        self._published_ns = 0

    def close(self) -> None:
        self._transforms.close()

    # --- In

    def _listen(self, name: str, parameters: SensorParameters) -> _Sensor:
        node, topic = self._node, parameters.topic or f"{name}/tracks"
        now = time.monotonic()
        sensor = _Sensor(name, parameters, node.resolve_topic_name(topic), heard=now)
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
            parameters = self._parameters
            if self._node.accept(sensor.topic, time_ns, parameters.future_tolerance, self._tracker.max_lag):
                self._take(_Waiting(sensor, detections, time_ns, sensor.heard + parameters.transform_timeout))

    def _on_velocities(self, sensor: _Sensor, data: bytes) -> None:
        header, velocities = cdr3d.unpack_velocities(data)
        sensor.velocities[to_nanoseconds(header.stamp)] = velocities
        if len(sensor.velocities) > MAX_VELOCITIES:
            del sensor.velocities[next(iter(sensor.velocities))]
        self._retry()

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
        measurement = None
        try:
            pose = self._transforms.lookup(self._parameters.fixed_frame, frame, time_ns)
            velocities = sensor.velocities.pop(time_ns, {})
            height = self._height(sensor, pose, time_ns)
            measurement = _Measurement(sensor, waiting.detections, velocities, time_ns, pose, height)
        except TransformError as error:
            if isinstance(error, TooEarly) and may_wait:
                self._wait(waiting)
                return
            self._node.drop(error.cause, f"detections of '{sensor.name}': {error}")
        for taken in self._gathering.add(sensor.name, time_ns, measurement):
            self._track_together(taken)

    def _height(self, sensor: _Sensor, pose: Pose, time_ns: int) -> float:
        """Of a camera over the ground, metres, where its boxes may start tracks; else 0. Raises TransformError."""
        if sensor.parameters.kind != "boxes_2d" or not sensor.parameters.pitch_deviation:
            return 0.0
        fixed, ground = self._parameters.fixed_frame, self._parameters.ground_frame
        return height_over_ground(pose, self._transforms.lookup(fixed, ground, time_ns))

    def _track_together(self, measurements: list[_Measurement]) -> None:
        """Measurements of one stamp; the tracks are published after the last of them."""
        tracked = [(one.sensor, tracks) for one in measurements if (tracks := self._tracked(one)) is not None]
        if not tracked:
            return
        self._node.monitor.facts["tracks"] = str(len(tracked[-1][1]))
        self._node.monitor.facts["association"] = str(self._tracker.budget)
        self._measured = time.monotonic()
        newest, tracks = self._tracker.time_ns, tracked[-1][1]
        assert newest is not None
        if self._is_due([sensor for sensor, _ in tracked]):
            if self._parameters.compensate_latency:
                self._publish_at(self._now(newest))
            elif newest > self._published_ns:
                self._publish(newest, tracks)

    def _tracked(self, measurement: _Measurement) -> Tracks3D | None:
        """The tracks after a measurement; None, and a drop, where it cannot be used."""
        sensor = measurement.sensor
        self._follow_lateness(sensor, measurement.time_ns)
        try:
            return self._track(measurement)
        except TimeError as error:
            sensor.lost += 1
            self._node.drop(f"{sensor.name} too late", f"detections of '{sensor.name}': {error}")
        except CamtrackError as error:  # one message must not stop those that wait behind it
            self._node.drop(getattr(error, "cause", type(error).__name__), str(error))
        return None

    def _follow_lateness(self, sensor: _Sensor, time_ns: int) -> None:
        """The tracker remembers as much as the latest sensor needs, at most as long as a track lives unseen."""
        newest, world = self._tracker.time_ns, self._parameters.world
        late = max((newest - time_ns) / NANOSECONDS, 0.0) if newest is not None else 0.0
        sensor.late = max(late, sensor.late * FORGOTTEN)
        needed = LATE_MARGIN * max(other.late for other in self._sensors)
        self._tracker.max_lag = max(world.max_lag, min(needed, world.max_silence))

    def _track(self, measurement: _Measurement) -> Tracks3D:
        monitor, tracker, dropped = self._node.monitor, self._tracker, self._tracker.dropped
        sensor, detections, time_ns = measurement.sensor, measurement.detections, measurement.time_ns
        pose = measurement.pose
        if sensor.parameters.kind == "boxes_2d":
            if sensor.camera is None:
                raise NoCalibration(f"expected a usable CameraInfo for '{sensor.name}' before its detections, got none")
            for name in messages.class_names(detections):
                tracker.class_id(name)
            boxes: Boxes2D | Detections3D = messages.to_boxes(detections, tracker.class_names)
            with monitor.stage("track"):
                height = measurement.height
                tracks = tracker.step_image(time_ns, boxes, sensor.camera, pose, sensor.name, height)  # type: ignore[arg-type]
        else:
            boxes = messages3d.to_detections(detections, tracker.class_id, pose, measurement.velocities)
            covariance = self._stated(sensor, detections, pose)
            with monitor.stage("track"):
                tracks = tracker.step(time_ns, boxes, sensor.name, pose, covariance)
        unusable = len(detections.ids) - len(boxes) + tracker.dropped - dropped
        if unusable:
            self._node.drop("unusable detection", "expected finite boxes of plausible size with a class", unusable)
        self._taken += 1
        monitor.facts["measurements"] = str(self._taken)
        return tracks

    def _stated(self, sensor: _Sensor, detections: Any, pose: Pose) -> Floats | None:
        """(M, 4, 4) covariances that the usable detections state, times the sensor's factor; None where none does."""
        factor = sensor.parameters.covariance_factor
        if not factor:
            return None
        found = messages3d.stated_covariances(detections, self._tracker.class_id, pose)
        count = int(np.isfinite(found).all((1, 2)).sum())
        sensor.stated, sensor.usable = sensor.stated + count, sensor.usable + len(found)
        self._node.monitor.facts[f"{sensor.name} covariances"] = f"{sensor.stated} of {sensor.usable}"
        return factor * found if count else None

    # --- Out

    def _is_due(self, sensors: list[_Sensor]) -> bool:
        """Whether tracks are published after the measurements of these sensors."""
        after = self._parameters.publish_after
        if self._parameters.publish_rate or not after:
            return not self._parameters.publish_rate
        for sensor in sensors:
            sensor.due = True
        speaking = [sensor for sensor in self._named(after) if not self._gathering.is_silent(sensor.name)]
        return all(sensor.due for sensor in speaking)

    def _named(self, names: tuple[str, ...]) -> list[_Sensor]:
        """The sensors of these names, of every camera."""
        return [sensor for sensor in self._sensors if sensor.name.rpartition("/")[2] in names]

    def _all_silent(self, names: tuple[str, ...]) -> bool:
        """Whether the stamps of others have gone on without any of these sensors."""
        return all(self._gathering.is_silent(sensor.name) for sensor in self._named(names))

    def _publish_at_rate(self) -> None:
        newest = self._tracker.time_ns
        if newest is None:  # neither is it known whether stamps follow the clock
            return
        self._publish_at(self._now(newest))

    def _now(self, newest: int) -> int:
        """The clock's time where that is near the newest measurement's, else that one's plus the time since it came.

        Recordings are often played without their clock.
        """
        now, silence = self._node.get_clock().now().nanoseconds, self._parameters.world.max_silence
        if 0 <= now - newest <= silence * NANOSECONDS:
            return now
        return newest + round((time.monotonic() - self._measured) * NANOSECONDS)

    def _publish_at(self, now: int) -> None:
        """Publish the tracks as they are expected at a time, which are none long after the last measurement."""
        if now > self._published_ns:
            tracks = self._tracker.predicted(now)
            self._publish(now, tracks[tracks.states.silence <= self._parameters.world.max_silence])

    def _publish(self, time_ns: int, tracks: Tracks3D) -> None:
        self._published_ns = time_ns
        for sensor in self._sensors:
            sensor.due = False
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
            if self._states.get_subscription_count():
                self._states.publish(point_cloud.to_point_cloud(header, point_cloud.states(tracks, names)))
            if self._predictions.get_subscription_count():
                ahead = self._trajectories.offsets[self._trajectories.offsets >= 0]
                expected = [self._tracker.predicted(time_ns + offset) for offset in ahead.tolist()]
                self._predictions.publish(point_cloud.to_point_cloud(header, point_cloud.predictions(expected, ahead)))
        self._node.monitor.processed += 1

    # --- Health

    def _watch(self) -> None:
        now = time.monotonic()
        for sensor in self._sensors:
            silence = now - sensor.heard
            since = "" if sensor.ever else " (never so far)"
            sentence = f"no detections of '{sensor.name}' on {sensor.topic} for {silence:.0f} s{since}"
            pace = self._gathering.paces[sensor.name]
            self._node.warn(sensor.name, sentence if silence > self._gathering.allowance(sensor.name) else None)
            self._tell_lateness(sensor, pace.answered)
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

    def _tell_lateness(self, sensor: _Sensor, answered: float) -> None:
        """Stands as long as measurements come too late, and as long as stamps stay without an answer."""
        sentence = (
            f"detections of '{sensor.name}' come {sensor.late:.1f} s after newer ones were taken: {sensor.lost} were "
            "too late"
        )
        self._node.warn(f"{sensor.name} late", sentence if sensor.lost > sensor.told else None)
        sensor.told = sensor.lost
        facts = self._node.monitor.facts
        if sensor.parameters.group:
            facts[f"{sensor.name} answered"] = f"{answered:.2f}"
        sentence = (
            f"'{sensor.name}' answers {answered:.0%} of the stamps of its group '{sensor.parameters.group}': "
            "is it too slow for them?"
        )
        self._node.warn(f"{sensor.name} answered", sentence if answered < FEW_ANSWERS else None)


def _groups(sensors: dict[str, SensorParameters]) -> list[tuple[str, ...]]:
    """Names of the sensors of each group, in their order; without a group each is one by itself."""
    groups: dict[str, list[str]] = {}
    for name, sensor in sensors.items():
        groups.setdefault(sensor.group or f"{name} alone", []).append(name)
    return [tuple(names) for names in groups.values()]


def _sensors(parameters: FusionParameters) -> dict[str, SensorParameters]:
    """Every sensor by its name: those of a camera as CAMERA/NAME, with topics and groups of the camera's own."""
    named: dict[str, SensorParameters] = {name: getattr(parameters, name) for name in parameters.sensors}
    if not parameters.cameras:
        return named
    return {
        f"{camera}/{name}": sensor.model_copy(update={
            "topic": f"{camera}/{sensor.topic or f'{name}/tracks'}",
            "velocities": sensor.velocities and f"{camera}/{sensor.velocities}",
            "camera_info": f"{camera}/{sensor.camera_info or f'{name}/camera_info'}",
            "group": sensor.group and f"{camera}/{sensor.group}",
        })
        for camera in parameters.cameras
        for name, sensor in named.items()
    }  # fmt: skip
