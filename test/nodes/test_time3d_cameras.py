"""Several cameras of Time3D in one process: one session, and for each its tracks, with its frame and its stamps."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from ros_helpers import (
    PATIENCE,
    SECOND,
    Graph,
    K,
    collect,
    image_message,
    opened_graph,
    read_until,
    start_process,
)
from scripted_helpers import OneCar
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA, TRANSFORMS
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transforms import to_transform
from time3d_tracker import node as node_module
from time3d_tracker.model import Outputs, Query

NAMES = ("front", "rear")


def started(graph: Graph, **parameters: Any) -> list[node_module.Time3DNode]:
    """A running node for each camera."""
    nodes = [graph.add(node_module.Time3DNode(namespace=name, **graph.options(parameters))) for name in NAMES]
    assert all(node.start() for node in nodes)
    return nodes


class Cameras:
    """A peer that plays several cameras and hears their tracks."""

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        peer = graph.peer()
        self.graph, self.names = graph, list(names)
        self.heard = {n: collect(peer, Detection3DArray, f"{n}/time3d_tracker/tracks", RESULTS) for n in names}
        self._infos = {n: peer.create_publisher(CameraInfo, f"{n}/camera_info", SENSOR_DATA) for n in names}
        self._images = {n: peer.create_publisher(Image, f"{n}/image", SENSOR_DATA) for n in names}
        publishers = [*self._infos.values(), *self._images.values()]
        graph.spin_until(lambda: all(x.get_subscription_count() for x in publishers))
        graph.spin_until(lambda: all(peer.count_publishers(f"{n}/time3d_tracker/tracks") for n in names))

    def calibrate(self, *nodes: node_module.Time3DNode) -> None:
        """Until those nodes that run in the test's own process have taken it."""
        for publisher in self._infos.values():
            publisher.publish(CameraInfo(height=360, width=640, k=K))
        self.graph.spin_until(lambda: all(node._camera is not None for node in nodes))

    def show(self, name: str, time_ns: int) -> None:
        message = image_message(time_ns, height=360, width=640)
        message.header.frame_id = f"{name}_optical"
        self._images[name].publish(message)

    def said(self, name: str) -> list[tuple[str, int]]:
        """Frame and stamp of a camera's results."""
        headers = (message.header for message in self.heard[name])
        return [(header.frame_id, header.stamp.sec * SECOND + header.stamp.nanosec) for header in headers]


def test_several_cameras_share_one_session_and_its_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of both comes what they sent, in their frames and with their stamps, also when one of them stops."""
    made: list[OneCar] = []
    monkeypatch.setattr(node_module, "Time3DModel", lambda *_: made.append(OneCar(cameras=2)) or made[-1])
    apart = 5_000_000  # the rear camera is not triggered with the front one
    with opened_graph() as graph:
        nodes = started(graph, model=str(tmp_path / "none.onnx"), fixed_frame="", batch_timeout=0.5)
        assert len(made) == 1
        cameras = Cameras(graph, NAMES)
        cameras.calibrate(*nodes)
        made[0].batches.clear()  # of the warm-up
        for second in (1, 2, 3, 4):
            cameras.show("front", second * SECOND)
            if second < 3:  # then it stops, and the front camera's images wait for it in vain
                cameras.show("rear", second * SECOND + apart)
            graph.spin_until(lambda n=second: len(cameras.heard["front"]) == n)
        graph.spin_until(lambda: len(cameras.heard["rear"]) == 2)
        assert cameras.said("front") == [("front_optical", second * SECOND) for second in (1, 2, 3, 4)]
        assert cameras.said("rear") == [("rear_optical", second * SECOND + apart) for second in (1, 2)]
        # each camera has tracks of its own
        ids = {name: [m.detections[0].id for m in messages] for name, messages in cameras.heard.items()}
        assert ids == {"front": ["1"] * 4, "rear": ["1"] * 2}
        assert made[0].batches == [2, 2, 1, 1]


def test_a_camera_whose_node_stops_leaves_the_others_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(node_module, "Time3DModel", lambda *_: OneCar(cameras=2))
    with opened_graph() as graph:
        nodes = started(graph, model=str(tmp_path / "two.onnx"), fixed_frame="", batch_timeout=0.05)
        cameras = Cameras(graph, NAMES)
        cameras.calibrate(*nodes)
        nodes[1].trigger_deactivate()
        nodes[1].trigger_cleanup()
        for second in (1, 2):
            cameras.show("front", second * SECOND)
            cameras.show("rear", second * SECOND)
            graph.spin_until(lambda n=second: len(cameras.heard["front"]) == n)
        assert not cameras.heard["rear"]


class SlowCar(OneCar):
    """Takes longer over an image than images wait for their transforms."""

    def answer(self, query: Query) -> Outputs:
        time.sleep(0.4)
        return super().answer(query)


def test_an_image_is_not_given_up_while_its_transform_waits_behind_those_of_busy_cameras(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All is there before the process looks at any of it. The rear camera's transform is the last in the queue."""
    monkeypatch.setattr(node_module, "Time3DModel", lambda *_: SlowCar())
    with opened_graph() as graph:
        nodes = started(graph, model=str(tmp_path / "slow.onnx"), transform_timeout=0.2)
        cameras = Cameras(graph, NAMES)
        peer = graph.peer("vehicle")
        transforms = peer.create_publisher(TFMessage, "/tf", TRANSFORMS)
        graph.spin_until(lambda: transforms.get_subscription_count() == 2)
        cameras.calibrate(*nodes)
        mount = Pose(OPTICAL_IN_VEHICLE, np.array([1.0, 0, 1.4]))
        # Seconds apart, so that no image counts as overdue in the queue, and within what a buffer of transforms keeps.
        for camera, second in (("front", 1), ("front", 5), ("front", 9), ("rear", 9)):
            stamp = fill_stamp(Time(), second * SECOND)
            vehicle = to_transform(Pose(np.eye(3), np.zeros(3)), "map", "base_link", stamp)
            camera_there = to_transform(mount, "base_link", f"{camera}_optical", stamp)
            transforms.publish(TFMessage(transforms=[vehicle, camera_there]))
            cameras.show(camera, second * SECOND)
        graph.spin_until(lambda: len(cameras.heard["front"]) == 3 and cameras.heard["rear"])
        assert cameras.said("rear") == [("rear_optical", 9 * SECOND)]


def test_one_process_for_several_cameras_gives_each_its_tracks() -> None:
    """With the demo weights. Images travel best effort between processes: they are sent until heard of."""
    named = "import sys; sys.argv[1:1] = ['front rear']; from time3d_tracker.node import main; sys.exit(main())"
    process = start_process(named, "-p", "fixed_frame:=''", "-p", "device:=onnxruntime")
    try:
        read_until(process, "no image on /rear/image")  # it is ready, and waits
        with opened_graph() as graph:
            cameras = Cameras(graph, NAMES)

            def has_answered(name: str, time_ns: int) -> bool:
                if (f"{name}_optical", time_ns) not in cameras.said(name):
                    cameras.calibrate()
                    cameras.show(name, time_ns)
                    graph.spin_for(0.3)
                return (f"{name}_optical", time_ns) in cameras.said(name)

            asked = [("front", 1), ("rear", 1), ("front", 2), ("rear", 2), ("front", 3)]  # then the rear one stops
            for name, second in asked:
                graph.spin_until(lambda name=name, second=second: has_answered(name, second * SECOND))
            assert cameras.said("front") == [("front_optical", second * SECOND) for second in (1, 2, 3)]
            assert cameras.said("rear") == [("rear_optical", second * SECOND) for second in (1, 2)]
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output


@pytest.mark.parametrize("names", [["front", "front"], ["front rear", "front"]])
def test_cameras_without_names_of_their_own_are_refused(
    names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["time3d_tracker_node", *names, "--ros-args", "-p", "device:=auto"])
    assert node_module.main() == 2
    expected = f"expected the names of different cameras, like front left right, got {' '.join(names)}\n"
    assert capsys.readouterr().err == expected
