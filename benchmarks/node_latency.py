"""Latency of a tracker's node: image message in to tracks message out, and what of it is not inference.

    python benchmarks/node_latency.py [--node filtered] [--width 1600] [--height 900] [--rate 10 20] [--frames 400]
                                      [--cameras 6] [--source CLIP] [--json]

This process publishes images (and their camera_info) at a fixed rate and hears the tracks; gcnet_tracker and pkf_filter
(whose tracks are heard with `filtered`), gcnet_tracker alone, or time3d_tracker run as processes of their own, with
several cameras as a node for each in one process. Overhead: the 50th percentile of the time from publishing an image to
receiving its tracks, minus that of the inference as the node's diagnostics give it, of the last 512 images. Sustained:
tracks of a camera received a second over the whole run. Of each process: share of a processor, and memory at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any

import cv2
import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from head import ROOT, parser
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack_core.datasets.sources import open_source
from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS, RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.cdr import unpack_stamp
from camtrack_core.ros.messages.image import fill_image


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        processes: modules that are run, with their parameters.
        node: whose tracks and diagnostics are heard.
        tracks: their type.
    """

    processes: tuple[tuple[str, ...], ...]
    node: str
    tracks: type[Any]


BOTH = (("gcnet_tracker.node",), ("pkf_filter.ros.node", "-r", "detections:=gcnet_tracker/tracks"))
SUBJECTS = {
    "gcnet": Subject(BOTH, "gcnet_tracker", Detection2DArray),
    "filtered": Subject(BOTH, "pkf_filter", Detection2DArray),
    "gcnet alone": Subject(BOTH[:1], "gcnet_tracker", Detection2DArray),
    "time3d": Subject(
        (("time3d_tracker.node", "-p", "fixed_frame:=''", "-p", "ground_frame:=''"),), "time3d_tracker",
        Detection3DArray,
    ),
}  # fmt: skip
WARM_UP = 20  # frames that are not counted, at most; of few a fifth
START = 120.0  # seconds that the nodes may take to start


class Bench:
    """Publishes images with a counter as stamp, of each camera, and notes when their tracks arrive."""

    def __init__(self, subject: Subject, cameras: Sequence[str]) -> None:
        """`cameras`: their namespaces; one without a name is ""."""
        self.subject, self.cameras = subject, cameras
        self.node = rclpy.create_node("node_latency")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.images = {c: self.node.create_publisher(Image, f"{c}/image", SENSOR_DATA) for c in cameras}
        self.infos = {c: self.node.create_publisher(CameraInfo, f"{c}/camera_info", SENSOR_DATA) for c in cameras}
        for camera in cameras:
            heard, topic = partial(self._tracked, camera), f"{camera}/{subject.node}/tracks"
            self.node.create_subscription(subject.tracks, topic, heard, RESULTS, raw=True)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, DIAGNOSTICS)
        self.number = 0
        self.sent: dict[tuple[str, int], float] = {}
        self.received: dict[tuple[str, int], float] = {}
        self.stages: dict[str, float] = {}
        self.active: set[str] = set()  # nodes of the subject

    def is_ready(self) -> bool:
        """Whether there is an active node for each camera that has found its images."""
        found = all(publisher.get_subscription_count() for publisher in self.images.values())
        return found and len(self.active) == len(self.cameras)

    def publish(self, image: np.ndarray) -> None:
        """The next image of every camera."""
        self.number += 1
        message = fill_image(Image(), image)
        message.header.stamp.sec, message.header.stamp.nanosec = self.number, 0
        height, width = image.shape[:2]
        k = [0.8 * width, 0.0, width / 2, 0.0, 0.8 * width, height / 2, 0.0, 0.0, 1.0]
        info = CameraInfo(header=message.header, width=width, height=height, k=k)
        for camera in self.cameras:
            self.infos[camera].publish(info)
            self.sent[camera, self.number] = time.perf_counter()
            self.images[camera].publish(message)

    def serve(self, until: float) -> None:
        while (left := until - time.perf_counter()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def measure(self, pictures: Sequence[np.ndarray], rate: float, frames: int) -> dict[str, float]:
        """Latencies in milliseconds and what of it is not inference."""
        warm_up, first, begin = min(frames // 5, WARM_UP), self.number, time.perf_counter()
        for count, picture in islice(enumerate(cycle(pictures), 1), frames + warm_up):
            self.publish(picture)
            self.serve(begin + count / rate)
        self.serve(time.perf_counter() + 2.0)
        counted = [key for key in self.received if key[1] > first + warm_up]
        if not counted:
            raise SystemExit("no tracks came of any image")
        latency = np.array([self.received[key] - self.sent[key] for key in counted]) * 1e3
        span = max(self.received[key] for key in counted) - min(self.sent[key] for key in counted)
        p50, p99 = np.percentile(latency, (50, 99)).tolist()
        figures = {
            "received_share": len(counted) / frames / len(self.cameras),
            "sustained_hz": len(counted) / span / len(self.cameras), "total_p50_ms": p50, "total_p99_ms": p99,
        }  # fmt: skip
        if "latency.inference.p50_ms" in self.stages:
            figures["overhead_p50_ms"] = p50 - self.stages["latency.inference.p50_ms"]
        return figures | self.stages

    def _tracked(self, camera: str, data: bytes) -> None:
        now = time.perf_counter()
        self.received[camera, unpack_stamp(data) // 1_000_000_000] = now

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(self.subject.node):
                self.stages = {v.key: float(v.value) for v in status.values if v.key.startswith("latency.")}
                if any(v.key == "state" and v.value == "active" for v in status.values):
                    self.active.add(status.name)


@contextmanager
def nodes(subject: Subject, cameras: Sequence[str]) -> Iterator[dict[str, psutil.Popen]]:
    """The processes, by the names of their packages."""
    named = [camera for camera in cameras if camera]
    processes = {
        module.partition(".")[0]: psutil.Popen(
            [sys.executable, "-m", module, *named, "--ros-args", *given], cwd=ROOT, stdout=sys.stderr
        )
        for module, *given in subject.processes
    }
    try:
        yield processes
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        for process in processes.values():
            process.wait(120)  # a busy machine


def images(source: str | None, width: int, height: int) -> list[np.ndarray]:
    """A few images of the wanted size: of a recording, or grey noise."""
    if source is None:
        rng = np.random.default_rng(0)
        return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(4)]
    return [cv2.resize(frame.image, (width, height)) for frame in islice(open_source(source), 60)]


def measure(
    subject: Subject, pictures: Sequence[np.ndarray], rates: Sequence[float], frames: int, cameras: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Figures by rate."""
    bench, figures = Bench(subject, cameras), {}
    limit = time.perf_counter() + START
    with nodes(subject, cameras) as processes:
        while not bench.is_ready():
            bench.serve(time.perf_counter() + 0.1)
            if any(p.poll() is not None for p in processes.values()) or time.perf_counter() > limit:
                raise SystemExit("the nodes did not start; run them by themselves to see why")
        bench.serve(time.perf_counter() + 2.0)
        for rate in rates:
            begin = time.perf_counter(), {name: busy(process) for name, process in processes.items()}
            found = bench.measure(pictures, rate, frames)
            span = time.perf_counter() - begin[0]
            for name, process in processes.items():
                found[f"{name} processor_share"] = (busy(process) - begin[1][name]) / span
                found[f"{name} memory_mb"] = process.memory_info().rss / 2**20
            figures[f"{rate:g} Hz"] = found
    return figures


def busy(process: psutil.Process) -> float:
    """Seconds of a processor that it has had."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--node", choices=SUBJECTS, default="gcnet", help="(default: %(default)s)")
    arguments.add_argument("--width", type=int, default=1600)
    arguments.add_argument("--height", type=int, default=900)
    arguments.add_argument("--rate", type=float, nargs="+", default=[20.0], help="images a second (default: 20)")
    arguments.add_argument("--frames", type=int, default=400, help="that are counted (default: %(default)s)")
    arguments.add_argument("--cameras", type=int, default=1, help="of one process (default: %(default)s)")
    arguments.add_argument("--source", help="a recording whose images are used, resized (default: noise)")
    given = arguments.parse_args()
    rclpy.init()
    cameras = [f"camera_{number}" for number in range(given.cameras)] if given.cameras > 1 else [""]
    pictures = images(given.source, given.width, given.height)
    figures = measure(SUBJECTS[given.node], pictures, given.rate, given.frames, cameras)
    if given.json:
        print(json.dumps(figures))
        return 0
    title = f"{given.cameras} x {given.width}x{given.height}, {os.cpu_count()} processors"
    table = Table("figure", *figures, title=title)
    for name in next(iter(figures.values())):
        table.add_row(name, *(f"{found[name]:.2f}" for found in figures.values()))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
