"""Time that the fusion node takes for a message: from its bytes to published tracks, as the node's callback does it.

    python benchmarks/pkf_fusion.py [--objects 30 100] [--frames 300] [--json]

Detections of that many moving cars at 10 Hz, a tenth of them missed and as many false ones added, from one 3D sensor
on a moving vehicle.
"""

from __future__ import annotations

import json

import head
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from camtrack_core.geometry.camera import Pose
from camtrack_core.ros.lifecycle.qos import RESULTS, TRANSFORMS
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transforms import to_transform
from pkf_filter.ros.node import PkfNode

SECOND = 1_000_000_000
PERIOD = SECOND // 10
FIELD = 100.0  # metres, half the side of the square that the cars are on
SPEED = 8.0  # metres per second
MISSED = 0.1


def scene(objects: int, frames: int, seed: int = 0) -> list[Detections3D]:
    """Detections in the fixed frame."""
    rng = np.random.default_rng(seed)
    place, heading = rng.uniform(-FIELD, FIELD, (objects, 2)), rng.uniform(-np.pi, np.pi, objects)
    velocity = rng.uniform(0, SPEED, (objects, 1)) * np.stack([np.cos(heading), np.sin(heading)], 1)
    found = []
    for frame in range(frames):
        seen = rng.random(objects) >= MISSED
        true = place[seen] + velocity[seen] * frame * PERIOD / SECOND + rng.normal(scale=0.1, size=(seen.sum(), 2))
        false = rng.uniform(-FIELD, FIELD, (rng.poisson(MISSED * objects), 2))
        ground, count = np.concatenate([true, false]), len(true) + len(false)
        yaw = np.concatenate([heading[seen], rng.uniform(-np.pi, np.pi, len(false))])
        centre = np.concatenate([ground, np.full((count, 1), 0.75)], 1)
        boxes = Boxes3D(centre, np.tile([4.2, 1.8, 1.5], (count, 1)), yaw, np.zeros((count, 3)))
        scores = np.concatenate([np.full(len(true), 0.9), rng.uniform(0.1, 0.5, len(false))])
        found.append(Detections3D(boxes, scores, np.zeros(count, np.int64)))
    return found


def measure(objects: int, frames: int) -> dict[str, float]:
    """Milliseconds of the callback and of its stages."""
    rclpy.init(args=[])
    overrides = [Parameter("sensors", value=["front"]), Parameter("fixed_frame", value="odom")]
    node = PkfNode(parameter_overrides=overrides)
    peer = rclpy.create_node("peer")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(peer)
    if not node.start():
        raise SystemExit("the node did not start")
    tracks: list[bytes] = []
    peer.create_subscription(Detection3DArray, "pkf_filter/tracks", tracks.append, RESULTS, raw=True)
    detector = peer.create_publisher(Detection3DArray, "front/tracks", RESULTS)
    transforms = peer.create_publisher(TFMessage, "/tf", TRANSFORMS)
    while not (detector.get_subscription_count() and transforms.get_subscription_count()):
        executor.spin_once(timeout_sec=0.1)
    here = Pose(np.eye(3), np.zeros(3))
    for frame, detections in enumerate(scene(objects, frames)):
        header = Header(frame_id="base_link")
        fill_stamp(header.stamp, SECOND + frame * PERIOD)
        transforms.publish(TFMessage(transforms=[to_transform(here, "odom", "base_link", header.stamp)]))
        detector.publish(messages3d.pack_boxes(detections, ("car",), header, np.eye(3)))
        while len(tracks) <= frame:
            executor.spin_once(timeout_sec=1.0)
    stages = {name: node.monitor.stage(name) for name in ("total", "convert", "track", "publish")}
    found = {f"{name}_p{share}": 1e3 * timer.percentile(share) for name, timer in stages.items() for share in (50, 99)}
    node.close()
    peer.destroy_node()
    executor.shutdown()
    rclpy.try_shutdown()
    return found


def main() -> int:
    parser = head.parser(__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[30, 100], help="number of cars")
    parser.add_argument("--frames", type=int, default=300, help="messages to measure")
    arguments = parser.parse_args()
    figures = {}
    for objects in arguments.objects:
        figures[objects] = measure(objects, arguments.frames)
        if not arguments.json:
            row = ", ".join(f"{name} {value:.2f}" for name, value in figures[objects].items())
            print(f"{objects} objects, ms: {row}")
    if arguments.json:
        print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
