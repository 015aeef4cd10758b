"""Latency of a tracker's node: image message in to tracks message out, and what of it is not inference.

    python benchmarks/node_latency.py [--node time3d] [--width 1600] [--height 900] [--rate 20] [--frames 400]
                                      [--source CLIP] [--json]

This process publishes images (and, for Time3D, their camera_info) at a fixed rate and hears the tracks; gcnet_tracker
and pkf_filter, or time3d_tracker, run as processes of their own. Overhead: the 50th percentile of the time from
publishing an image to receiving its tracks, minus that of the inference as the node's diagnostics give it. Sustained:
tracks received a second over the whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack_core.datasets.sources import open_source
from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS, RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.cdr import unpack_stamp
from camtrack_core.ros.messages.image import fill_image

ROOT = Path(__file__).resolve().parents[1]


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


SUBJECTS = {
    "gcnet": Subject(
        (("gcnet_tracker.node",), ("pkf_filter.ros.node", "-r", "detections:=gcnet_tracker/tracks")), "gcnet_tracker",
        Detection2DArray,
    ),
    "time3d": Subject(
        (("time3d_tracker.node", "-p", "fixed_frame:=''", "-p", "ground_frame:=''"),), "time3d_tracker",
        Detection3DArray,
    ),
}  # fmt: skip
WARM_UP = 20  # frames that are not counted
START = 60.0  # seconds that the nodes may take to start


class Bench:
    """Publishes images with a counter as stamp and notes when their tracks arrive."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.node = rclpy.create_node("node_latency")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.images = self.node.create_publisher(Image, "image", SENSOR_DATA)
        self.camera_info = self.node.create_publisher(CameraInfo, "camera_info", SENSOR_DATA)
        self.node.create_subscription(subject.tracks, f"{subject.node}/tracks", self._tracked, RESULTS, raw=True)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, DIAGNOSTICS)
        self.sent: dict[int, float] = {}
        self.received: dict[int, float] = {}
        self.stages: dict[str, float] = {}

    def publish(self, number: int, image: np.ndarray) -> None:
        message = fill_image(Image(), image)
        message.header.stamp.sec, message.header.stamp.nanosec = number, 0
        height, width = image.shape[:2]
        k = [0.8 * width, 0.0, width / 2, 0.0, 0.8 * width, height / 2, 0.0, 0.0, 1.0]
        self.camera_info.publish(CameraInfo(header=message.header, width=width, height=height, k=k))
        self.sent[number] = time.perf_counter()
        self.images.publish(message)

    def serve(self, until: float) -> None:
        while (left := until - time.perf_counter()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def _tracked(self, data: bytes) -> None:
        now = time.perf_counter()
        self.received[unpack_stamp(data) // 1_000_000_000] = now

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(self.subject.node):
                self.stages = {v.key: float(v.value) for v in status.values if v.key.startswith("latency.")}


@contextmanager
def nodes(subject: Subject) -> Iterator[list[subprocess.Popen]]:
    commands = [[sys.executable, "-m", name, "--ros-args", *given] for name, *given in subject.processes]
    processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(20)


def images(source: str | None, width: int, height: int) -> list[np.ndarray]:
    """A few images of the wanted size: of a recording, or grey noise."""
    if source is None:
        rng = np.random.default_rng(0)
        return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(4)]
    return [cv2.resize(frame.image, (width, height)) for frame in islice(open_source(source), 60)]


def measure(subject: Subject, pictures: list[np.ndarray], rate: float, frames: int) -> dict[str, float]:
    bench = Bench(subject)
    limit = time.perf_counter() + START
    with nodes(subject) as processes:
        while bench.images.get_subscription_count() < 1 and time.perf_counter() < limit:
            bench.serve(time.perf_counter() + 0.1)
            if any(p.poll() is not None for p in processes):
                raise SystemExit("a node ended at once; run it by itself to see why")
        bench.serve(time.perf_counter() + 2.0)
        begin = time.perf_counter()
        for number, picture in islice(enumerate(cycle(pictures), 1), frames + WARM_UP):
            bench.publish(number, picture)
            bench.serve(begin + number / rate)
        bench.serve(time.perf_counter() + 2.0)
    counted = [n for n in bench.received if n > WARM_UP]
    latency = np.array([bench.received[n] - bench.sent[n] for n in counted]) * 1e3
    span = max(bench.received.values()) - bench.sent[WARM_UP + 1]
    inference = bench.stages["latency.inference.p50_ms"]
    return {
        "received_share": len(counted) / frames,
        "sustained_hz": len(counted) / span,
        "total_p50_ms": float(np.percentile(latency, 50)),
        "total_p99_ms": float(np.percentile(latency, 99)),
        "inference_p50_ms": inference,
        "overhead_p50_ms": float(np.percentile(latency, 50)) - inference,
        **bench.stages,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", choices=SUBJECTS, default="gcnet", help="(default: %(default)s)")
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--rate", type=float, default=20.0, help="images a second (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--source", help="a recording whose images are used, resized (default: noise)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rclpy.init()
    pictures = images(arguments.source, arguments.width, arguments.height)
    figures = measure(SUBJECTS[arguments.node], pictures, arguments.rate, arguments.frames)
    if arguments.json:
        print(json.dumps(figures))
        return 0
    title = f"{arguments.width}x{arguments.height} at {arguments.rate:g} Hz, {os.cpu_count()} processors"
    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
