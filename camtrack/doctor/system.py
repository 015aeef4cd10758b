"""A running system: what each node reports, and how images, calibration, transforms and clocks arrive here."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from rcl_interfaces.srv import GetParameters
from rclpy.event_handler import SubscriptionEventCallbacks
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from camtrack.doctor.findings import Finding, note, ok, wrong
from camtrack.doctor.installation import ENVIRONMENT, PROFILES
from camtrack.live import Listener, listening
from camtrack_core.errors import CamtrackError, ConfigurationError
from camtrack_core.monitor import Level
from camtrack_core.ros.lifecycle.qos import (
    CLOCK,
    SENSOR_DATA,
    STATIC_TRANSFORMS,
    TRANSFORMS,
    deaf_to,
    node_name,
    type_name,
)
from camtrack_core.ros.messages import image as images
from camtrack_core.ros.messages.camera_info import distortion, read_camera
from camtrack_core.ros.messages.stamps import NANOSECONDS, to_nanoseconds
from camtrack_core.ros.tf.transform_listener import new_buffer
from camtrack_core.ros.tf.transforms import TransformError

KINDS = {type_name(kind): kind for kind in (Image, CompressedImage)}
DISCOVERY = 2.0, 10.0  # seconds until the system is known, and where nobody publishes images so far
ANSWER = 2.0  # seconds that a node may take to tell its parameters
FUTURE = 0.1  # seconds by which a stamp may be ahead of the clock
OLD = 10.0  # seconds; an older stamp is of another clock
LARGE = 256 * 1024  # bytes; larger images do not fit into what Fast DDS has without a profile
ASKED = ("use_sim_time", "fixed_frame", "ground_frame")  # parameters


@dataclass
class Camera:
    """What came on an image topic.

    Attributes:
        topic, kind: of the images; the kind is of KINDS.
        stamps: (N,) of the images, nanoseconds.
        heard: (N,) the clock of this machine when they were heard, nanoseconds.
        missing: images that were sent meanwhile, as their numbers tell, and did not arrive.
        frames: frame_id of the images, and how often.
        fault: why an image cannot be used.
        size: of the newest usable image (width, height).
        nbytes: of the newest image.
        info: the newest camera_info.
    """

    topic: str
    kind: str
    stamps: list[int] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)
    missing: int = 0
    frames: Counter[str] = field(default_factory=Counter)
    fault: str = ""
    size: tuple[int, int] | None = None
    nbytes: int = 0
    info: CameraInfo | None = None
    number: int | None = None

    @property
    def info_topic(self) -> str:
        base = self.topic.removesuffix("/compressed")
        return f"{base.rpartition('/')[0]}/camera_info"

    def take(self, message: Any, information: dict[str, Any], publishers: int) -> None:
        number = information.get("publication_sequence_number")
        if (
            number is not None and self.number is not None and publishers == 1
        ):  # else it is not known whose number it is
            self.missing += max(number - self.number - 1, 0)
        self.number = number
        self.stamps.append(to_nanoseconds(message.header.stamp))
        self.heard.append(time.time_ns())
        self.frames[message.header.frame_id] += 1
        self.nbytes = len(message.data)
        if len(self.stamps) == 1:  # decoding is not what is looked at: once is enough
            convert = images.to_bgr if self.kind == type_name(Image) else images.compressed_to_bgr
            try:
                self.size = convert(message).shape[1::-1]
            except CamtrackError as error:
                self.fault = str(error)

    def take_info(self, message: CameraInfo) -> None:
        self.info = message


def examine_system(seconds: float) -> Iterator[Finding]:
    """Listens for so long."""
    with listening("camtrack_doctor") as heard:
        node, buffer = heard.node, new_buffer()
        discover(heard)
        cameras = [listen_to(node, topic, kind) for topic, kind in image_topics(node)]
        node.create_subscription(TFMessage, "/tf", lambda message: _remember(buffer, message, False), TRANSFORMS)
        node.create_subscription(
            TFMessage, "/tf_static", lambda message: _remember(buffer, message, True), STATIC_TRANSFORMS
        )
        clock: list[int] = []
        node.create_subscription(Clock, "/clock", lambda message: clock.append(to_nanoseconds(message.clock)), CLOCK)
        heard.wait(seconds)
        told = parameters_of(heard)
        yield from nodes(heard)
        yield from ends(node, cameras)
        yield from clocks(clock, told)
        if not cameras:
            yield note("camera", "nobody publishes images", "start the camera's driver, or camtrack replay")
        for camera in cameras:
            yield from arrival(camera)
            yield from publishers(node, camera)
            yield calibration(camera, rectified=False)
            if camera.stamps:
                yield from stamps(camera, clock)
                yield from transforms(camera, buffer, told)


def discover(heard: Listener) -> None:
    least, most = DISCOVERY
    deadline = time.monotonic() + most
    heard.wait(least)
    while not image_topics(heard.node) and time.monotonic() < deadline:
        heard.wait(0.2)


def image_topics(node: Any) -> list[tuple[str, str]]:
    """Image topics with a publisher that are no annotated images of camtrack's own, with their types."""
    found = []
    for topic, kinds in node.get_topic_names_and_types():
        who = [info.node_name for info in node.get_publishers_info_by_topic(topic)]
        drawn = all(name in ("gcnet_tracker", "time3d_tracker", "recorder") for name in who)
        found += [(topic, kind) for kind in kinds if kind in KINDS and who and not drawn]
    return found


def listen_to(node: Any, topic: str, kind: str) -> Camera:
    camera = Camera(topic, kind)
    events = SubscriptionEventCallbacks(message_lost=lambda event: None)

    def on_image(message: Any, information: dict[str, Any]) -> None:
        camera.take(message, information, node.count_publishers(topic))

    node.create_subscription(KINDS[kind], topic, on_image, SENSOR_DATA, event_callbacks=events)
    node.create_subscription(CameraInfo, camera.info_topic, camera.take_info, SENSOR_DATA)
    return camera


# --- The nodes


def nodes(heard: Listener) -> Iterator[Finding]:
    """What the nodes say of themselves."""
    if not heard.latest:
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        remedy = "start one; if one runs, give this command its ROS_DOMAIN_ID and environment"
        yield note("nodes", f"no node of camtrack is heard (ROS_DOMAIN_ID={domain})", remedy)
    for name, (level, message, _) in sorted(heard.latest.items()):
        if level is Level.OK:
            yield ok("nodes", f"{name}: {message}")
        else:
            yield wrong("nodes", f"{name}: {level.name}: {message}", "docs/diagnostics.md says what leads to this")


def parameters_of(heard: Listener) -> dict[str, dict[str, Any]]:
    """use_sim_time and the frames of each node that reports and answers."""
    calls = {}
    for name in heard.latest:
        client = heard.node.create_client(GetParameters, f"{name}/get_parameters")
        if client.service_is_ready():
            calls[name] = client.call_async(GetParameters.Request(names=list(ASKED)))
    deadline = time.monotonic() + ANSWER
    while not all(call.done() for call in calls.values()) and time.monotonic() < deadline:
        heard.wait(0.1)
    told = {}
    for name, call in calls.items():
        if call.done() and call.result() is not None and len(call.result().values) == len(ASKED):
            sim_time, fixed, ground = call.result().values
            told[name] = dict(zip(ASKED, (sim_time.bool_value, fixed.string_value, ground.string_value), strict=True))
    return told


def ends(node: Any, cameras: Sequence[Camera]) -> Iterator[Finding]:
    """Whether publishers and subscribers of images can talk to each other."""
    faults = [fault for subscription in node.subscriptions for fault in deaf_to(node, subscription)]
    for camera in cameras:
        others = [i for i in node.get_subscriptions_info_by_topic(camera.topic) if i.node_name != node.get_name()]
        strange = {node_name(i): i.topic_type for i in others if i.topic_type != camera.kind}
        faults += [f"{name} expects {kind} on {camera.topic}, it is {camera.kind}" for name, kind in strange.items()]
    for fault in faults:
        yield wrong("qos", fault, "let the publisher offer what the subscriber asks for: reliability, deadline, type")
    if not faults:
        yield ok("qos", "what is published fits what this command, as camtrack's nodes, subscribes with")


def clocks(clock: Sequence[int], told: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    simulated = [name for name, values in told.items() if values["use_sim_time"]]
    others = [name for name, values in told.items() if not values["use_sim_time"]]
    if simulated and not clock:
        remedy = "publish /clock (ros2 bag play --clock, camtrack replay --clock), or set use_sim_time to false"
        yield wrong("clocks", f"{', '.join(simulated)} wait for /clock, which nobody publishes", remedy)
    elif clock and others:
        remedy = "set use_sim_time to true where ages of images and `future_tolerance` matter"
        yield note("clocks", f"there is a /clock that {', '.join(others)} do not follow", remedy)
    elif told:
        yield ok("clocks", "all nodes follow /clock" if simulated else "all nodes follow the machine's clock")


# --- A camera


def arrival(camera: Camera) -> Iterator[Finding]:
    if not camera.stamps:
        remedy = f"the shared memory that images take belongs to their publisher: {ENVIRONMENT}"
        yield wrong("transport", f"{camera.topic}: no image arrived", remedy)
        return
    seconds = max((camera.heard[-1] - camera.heard[0]) / NANOSECONDS, 1e-9)
    rate = (len(camera.stamps) - 1) / seconds
    text = f"{camera.topic}: {len(camera.stamps)} images of {camera.nbytes / 2**20:.1f} MiB, {rate:.1f} Hz"
    if camera.missing:
        remedy = f"the shared memory that images take belongs to their publisher: {ENVIRONMENT}"
        yield wrong("transport", f"{text}; {camera.missing} did not arrive", remedy)
    else:
        yield ok("transport", f"{text}, none missing")
    if camera.fault:
        yield wrong("camera", f"{camera.topic}: {camera.fault}", "let the driver publish an encoding that is known")


def publishers(node: Any, camera: Camera) -> Iterator[Finding]:
    """How many there are, and the settings of those that are processes of this machine and this user."""
    infos = node.get_publishers_info_by_topic(camera.topic)
    if len(infos) > 1:
        sentence = f"{camera.topic}: {len(infos)} publishers: {', '.join(sorted(map(node_name, infos)))}"
        yield wrong("camera", sentence, "let one of them publish; their images are not of one camera")
    for info in infos:
        settings = environment_of(process_number(info.endpoint_gid))
        small = camera.stamps and camera.nbytes < LARGE
        if settings is not None and not small and not any(name in settings for name in PROFILES):
            sentence = f"{camera.topic}: {node_name(info)} runs without a Fast DDS profile: large images get lost"
            yield wrong("transport", sentence, ENVIRONMENT)


def process_number(gid: Iterable[int]) -> int:
    """The lower 16 bits of the number of the process that an endpoint of Fast DDS belongs to."""
    return int.from_bytes(bytes(gid)[4:6], "little")


def environment_of(number: int) -> dict[str, str] | None:
    """The environment of this machine's only process with Fast DDS and such a number; None where it is not known."""
    found = []
    for process in psutil.process_iter():
        if process.pid & 0xFFFF != number:
            continue
        try:
            if "libfastrtps" in Path(f"/proc/{process.pid}/maps").read_text():
                found.append(process.environ())
        except (OSError, psutil.Error):  # ended meanwhile, or somebody else's
            continue
    return found[0] if len(found) == 1 else None


def stamps(camera: Camera, clock: Sequence[int]) -> Iterator[Finding]:
    times = camera.stamps
    if not all(times):
        yield wrong("stamps", f"{camera.topic}: stamps of zero", "let the driver write the time of exposure")
        return
    if any(later <= earlier for earlier, later in pairwise(times)):
        remedy = "one publisher a topic, stamps that rise; a recording that loops does this at each start"
        yield wrong("stamps", f"{camera.topic}: stamps that do not rise", remedy)
    age = (camera.heard[-1] - times[-1]) / NANOSECONDS
    if clock:
        age = (clock[-1] - times[-1]) / NANOSECONDS
    if age < -FUTURE:
        remedy = "synchronise the clocks of the machines (chrony, PTP)"
        yield wrong("clocks", f"{camera.topic}: stamps are {-age:.3f} s ahead of the clock", remedy)
    elif age > OLD:
        remedy = "play a recording with --clock, and set use_sim_time; let a camera's driver stamp with the clock"
        yield note("clocks", f"{camera.topic}: stamps are {age:.0f} s behind the clock", remedy)
    else:
        yield ok("stamps", f"{camera.topic}: images are {age * 1e3:.0f} ms old when they arrive")


def calibration(camera: Camera, rectified: bool) -> Finding:
    topic = camera.info_topic
    if camera.info is None:
        remedy = "let the driver publish it; without, tracks stay in the image"
        return wrong("camera_info", f"{camera.topic}: nothing on {topic}", remedy)
    try:
        known, bent = read_camera(camera.info, rectified), distortion(camera.info, rectified)
    except ConfigurationError as error:
        return wrong("camera_info", f"{topic}: {error}", "calibrate the camera (camera_calibration)")
    if camera.size is not None and (known.width, known.height) != camera.size:
        size = f"{known.width}x{known.height}"
        sentence = f"{topic}: states {size}, images have {camera.size[0]}x{camera.size[1]}"
        return wrong("camera_info", sentence, "let the driver publish the calibration of the images as they are sent")
    if bent:
        remedy = "rectify (image_proc) and give the rectified topic, with rectified:=true"
        return wrong("camera_info", f"{topic}: {bent}", remedy)
    return ok("camera_info", f"{topic}: {known.width}x{known.height}, a pinhole camera")


def transforms(camera: Camera, buffer: Any, told: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """Whether the camera's place is known in the frames that the nodes ask for, at the stamps of its images."""
    frame = next(iter(camera.frames)).lstrip("/")
    if not frame:
        yield wrong("tf", f"{camera.topic}: images without frame_id", "let the driver name the camera's optical frame")
        return
    pairs = {(v["fixed_frame"], f) for v in told.values() for f in (frame, v["ground_frame"]) if v["fixed_frame"] and f}
    for target, source in sorted(pairs or {("map", frame)}):
        faults = [fault for stamp in camera.stamps if (fault := _fault(buffer, target, source, stamp))]
        found = len(camera.stamps) - len(faults)
        text = f"{camera.topic}: '{source}' in '{target}' is known for {found} of {len(camera.stamps)} images"
        if found * 2 >= len(camera.stamps):  # those at the beginning came before this command heard of transforms
            yield ok("tf", text)
        else:
            remedy = "publish /tf with the images' clock, and /tf_static for where the camera is on the vehicle"
            yield wrong("tf", f"{text}: {faults[-1]}", remedy)


def _fault(buffer: Any, target: str, source: str, time_ns: int) -> str:
    """Why the pose at a time is not known; empty where it is."""
    try:
        buffer.lookup(target, source, time_ns)
    except TransformError as error:
        return str(error)
    return ""


def _remember(buffer: Any, message: Any, static: bool) -> None:
    try:
        buffer.add(message, static)
    except TransformError:  # its reader is told when it looks for it in vain
        return
