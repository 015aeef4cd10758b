"""Plays a recording or a generated drive as its cameras would: images, calibration, if wanted tf and /clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import inf
from typing import Any, Literal

from diagnostic_msgs.msg import DiagnosticArray
from pydantic import Field
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Bool, Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack.nodes.confined import confine
from camtrack.nodes.reports import Reports, Sending
from camtrack.replay import CameraFrame, Pacer, chosen_cameras, excerpt, read_ahead, rounds, together
from camtrack_core.config import Names, NodeParameters
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import files_of, open_source
from camtrack_core.errors import CamtrackError, DataError
from camtrack_core.ros.lifecycle import qos
from camtrack_core.ros.lifecycle.node import SUBSCRIBERS, CamtrackNode, found_subscribers
from camtrack_core.ros.lifecycle.run import run
from camtrack_core.ros.messages.cdr import unpack_stamp
from camtrack_core.ros.messages.image import fill_compressed, fill_image
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transforms import to_transform

READ_AHEAD_BYTES = 128 * 2**20
MEETING = 60.0  # seconds that nodes which are up get to find each other; on a busy machine it has taken 3
LINGER = 1.0  # seconds that the end of the recording gives those who still work on its last frames
SENDINGS = 3  # of an image whose result does not come: images travel best effort and may be lost
POLL = 0.1  # seconds between two looks at what a replay waits for; a result ends the wait at once


class ReplayParameters(NodeParameters):
    """What a replay can be told."""

    source: str = Field(description="video file, folder of frames, UA-DETRAC sequence or drive:SEED")
    root: str = Field(
        "", description="once the node runs, only sources below it may be chosen; empty: those below the first one"
    )
    cameras: Names = Field(
        (), description="names of cameras to play together, each in the namespace and the frame of its name, or all"
    )
    rate: float = Field(1.0, ge=0, description="factor on the recorded speed; 0: wait for each result")
    loop: bool = Field(False, description="start again at the end; the stamps then jump back")
    start: float = Field(0.0, ge=0, description="begin so far into the recording, seconds")
    duration: float = Field(inf, gt=0, allow_inf_nan=True, description="play this much of the recording, seconds")
    compressed: bool = Field(False, description="publish JPEG on `image/compressed` instead of `image`")
    publish_clock: bool = Field(False, description="publish the stamps on /clock")
    publish_tf: bool = Field(False, description="publish the poses of vehicle and camera, where known")
    frame_id: str = Field("camera", description="frame of the images of a single camera, optical axes")
    vehicle_frame: str = Field("base_link", description="frame of the vehicle")
    fixed_frame: str = Field("map", description="frame that the poses are given in")
    wait_for_subscribers: int = Field(1, ge=0, description="start when so many listen to the images")
    wait_for_results: bool = Field(False, description="start when somebody publishes `results`, too")
    wait_for_recorder: bool = Field(
        False, description="start when somebody publishes `written`; with rate 0 wait for what is written of each image"
    )
    result_type: Literal["Detection2DArray", "Detection3DArray"] = Field(
        "Detection2DArray", description="of the topic `results`"
    )
    subscriber_timeout: float = Field(900.0, gt=0, description="start without them after so long, seconds")
    result_timeout: float = Field(
        5.0,
        gt=0,
        description="with rate 0: give a result up so many seconds after the last node has done with its image, "
        "or send that again to who has not got it: a slow one is waited for",
    )


RESULT_TYPES = {"Detection2DArray": Detection2DArray, "Detection3DArray": Detection3DArray}


@dataclass(frozen=True)
class Shot:
    """The messages of one frame of a camera."""

    camera: str
    time_ns: int
    image: Image | CompressedImage
    camera_info: CameraInfo
    transforms: TFMessage


@dataclass(frozen=True)
class _Camera:
    """The publishers of one camera."""

    images: Any
    info: Any


class ReplayNode(CamtrackNode[ReplayParameters]):
    """Publishes `image` or `image/compressed`, `camera_info`, `/tf`, `/clock`, and `~/finished` at the end.

    With `cameras` these are CAMERA/image and CAMERA/camera_info of each, in the order of their stamps.
    With rate 0 every frame, or what all cameras saw at about the same time, waits until a result with the newest stamp
    has come back on `results`, and on `written` where there is a recorder, however long the nodes at work on it take.
    It is sent again if one of them says in its diagnostics that it has not got it: who has counts the second one as a
    duplicate.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("replay", ReplayParameters, **options)
        confine(self, "source", files_of)

    def configure(self, parameters: ReplayParameters) -> None:
        if parameters.cameras:
            self._sequences = chosen_cameras(parameters.source, parameters.cameras)
        else:
            self._sequences = {"": open_source(parameters.source)}
        self._cameras = {name: self._advertise_camera(name) for name in self._sequences}
        self._finished = self.advertise(Bool, "~/finished", qos.LATCHED)
        if parameters.publish_clock:
            self._sim_clock = self.advertise(Clock, "/clock", qos.CLOCK)
        if parameters.publish_tf:
            self._tf = self.advertise(TFMessage, "/tf", qos.TRANSFORMS)
        if parameters.rate == 0:
            for topic in self._awaited():
                kind = Header if topic == "written" else RESULT_TYPES[parameters.result_type]
                self.subscribe_serialised(kind, topic, partial(self._on_result, topic), qos.RESULTS)
        self._reports = Reports()
        if parameters.wait_for_results or parameters.rate == 0:
            self.subscribe(DiagnosticArray, "/diagnostics", self._reports.hear, qos.DIAGNOSTICS)
        self._result_ns = dict.fromkeys(self._awaited(), 0)

    def _advertise_camera(self, name: str) -> _Camera:
        prefix = name and f"{name}/"
        info = self.advertise(CameraInfo, f"{prefix}camera_info", qos.SENSOR_DATA)
        topic = self.resolve_topic_name(f"{prefix}image")
        if self.get_parameter("compressed").value:
            return _Camera(self.advertise(CompressedImage, f"{topic}/compressed", qos.SENSOR_DATA), info)
        return _Camera(self.advertise(Image, topic, qos.SENSOR_DATA), info)

    def activate(self) -> None:
        self._steps = self._play()
        self._timer = self.repeat(POLL, self._resume)

    def deactivate(self) -> None:
        self._steps.close()
        self.destroy_timer(self._timer)

    def _awaited(self) -> tuple[str, ...]:
        """The topics on which an image's result comes back."""
        return ("results", "written") if self.parameters.wait_for_recorder else ("results",)

    def _on_result(self, topic: str, data: bytes) -> None:
        self._result_ns[topic] = unpack_stamp(data)
        self._resume_in(0.0)

    def _resume_in(self, seconds: float) -> None:
        self._timer.timer_period_ns = max(1, round(seconds * 1e9))
        self._timer.reset()

    def _resume(self) -> None:
        """Go on with the replay until it has to wait again."""
        if self.exit_code is not None:
            return
        try:
            delay = next(self._steps, None)
        except CamtrackError as error:
            self.get_logger().error(f"the replay ends: {error}")
            self._finished.publish(Bool(data=True))
            self.finish(1)
            return
        if delay is None:
            self.finish(0)
        else:
            self._resume_in(delay)

    def _play(self) -> Generator[float, None, None]:
        """The whole replay; yields the seconds that it wants to wait."""
        yield from self._wait_for_listeners()
        yield from self._publish_all()
        name = next(iter(self._sequences.values())).name
        self.get_logger().info(f"end of {name}: {self.monitor.processed} frames")
        self._finished.publish(Bool(data=True))
        yield LINGER

    def _wait_for_listeners(self) -> Iterator[float]:
        """Wait until all nodes that work on the images are up: what they miss of the beginning is lost."""
        parameters, awaited = self.parameters, [self.resolve_topic_name(topic) for topic in self._awaited()]
        publishers = [camera.images for camera in self._cameras.values()]
        topics = ", ".join(publisher.topic_name for publisher in publishers)
        listeners = f"{parameters.wait_for_subscribers} subscribers of {topics}"
        self.get_logger().info(f"waiting for {listeners}")
        yield from self._wait_for(
            lambda: all(p.get_subscription_count() >= parameters.wait_for_subscribers for p in publishers),
            parameters.subscriber_timeout,
            f"expected {listeners}",
        )
        if parameters.wait_for_results:
            yield from self._wait_for(
                lambda: all(map(self.count_publishers, awaited)),
                parameters.subscriber_timeout,
                f"expected a publisher of {' and of '.join(awaited)}",
            )
            yield from self._wait_for(self._have_met, MEETING, "expected all nodes to find their subscribers")

    def _have_met(self) -> bool:
        """Whether all who work on the images and report are active, and they and we have found every subscriber."""
        at_work = self._at_work()
        reporting = at_work & _names(self.get_publishers_info_by_topic("/diagnostics"))
        if not reporting <= self._reports.keys():
            return False
        reports = [self._reports[name].values for name in reporting]
        return all(report.get("state", "active") == "active" for report in reports) and all(
            int(count) >= self.count_subscribers(key.removeprefix(SUBSCRIBERS))
            for report in [found_subscribers(self._told), *reports]
            for key, count in report.items()
            if key.startswith(SUBSCRIBERS)
        )

    def _at_work(self) -> set[str]:
        """Names of those who take the images or give the results."""
        at_work: set[str] = set()
        for camera in self._cameras.values():
            at_work |= _names(self.get_subscriptions_info_by_topic(camera.images.topic_name))
        for topic in self._awaited():
            at_work |= _names(self.get_publishers_info_by_topic(self.resolve_topic_name(topic)))
        return at_work

    def _publish_all(self) -> Iterator[float]:
        pacer = Pacer(self.parameters.rate)
        shots = self._shots()
        try:
            for group in shots:
                if self.parameters.rate == 0:
                    self.monitor.processed += len(group)
                    yield from self._publish_until_answered(group)
                    continue
                for shot in group:
                    yield pacer.delay(shot.time_ns)
                    self._publish(shot)
                    self.monitor.processed += 1
                    self.monitor.facts["behind_s"] = f"{pacer.behind:.1f}"
        finally:
            shots.close()

    def _publish_until_answered(self, group: list[Shot]) -> Iterator[float]:
        newest_ns, patience = group[-1].time_ns, self.parameters.result_timeout
        answered = partial(self._is_answered, newest_ns)
        for again in range(SENDINGS):
            sending = Sending(self._reports, self._expected(group))
            for shot in group:
                self._publish(shot)
            yield from self._wait(answered, patience, sending.is_worked_on)
            if answered():
                return
            if not sending.may_be_lost():
                break
            self.get_logger().warning(f"the image of {newest_ns / 1e9:.3f} s has not arrived everywhere ({again + 1})")
        topics = " and ".join(map(self.resolve_topic_name, self._awaited()))
        self._give_up(f"expected a result for {newest_ns / 1e9:.3f} s on {topics}", patience)

    def _is_answered(self, time_ns: int) -> bool:
        return all(result_ns == time_ns for result_ns in self._result_ns.values())

    def _expected(self, group: list[Shot]) -> dict[str, dict[str, int]]:
        """The images that each of those at work should get, stamps by topic, by the names of the nodes."""
        expected: dict[str, dict[str, int]] = {name: {} for name in self._at_work()}
        for shot in group:
            topic = self._cameras[shot.camera].images.topic_name
            for name in _names(self.get_subscriptions_info_by_topic(topic)):
                expected.setdefault(name, {})[topic] = shot.time_ns
        return expected

    def _wait_for(self, condition: Callable[[], bool], seconds: float, sentence: str) -> Iterator[float]:
        """Wait for a condition so many seconds; beyond them it is a drop."""
        yield from self._wait(condition, seconds, lambda: False)
        if not condition():
            self._give_up(sentence, seconds)

    def _wait(self, condition: Callable[[], bool], seconds: float, longer: Callable[[], bool]) -> Iterator[float]:
        """Wait for a condition until `longer` has not held for so many seconds."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() <= deadline:
            yield POLL
            if longer():
                deadline = time.monotonic() + seconds

    def _give_up(self, sentence: str, seconds: float) -> None:
        self.drop("waited in vain", f"{sentence}, waited {seconds:g} s")

    def _shots(self) -> Generator[list[Shot], None, None]:
        """The messages of the frames to be played, made ahead of their time within bounded memory.

        One thread makes those of all rounds of a loop. malloc lets a new thread take another arena, and an arena keeps
        the memory that it has once held: a thread a round would take the memory of several.
        """
        frames = self._frames()
        first = next(frames)
        self.warn("camera", first.frame.camera_fault or None)
        capacity = max(2, READ_AHEAD_BYTES // first.frame.image.nbytes // len(self._sequences))
        return read_ahead(self._messages(chain([first], frames)), capacity)

    def _frames(self) -> Iterator[CameraFrame]:
        """Those of one round. Raises DataError where there are none."""
        source, start, duration = self.parameters.source, self.parameters.start, self.parameters.duration
        frames = excerpt(together(self._sequences), start, duration)
        first = next(frames, None)
        if first is None:
            raise DataError(f"{source}: expected frames from {start:g} s on, got none")
        yield first
        yield from frames

    def _messages(self, frames: Iterable[CameraFrame]) -> Iterator[list[Shot]]:
        """Those of a round, in a loop those of all that follow it."""
        while True:
            self._placed_ns = -1
            yield from map(self._shoot_all, rounds(frames))
            if not self.parameters.loop:
                return
            frames = self._frames()

    def _shoot_all(self, group: list[CameraFrame]) -> list[Shot]:
        return [self._shoot(taken) for taken in group]

    def _shoot(self, taken: CameraFrame) -> Shot:
        frame = taken.frame
        header = Header(frame_id=taken.camera or self.parameters.frame_id)
        fill_stamp(header.stamp, frame.time_ns)
        image = (
            fill_compressed(CompressedImage(header=header), frame.image)
            if self.parameters.compressed
            else fill_image(Image(header=header), frame.image)
        )
        transforms = TFMessage(transforms=list(self._poses(frame, header)))
        return Shot(taken.camera, frame.time_ns, image, _camera_info(frame, header), transforms)

    def _poses(self, frame: Frame, header: Header) -> Iterable[Any]:
        """Fixed frame to vehicle to camera, as far as the frame knows; the vehicle's once a stamp."""
        names, stamp = self.parameters, header.stamp
        camera, vehicle = frame.camera_pose, frame.ego_pose
        if vehicle is not None and frame.time_ns != self._placed_ns:
            self._placed_ns = frame.time_ns
            yield to_transform(vehicle, names.fixed_frame, names.vehicle_frame, stamp)
        if camera is not None and vehicle is not None:
            yield to_transform(vehicle.inverse() @ camera, names.vehicle_frame, header.frame_id, stamp)
        elif camera is not None:
            yield to_transform(camera, names.fixed_frame, header.frame_id, stamp)

    def _publish(self, shot: Shot) -> None:
        with self.monitor.stage("publish"):
            # Who receives the image finds its time, place and calibration already there.
            if self.parameters.publish_clock:
                self._sim_clock.publish(Clock(clock=shot.image.header.stamp))
            if self.parameters.publish_tf:
                self._tf.publish(shot.transforms)
            self._cameras[shot.camera].info.publish(shot.camera_info)
            self._cameras[shot.camera].images.publish(shot.image)


def _names(endpoints: Iterable[Any]) -> set[str]:
    """Full names of the nodes that endpoints belong to."""
    return {qos.node_name(endpoint) for endpoint in endpoints}


def _camera_info(frame: Frame, header: Header) -> CameraInfo:
    """Calibration of a frame; zero intrinsics mean "uncalibrated" in ROS."""
    height, width = frame.image.shape[:2]
    info = CameraInfo(header=header, height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    if frame.camera is not None:
        k = frame.camera.intrinsics
        info.k = [float(value) for value in k.ravel()]
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [float(value) for row in k for value in (*row, 0.0)]
    return info


@dataclass(frozen=True)
class Played:
    """What a replay came to.

    Attributes:
        exit_code: of the process.
        frames: number of those that were published.
        drops: number of waits in vain and other drops, by cause.
    """

    exit_code: int
    frames: int
    drops: dict[str, int]


def replay(namespace: str, parameters: Mapping[str, object]) -> Played:
    """Run the node with these parameters until it ends."""
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    nodes: list[ReplayNode] = []

    def make() -> ReplayNode:
        nodes.append(ReplayNode(namespace=namespace, parameter_overrides=overrides))
        return nodes[0]

    exit_code = run(make)
    return Played(exit_code, nodes[0].monitor.processed, dict(nodes[0].monitor.drops))


def main() -> int:
    return run(ReplayNode)
