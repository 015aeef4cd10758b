"""The stage on which faults are played: real processes, a camera that does as it is told, and an ear for the answers.

What must hold in every test is checked of every answer: its stamp was shown, numbers are finite, ids differ, and boxes
in the image lie on something that was there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from ros_helpers import SECOND, Graph, opened_graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.ros.lifecycle.qos import CLOCK, DIAGNOSTICS, RESULTS, SENSOR_DATA, TRANSFORMS
from camtrack_core.ros.messages.image import fill_image
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds
from camtrack_core.ros.tf.transforms import to_transform

# The camera's optical axes on the vehicle, 1.5 m above the ground.
MOUNT = Pose(OPTICAL_IN_VEHICLE, np.array([0.0, 0.0, 1.5]))
ROOT = Path(__file__).parents[1]
FRAME = SECOND // 10
PATIENCE = 60.0  # seconds after which something is taken to never happen
START = 400.0  # the same of nodes that may have to compile their kernels first
RESENDING = 3.0  # seconds after which an image is shown again that got lost on its way, as images may
TRANSFORMS_MAY_TAKE = 2.0  # seconds: longer than a busy machine lets who sends them wait
HEIGHT, WIDTH = 180, 320
SIDE = 30  # pixels, of a square


def stand_in(name: str, *ros_arguments: str) -> str:
    """The command of a node of stand_in_nodes.py."""
    return " ".join([sys.executable, str(ROOT / "test/stand_in_nodes.py"), name, "--ros-args", *ros_arguments])


def node(module: str, *ros_arguments: str) -> str:
    """The command of a node of the project."""
    return " ".join([sys.executable, "-m", module, "--ros-args", *ros_arguments])


@contextmanager
def launched(folder: Path, **commands: str) -> Iterator[subprocess.Popen[bytes]]:
    """The processes of a launch file that the project's runner keeps alive; ended at the end, all with code 0."""
    attributes = 'respawn="true" respawn_delay="0.2" respawn_max_retries="5"'
    body = "".join(f'<executable name="{name}" cmd="{command}" {attributes}/>' for name, command in commands.items())
    file = folder / "stage.launch.xml"
    file.write_text(f"<launch>{body}</launch>")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    with open(folder / "log.txt", "wb") as log:
        command = [sys.executable, "-m", "camtrack.launch.runner", str(file)]
        runner = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            yield runner
        finally:
            runner.send_signal(signal.SIGINT)
            runner.wait(PATIENCE)
    assert runner.returncode == 0, (folder / "log.txt").read_text()


def squares(*lefts: float, top: int = 60, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A dark image, not of one grey alone, with bright squares at these columns."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[::7, ::5] = 28
    for left in lefts:
        image[top : top + SIDE, round(left) : round(left) + SIDE] = 230
    return image


class Stage:
    """Plays to the processes and hears what they say.

    Attributes:
        heard: answers on the watched topic, in the order in which they came.
        now: stamp of the newest frame, nanoseconds; far enough in the past for any test to stay there.
        status: latest diagnostics by node, the level and the text under "level" and "message".
    """

    def __init__(self, graph: Graph, kind: type, topic: str) -> None:
        self.graph = graph
        self.peer = graph.peer("stage")
        self.heard: list[Any] = []
        self.shown: dict[int, np.ndarray] = {}
        self.status: dict[str, dict[str, str]] = {}
        self.said: dict[str, set[str]] = {}
        self.now = (time.time_ns() // SECOND - 24 * 3600) * SECOND
        self.repeated = 0  # images that were sent again since no answer came: a node may have had them already
        self._by_stamp: dict[int, Any] = {}
        self.peer.create_subscription(kind, topic, self._hear, RESULTS)
        self.peer.create_subscription(DiagnosticArray, "/diagnostics", self._note, DIAGNOSTICS)
        self.camera = self.peer.create_publisher(Image, "image", SENSOR_DATA)
        self.calibration = self.peer.create_publisher(CameraInfo, "camera_info", SENSOR_DATA)
        self.transforms = self.peer.create_publisher(TFMessage, "/tf", TRANSFORMS)

    # --- Out

    def before_image(self, time_ns: int) -> None:
        """What goes out ahead of an image that is to be answered."""

    def later(self, seconds: float) -> int:
        """Let time pass, by stamps alone; the new stamp."""
        self.now += round(seconds * SECOND)
        return self.now

    def image(self, time_ns: int, pixels: np.ndarray) -> Image:
        message = fill_image(Image(), pixels)
        message.header.frame_id = "camera"
        fill_stamp(message.header.stamp, time_ns)
        return message

    def show(self, time_ns: int, pixels: np.ndarray) -> None:
        """An image whose answer nobody waits for."""
        self.shown[time_ns] = pixels
        self.camera.publish(self.image(time_ns, pixels))

    def answer(self, time_ns: int, pixels: np.ndarray) -> Any:
        """Show an image until its answer is there."""
        return self.answer_to(self.image(time_ns, pixels), pixels)

    def answer_to(self, message: Image, pixels: np.ndarray) -> Any:
        """Send a message that shows these pixels until its answer is there."""
        time_ns = to_nanoseconds(message.header.stamp)
        self.shown[time_ns] = pixels
        deadline = time.monotonic() + PATIENCE
        while time_ns not in self._by_stamp:
            self.before_image(time_ns)
            assert time.monotonic() < deadline, f"expected an answer to {time_ns}, got {self.status}"
            self.camera.publish(message)
            self.repeated += not self.wait_for(lambda: time_ns in self._by_stamp, RESENDING)
        return self._by_stamp[time_ns]

    def until_answering(self, *places: float) -> None:
        """Show squares at ever later stamps until any of them is answered.

        What one node of the graph sends before another has found it is lost for good: an image that is sent again is a
        duplicate to the node that had it.
        """
        deadline, heard = time.monotonic() + PATIENCE, len(self.heard)
        while len(self.heard) == heard:
            assert time.monotonic() < deadline, f"expected an answer to any image, got {self.status}"
            time_ns = self.later(0.1)
            self.before_image(time_ns)
            self.show(time_ns, squares(*places))
            self.wait_for(lambda: len(self.heard) > heard, RESENDING)

    def forget_answers_since(self, time_ns: int) -> None:
        """What was answered for these stamps may come again, in a recording that starts again."""
        self._by_stamp = {known: answer for known, answer in self._by_stamp.items() if known < time_ns}
        self.heard = [answer for answer in self.heard if to_nanoseconds(answer.header.stamp) < time_ns]

    def film(self, *places: float, frames: int = 6, step: float = 0.1, top: int = 60) -> list[str]:
        """Frames with squares at these columns, each answered before the next; the ids in the last answer."""
        for _ in range(frames):
            found = self.answer(self.later(step), squares(*places, top=top))
        return ids(found)

    def scene(self, *places: float) -> list[str]:
        """A new scene, so much later that nothing is left of the one before, with a track of each square."""
        self.later(10.0)
        found = self.film(*places)
        assert len(found) == len(places)
        return found

    # --- In

    def _hear(self, message: Any) -> None:
        self.heard.append(message)
        self._by_stamp[to_nanoseconds(message.header.stamp)] = message

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            name = status.name.rsplit("/", 1)[-1]
            self.status[name] = {**values, "level": str(ord(status.level)), "message": status.message}
            self.said.setdefault(name, set()).add(status.message)

    def wait_for(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Spin until a condition holds, for so long at the most; whether it does."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self.graph.spin_for(0.01)
        return bool(condition())

    def until(self, condition: Callable[[], Any], what: str) -> None:
        assert self.wait_for(condition, PATIENCE), f"expected {what}, got {self.status}"

    def until_up(self, *names: str) -> None:
        """Wait for nodes to be active, by what they say from now on."""
        for name in names:
            self.status.pop(name, None)
        assert self.wait_for(
            lambda: all(self.status.get(name, {}).get("state") == "active" for name in names), START
        ), f"expected {names} to be up, got {self.status}"

    def drops(self, name: str, cause: str) -> int:
        """How many drops of a cause a node has reported."""
        return int(self.status.get(name, {}).get(f"drops.{cause}", 0))

    @contextmanager
    def dropping(self, name: str, cause: str, least: int, most: int | None = None) -> Iterator[None]:
        """Asserts that what happens in the block costs a node so many drops, as its diagnostics say."""
        self.status.pop(name, None)  # what came before the block may not have been told of yet
        self.until(lambda: name in self.status, f"{name} to report")
        before, repeated = self.drops(name, cause), self.repeated
        yield
        self.until(lambda: self.drops(name, cause) >= before + least, f"{least} of {cause} after {before}")
        most = (least if most is None else most) + self.repeated - repeated
        assert self.drops(name, cause) <= before + most

    def refused(self, name: str, cause: str, time_ns: int, pixels: np.ndarray) -> None:
        """Show an image and wait until a node has counted it as a drop of this cause.

        A node with two images in its queue that has been kept waiting takes the newer one only: so one at a time.
        """
        with self.dropping(name, cause, 1):
            self.show(time_ns, pixels)

    @contextmanager
    def saying(self, name: str, sentence: str) -> Iterator[None]:
        """Asserts that a node says so in its diagnostics in the block or soon afterwards."""
        self.said[name] = set()
        yield
        self.until(lambda: any(sentence in message for message in self.said[name]), f"{name} to say '{sentence}'")

    def until_quiet(self, name: str, sentence: str, meanwhile: Callable[[], bool] = lambda: True) -> None:
        """Wait until a node no longer says so, while again and again something happens that must go well."""

        def quiet() -> bool:
            assert meanwhile()
            return sentence not in self.status[name]["message"]

        self.until(quiet, f"{name} not to say '{sentence}' any more")


def ids(message: Any) -> list[str]:
    """Of the tracks in an answer, from left to right in the image."""
    return [d.id for d in sorted(message.detections, key=lambda d: d.bbox.center.position.x)]


def boxes(message: Any) -> np.ndarray:
    """(N, 4) of a Detection2DArray."""
    rows = [
        (d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y) for d in message.detections
    ]
    x, y, w, h = np.array(rows, float).reshape(-1, 4).T
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)


def check_answers(stage: Stage) -> None:
    """What holds for all answers in the image, whatever happened: none is invented, finite, ids once, on something."""
    stamps = [to_nanoseconds(message.header.stamp) for message in stage.heard]
    assert len(set(stamps)) == len(stamps), "an image was answered twice"
    for time_ns, message in zip(stamps, stage.heard, strict=True):
        assert time_ns in stage.shown, "an answer to an image that was never shown"
        found = boxes(message)
        assert (
            np.isfinite(found).all() and np.isfinite([d.results[0].hypothesis.score for d in message.detections]).all()
        )
        assert len({d.id for d in message.detections}) == len(message.detections)
        height, width = stage.shown[time_ns].shape[:2]
        for x1, y1, x2, y2 in found.clip(0, [width, height, width, height]).astype(int):
            assert (stage.shown[time_ns][y1 : y2 + 1, x1 : x2 + 1] > 128).any(), "a track of nothing"


def process_of(runner: subprocess.Popen[bytes], part: str) -> psutil.Process | None:
    """The running process whose command line contains this, of those that a runner keeps."""
    for child in psutil.Process(runner.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any(part in word for word in child.cmdline()):
                return child
    return None


@contextmanager
def image_stage(folder: Path) -> Iterator[tuple[Stage, subprocess.Popen[bytes]]]:
    """A scripted detector and pkf_filter, as processes, with a camera in front of them."""
    commands = {
        "detector": stand_in("detector", "-p", "image_timeout:=0.6"),
        "pkf_filter": node("pkf_filter.ros.node", "-r", "detections:=detector/tracks"),
    }
    with launched(folder, **commands) as runner, opened_graph() as graph:
        stage = Stage(graph, Detection2DArray, "pkf_filter/tracks")
        stage.until_up("detector", "pkf_filter")
        stage.until(lambda: stage.camera.get_subscription_count() == 1, "a detector that listens")
        stage.until_answering(40)
        yield stage, runner


class SpaceStage(Stage):
    """A camera on a vehicle that stands at x = `place`: each image that is to be answered goes with both places and
    with the calibration.

    Attributes:
        place: metres.
    """

    K = (500.0, 0.0, 160.0, 0.0, 500.0, 90.0, 0.0, 0.0, 1.0)

    def __init__(self, graph: Graph, kind: type, topic: str) -> None:
        super().__init__(graph, kind, topic)
        self.place = 10.0
        self.clock = self.peer.create_publisher(Clock, "/clock", CLOCK)

    def before_image(self, time_ns: int) -> None:
        self.tick()
        self.calibrate()
        self.locate(time_ns)

    def tick(self) -> None:
        """Simulated time, which the filter lives by."""
        self.clock.publish(Clock(clock=fill_stamp(Time(), self.now)))

    def calibrate(self, **changes: Any) -> None:
        self.calibration.publish(CameraInfo(**{"height": HEIGHT, "width": WIDTH, "k": self.K, "d": [], **changes}))

    def locate(self, time_ns: int, place: float | None = None) -> None:
        stamp = fill_stamp(Time(), time_ns)
        x = self.place if place is None else place
        vehicle = to_transform(Pose(np.eye(3), np.array([x, 0, 0])), "map", "base_link", stamp)
        self.transforms.publish(TFMessage(transforms=[vehicle, to_transform(MOUNT, "base_link", "camera", stamp)]))


def check_space_answers(stage: SpaceStage) -> None:
    """What holds for all answers in space: none is invented, all is finite, ids once."""
    stamps = [to_nanoseconds(message.header.stamp) for message in stage.heard]
    assert len(set(stamps)) == len(stamps), "an image was answered twice"
    for time_ns, message in zip(stamps, stage.heard, strict=True):
        assert time_ns in stage.shown, "an answer to an image that was never shown"
        assert len({d.id for d in message.detections}) == len(message.detections) <= 2
        assert np.isfinite(places(message)).all()


def places(message: Any) -> np.ndarray:
    """(N, 3) centres of a Detection3DArray."""
    centres = [d.bbox.center.position for d in message.detections]
    return np.array([(p.x, p.y, p.z) for p in centres], float).reshape(-1, 3)


@contextmanager
def space_stage(folder: Path) -> Iterator[tuple[SpaceStage, subprocess.Popen[bytes]]]:
    """Time3D's node, whose network sees one car 20 m ahead and 2 m to the right, and pkf_filter in space."""
    parameters = {"sensors": "[objects]", "objects.topic": "time3d_tracker/tracks", "use_sim_time": "true"}
    commands = {
        "time3d": stand_in("time3d", "-p", f"transform_timeout:={TRANSFORMS_MAY_TAKE}"),
        "pkf_filter": node("pkf_filter.ros.node", *(w for item in parameters.items() for w in ("-p", ":=".join(item)))),
    }
    with launched(folder, **commands) as runner, opened_graph() as graph:
        stage = SpaceStage(graph, Detection3DArray, "pkf_filter/tracks")
        stage.until_up("time3d_tracker", "pkf_filter")
        stage.until(lambda: stage.camera.get_subscription_count() == 1, "a tracker that listens to images")
        stage.until(lambda: stage.calibration.get_subscription_count() == 1, "a tracker that listens to calibration")
        stage.until(lambda: stage.clock.get_subscription_count() == 1, "a filter that listens to the clock")
        stage.until(lambda: stage.transforms.get_subscription_count() == 2, "two nodes that listen to transforms")
        stage.until_answering(40)
        yield stage, runner
