"""What several cameras cost before they show anything, and how soon there are tracks once they do.

    python benchmarks/standby.py [--cameras 6] [--seconds 30] [--json]

The processes of cameras.launch.xml, with what they compile in their caches. Of each: seconds of processor time until
all of its nodes are active, and its share of a processor, in percent, while every camera is silent. Then one camera
shows a generated drive at 10 Hz: seconds from its first image to the first message with tracks of `gcnet_tracker`, by
the clock, which other programs slow down, and of its processor time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import head
import psutil
from node_latency import Subject, busy, nodes
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack.demo.domain import own_domain
from camtrack.live import Listener, listening
from camtrack_core.datasets.sources import open_source
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.image import fill_image
from camtrack_core.ros.messages.stamps import fill_stamp

DRIVE = "drive:9000?frames=20&frame_rate=10"
PERIOD = 0.1  # seconds between its images
START = 800.0  # seconds that all nodes may take until they are active
SETTLING = 3.0  # seconds in which they find each other

Processes = dict[str, psutil.Popen]


def processor_seconds(processes: Processes) -> dict[str, float]:
    return {name: busy(process) for name, process in processes.items()}


def wait_until(heard: Listener, condition: Callable[[], Any], what: str) -> None:
    """Raises SystemExit where it takes longer than START."""
    limit = time.monotonic() + START
    while not condition():
        if time.monotonic() > limit:
            raise SystemExit(f"{what} did not come within {START:.0f} s; run the nodes by themselves to see why")
        heard.wait(0.1)


def active(heard: Listener) -> int:
    """Nodes that say so."""
    return sum(values.get("state") == "active" for _, _, values in heard.latest.values())


def idle(heard: Listener, processes: Processes, seconds: float) -> dict[str, float]:
    """Percent of a processor."""
    heard.wait(SETTLING)
    begin, before = time.monotonic(), processor_seconds(processes)
    heard.wait(seconds)
    span, after = time.monotonic() - begin, processor_seconds(processes)
    return {name: 100 * (after[name] - before[name]) / span for name in processes}


def first_tracks(heard: Listener, camera: str, process: psutil.Popen) -> dict[str, float]:
    """Seconds from the first image to the first message with tracks."""
    found: list[Detection2DArray] = []
    images = heard.node.create_publisher(Image, f"{camera}/image", SENSOR_DATA)
    heard.node.create_subscription(
        Detection2DArray, f"{camera}/gcnet_tracker/tracks", lambda m: found.append(m) if m.detections else None, RESULTS
    )
    frames = list(open_source(DRIVE))
    wait_until(heard, images.get_subscription_count, "a subscriber of images")
    heard.wait(SETTLING)
    begin, before = time.monotonic(), busy(process)
    for frame in frames:
        message = fill_image(Image(), frame.image)
        fill_stamp(message.header.stamp, frame.time_ns)
        images.publish(message)
        heard.wait(PERIOD)
        if found:
            break
    wait_until(heard, lambda: found, "a message with tracks")
    return {"clock_s": time.monotonic() - begin, "processor_s": busy(process) - before}


def measure(cameras: list[str], seconds: float) -> dict[str, dict[str, float]]:
    fusion = str(head.ROOT / "config" / "camera_fusion.yaml")
    told = ("--params-file", fusion, "-p", f"cameras:={' '.join(cameras)}")
    modules = (("gcnet_tracker.node",), ("time3d_tracker.node",), ("pkf_filter.ros.node", *told))
    with listening("standby") as heard, nodes(Subject(modules, "pkf_filter", Detection3DArray), cameras) as processes:
        wait_until(heard, lambda: active(heard) == 2 * len(cameras) + 1, "the last active node")
        figures = {
            "processor_s until active": processor_seconds(processes),
            "idle_percent": idle(heard, processes, seconds),
        }
        figures["first tracks"] = first_tracks(heard, cameras[0], processes["gcnet_tracker"])
    return figures


def main() -> int:
    arguments = head.parser(__doc__)
    arguments.add_argument("--cameras", type=int, default=6, help="(default: %(default)s)")
    arguments.add_argument("--seconds", type=float, default=30.0, help="of silence (default: %(default)s)")
    given = arguments.parse_args()
    with own_domain():
        figures = measure([f"camera_{number}" for number in range(given.cameras)], given.seconds)
    if given.json:
        print(json.dumps({"machine": head.machine(), "figures": figures}))
        return 0
    table = Table("figure", "value", title=f"{given.cameras} cameras")
    for name, value in head.rows(figures).items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
