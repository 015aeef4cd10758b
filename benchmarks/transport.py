"""How camera images travel between two processes, with and without config/environment.sh.

    python benchmarks/transport.py [--width 1920] [--height 1080] [--rate 30] [--seconds 10] [--json]

Prints the share of bgr8 images that arrive, and the time from before an image is put into its message until it is an
array at the other end, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import head
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

from camtrack_core.ros.lifecycle.qos import LATCHED, SENSOR_DATA
from camtrack_core.ros.messages.image import fill_image, to_bgr
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds

SETTINGS = ("FASTRTPS_", "FASTDDS_", "MALLOC_")  # beginnings of the variables in question
DOMAIN = "97"
PATIENCE = 30.0  # seconds


def publish(arguments: argparse.Namespace) -> None:
    """Send the images, then say that it was all."""
    node = Node("transport_publisher")
    images = node.create_publisher(Image, "transport/image", SENSOR_DATA)
    finished = node.create_publisher(Bool, "transport/finished", LATCHED)
    deadline = time.monotonic() + PATIENCE
    while not images.get_subscription_count() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.height, arguments.width, 3), np.uint8)
    started = time.monotonic()
    for number in range(round(arguments.rate * arguments.seconds)):
        time.sleep(max(0.0, started + number / arguments.rate - time.monotonic()))
        message = Image()
        fill_stamp(message.header.stamp, time.monotonic_ns())
        images.publish(fill_image(message, pixels))
    time.sleep(1.0)
    finished.publish(Bool(data=True))
    time.sleep(1.0)


def receive(arguments: argparse.Namespace) -> None:
    """Take images until the publisher has finished; print the latencies in seconds as JSON."""
    node = Node("transport_receiver")
    latencies: list[float] = []
    ended: list[Any] = []

    def on_image(message: Image) -> None:
        to_bgr(message)
        latencies.append((time.monotonic_ns() - to_nanoseconds(message.header.stamp)) / 1e9)

    node.create_subscription(Image, "transport/image", on_image, SENSOR_DATA)
    node.create_subscription(Bool, "transport/finished", ended.append, LATCHED)
    deadline = time.monotonic() + PATIENCE + arguments.seconds
    while not ended and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.2)
    print(json.dumps(latencies))


def measure(arguments: argparse.Namespace, environment: dict[str, str]) -> dict[str, float]:
    """Share that arrived and percentiles of the latency in milliseconds (NaN if none arrived)."""
    own = [sys.executable, __file__, *sys.argv[1:]]
    receiver = subprocess.Popen([*own, "--role", "receive"], env=environment, stdout=subprocess.PIPE, text=True)
    subprocess.run([*own, "--role", "publish"], env=environment, check=True)
    latencies = np.array(json.loads(receiver.communicate(timeout=60)[0])) * 1e3
    sent = round(arguments.rate * arguments.seconds)
    p50, p99 = np.percentile(latencies, [50, 99]) if len(latencies) else (np.nan, np.nan)
    return {"sent": sent, "received": len(latencies), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def with_settings() -> dict[str, str]:
    """The environment that config/environment.sh makes."""
    command = ["bash", "-c", f". '{head.ROOT}/config/environment.sh' && env -0"]
    output = subprocess.run(command, env=without_settings(), check=True, capture_output=True, text=True).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


def without_settings() -> dict[str, str]:
    """The present environment without what config/environment.sh sets, in a ROS domain of its own."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return {**rest, "ROS_DOMAIN_ID": DOMAIN}


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--role", choices=("publish", "receive"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        rclpy.init()
        {"publish": publish, "receive": receive}[arguments.role](arguments)
        rclpy.shutdown()
        return
    results = {
        "Fast DDS defaults": measure(arguments, without_settings()),
        "config/environment.sh": measure(arguments, with_settings()),
    }
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    print(f"{arguments.width}x{arguments.height} bgr8 at {arguments.rate:g} Hz")
    print("| settings | received | p50 ms | p99 ms |\n|---|---|---|---|")
    for name, result in results.items():
        print(f"| {name} | {result['received']}/{result['sent']} | {result['p50_ms']} | {result['p99_ms']} |")


if __name__ == "__main__":
    main()
