"""Time3D's node with a scripted model: what it takes for a camera and its place, and what it publishes."""

import time
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from ros_helpers import SECOND, Diagnostics, Graph, K, collect, has_done_with, image_message, opened_graph
from scripted_helpers import OneCar
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection3DArray

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA, TRANSFORMS
from camtrack_core.ros.messages.camera_info import distortion, read_camera
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transforms import to_transform
from camtrack_core.runtime.batch import Batch
from time3d_tracker import node as node_module
from time3d_tracker.model import Outputs, Query
from time3d_tracker.tracker import Tracker

# As a calibrated ROS camera has it: P is of its rectified images, which share the message.
P = [450.0, 0, 325, 0, 0, 460, 185, 0, 0, 0, 1, 0]
CALIBRATED = {"k": K, "p": P, "d": [0.2, 0.0, 0.0, 0.0, 0.0], "distortion_model": "plumb_bob"}


def test_a_camera_is_read_from_k_and_that_of_rectified_images_from_p() -> None:
    message = CameraInfo(height=360, width=640, **CALIBRATED)
    camera, rectified = read_camera(message, rectified=False), read_camera(message, rectified=True)
    np.testing.assert_array_equal(camera.intrinsics, np.array(K).reshape(3, 3))
    np.testing.assert_array_equal(rectified.intrinsics, [[450, 0, 325], [0, 460, 185], [0, 0, 1]])
    assert (camera.height, camera.width) == (rectified.height, rectified.width) == (360, 640)


@pytest.mark.parametrize(("rectified", "changes", "sentence"), [
    (False, {"k": [0.0] * 9}, "K of camera_info: .*positive focal lengths"),
    (False, {"k": [float("nan"), *K[1:]]}, "K of camera_info: .*positive focal lengths"),
    (False, {"k": [*K[:8], 0.0]}, "K of camera_info"),
    (True, {"p": [0.0] * 12}, "P of camera_info: .*positive focal lengths"),
])  # fmt: skip
def test_intrinsics_that_are_none_are_refused(rectified: bool, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        read_camera(CameraInfo(height=360, width=640, **(CALIBRATED | changes)), rectified)


def test_distortion_is_said_with_the_parameter_that_may_help() -> None:
    for d in ([0.1, 0, 0, 0, 0], [float("nan")]):
        message = CameraInfo(k=K, p=P, d=d, distortion_model="plumb_bob")
        assert "plumb_bob" in (said := distortion(message, rectified=False) or "") and "'rectified'" in said
        assert distortion(message, rectified=True) is None
    assert distortion(CameraInfo(k=K, d=[0.0] * 5), rectified=False) is None


def test_regions_and_binning_are_part_of_the_camera() -> None:
    """As `test_bag_cameras` has it of bags: both read by the same function."""
    region = RegionOfInterest(x_offset=100, y_offset=40, width=320, height=200)
    message = CameraInfo(height=360, width=640, k=K, binning_x=2, binning_y=4, roi=region)
    camera = read_camera(message, rectified=False)
    fx, cx, fy, cy = K[0], K[2], K[4], K[5]
    expected = [[fx / 2, 0, (cx - 100) / 2], [0, fy / 4, (cy - 40) / 4], [0, 0, 1]]
    np.testing.assert_allclose(camera.intrinsics, expected)
    assert (camera.width, camera.height) == (160, 50)


MOUNT = Pose(OPTICAL_IN_VEHICLE, np.array([1.0, 0.0, 1.4]))


class Clock:
    """The node's clock of how long images wait; it goes on when it is told to, whatever the machine takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(node_module, "time", self)

    def monotonic(self) -> float:
        return self.now


class Bench:
    """A running node and a peer that plays camera and vehicle."""

    def __init__(self, graph: Graph, monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> None:
        monkeypatch.setattr(node_module, "shared_batch", lambda kind, file, given: Batch(OneCar(), given.batch_timeout))
        self.graph = graph
        self.node = graph.start(node_module.Time3DNode, **{"transform_timeout": 20.0, **parameters})
        self.model = self.node._tracker.model
        self.peer = graph.peer()
        self.diagnostics = Diagnostics(self.peer)
        self.heard = collect(self.peer, Detection3DArray, "time3d_tracker/tracks", RESULTS)
        self.motion = collect(self.peer, MultiDOFJointTrajectory, "time3d_tracker/velocities", RESULTS)
        self._images = self.peer.create_publisher(Image, "image", SENSOR_DATA)
        self._cameras = self.peer.create_publisher(CameraInfo, "camera_info", SENSOR_DATA)
        self._tf = self.peer.create_publisher(TFMessage, "/tf", TRANSFORMS)
        listeners = [self._images, self._cameras] + ([self._tf] if self.node.parameters.fixed_frame else [])
        graph.spin_until(lambda: all(x.get_subscription_count() for x in listeners))
        graph.spin_until(lambda: self.peer.count_publishers("time3d_tracker/tracks"))

    def calibrate(self, **changes: Any) -> None:
        """Until the node has taken or refused it."""
        before = self.node._camera
        self._cameras.publish(CameraInfo(**{"height": 360, "width": 640, "k": K, "d": [], **changes}))
        self.graph.spin_until(lambda: self.node._camera is not before)

    def show(self, second: float, height: int = 360, width: int = 640) -> None:
        self._images.publish(image_message(round(second * SECOND), height=height, width=width))

    def place(self, second: int, pitch: float = 0.0, mount: Pose = MOUNT) -> None:
        """The vehicle stands on a slope at x = 10."""
        slope = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
        stamp = fill_stamp(Time(), second * SECOND)
        vehicle = to_transform(Pose(slope, np.array([10.0, 0, 0])), "map", "base_link", stamp)
        self._tf.publish(TFMessage(transforms=[vehicle, to_transform(mount, "base_link", "camera", stamp)]))


def test_tracks_come_in_the_cameras_frame_with_velocities_of_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, pitch_deviation=0.7)
        bench.calibrate()
        pitch = np.radians(5)
        bench.place(1, pitch)
        bench.show(1)
        graph.spin_until(lambda: bench.heard and bench.motion)
        (detection,), header = bench.heard[0].detections, bench.heard[0].header
        assert header.frame_id == "camera" and header.stamp.sec == 1
        assert detection.id == "1" == bench.motion[0].joint_names[0]
        assert detection.results[0].hypothesis.class_id == "car"
        # The car lies in the level frame; the camera looks 5 degrees down.
        cos, sin = np.cos(pitch), np.sin(pitch)
        at = detection.bbox.center.position
        assert [at.x, at.y, at.z] == pytest.approx([2.0, cos * 0.5 - sin * 20, sin * 0.5 + cos * 20])
        v = bench.motion[0].points[0].velocities[0].linear
        assert [v.x, v.y, v.z] == pytest.approx([0.0, -sin * 5, cos * 5])
        covariance = np.array(detection.results[0].pose.covariance).reshape(6, 6)
        assert (np.linalg.eigvalsh(covariance[:3, :3]) > 0).all()
        sight = np.array([at.x, at.y, at.z]) / np.linalg.norm([at.x, at.y, at.z])
        assert sight @ covariance[:3, :3] @ sight == pytest.approx((0.05 * np.sqrt(4 + 0.25 + 400)) ** 2)
        assert bench.model.heights[-1] == pytest.approx(1.4 * cos - 1.0 * sin)
        assert bench.model.pitch_deviations[-1] == pytest.approx(np.radians(0.7))


def test_without_camera_info_images_are_dropped_until_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, fixed_frame="")
        bench.show(1)
        graph.spin_until(lambda: bench.diagnostics.says("drops.no camera_info=1"))
        bench.calibrate()
        bench.show(2)
        graph.spin_until(lambda: bench.heard)
        assert bench.heard[0].header.stamp.sec == 2
        assert bench.model.heights[-1] == 0


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"k": [float("nan")] * 9}, "positive focal lengths"),
    ({"k": [0.0] * 9}, "positive focal lengths"),  # as drivers without calibration publish it
    (CALIBRATED, "set the parameter 'rectified'"),
])  # fmt: skip
def test_a_camera_that_cannot_be_used_is_a_standing_warning_until_it_can(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, fixed_frame="")
        bench.calibrate()
        bench.calibrate(**changes)
        graph.spin_until(lambda: bench.diagnostics.says(sentence))
        bench.show(1)
        graph.spin_until(lambda: bench.diagnostics.says("drops.no camera_info=1"))
        assert not bench.heard
        bench.calibrate()
        bench.show(2)
        graph.spin_until(lambda: bench.heard)
        assert [message.header.stamp.sec for message in bench.heard] == [2]


def test_rectified_images_of_a_calibrated_camera_are_taken_with_the_intrinsics_in_p(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, fixed_frame="", rectified=True)
        bench.calibrate(**CALIBRATED)
        bench.show(1)
        graph.spin_until(lambda: bench.heard)
        np.testing.assert_allclose(bench.model.projections[-1], [[450, 0, 325], [0, 460, 185], [0, 0, 1]], atol=1e-9)


def test_without_a_fixed_frame_velocities_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be relative to a camera of unknown motion; who takes them takes them as over ground."""
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, fixed_frame="")
        bench.calibrate()
        bench.show(1)
        graph.spin_until(lambda: bench.heard and bench.motion)
        assert bench.motion[0].joint_names == [bench.heard[0].detections[0].id]
        point = bench.motion[0].points[0]
        v, at = point.velocities[0].linear, point.transforms[0].translation
        assert np.isnan([v.x, v.y, v.z]).all() and np.isfinite([at.x, at.y, at.z]).all()


def test_images_of_another_size_than_their_camera_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, fixed_frame="")
        bench.calibrate()
        bench.show(1, height=90, width=160)
        graph.spin_until(lambda: bench.diagnostics.says("drops.camera_info of another size=1"))
        bench.show(2)
        graph.spin_until(lambda: bench.heard)


def test_an_image_waits_for_its_transform_and_is_dropped_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        clock = Clock(monkeypatch)
        bench = Bench(graph, monkeypatch, transform_timeout=5.0)
        bench.calibrate()
        bench.show(1)
        graph.spin_until(lambda: bench.node._waiting)
        clock.now = 4.9
        graph.spin_for(0.3)
        assert bench.node._waiting and not bench.heard
        bench.place(1)
        graph.spin_until(lambda: bench.heard)
        bench.show(3)
        graph.spin_until(lambda: bench.node._waiting)
        clock.now += 5.1
        graph.spin_until(lambda: bench.diagnostics.says("drops.no transform=1"))
        assert len(bench.heard) == 1


def test_images_of_a_fast_camera_all_wait_for_a_late_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight at 30 Hz: the camera says otherwise meanwhile, which is of later images."""
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, transform_timeout=15.0)
        bench.calibrate()
        bench.place(1)
        for number in range(8):
            bench.show(1 + (1 + number) / 30)
            graph.spin_until(lambda n=number: len(bench.node._waiting) > n)
        bench.calibrate(k=[float("nan")] * 9)
        bench.place(2)
        graph.spin_until(lambda: bench.node.monitor.processed == 8 and not bench.node._waiting)
        graph.spin_until(lambda: bench.heard and bench.heard[-1].header.stamp.nanosec == round(8 / 30 * SECOND))
        assert not bench.node.monitor.drops
        assert all(projection[0, 0] == pytest.approx(K[0]) for projection in bench.model.projections[-8:])


def test_a_network_that_cannot_keep_up_loses_the_oldest_images(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        clock = Clock(monkeypatch)
        bench = Bench(graph, monkeypatch, transform_timeout=3.0)
        bench.calibrate()
        bench.place(1)
        answer = bench.model.answer

        def slow(query: Query) -> Outputs:
            bench.model.answer = answer  # type: ignore[method-assign]
            clock.now += 3.2
            return answer(query)

        bench.model.answer = slow  # type: ignore[method-assign]
        for number in range(8):
            bench.show(1 + (1 + number) / 30)
            graph.spin_until(lambda n=number: len(bench.node._waiting) > n)
        bench.place(2)  # the first one is tracked; the others are overdue by then
        graph.spin_until(lambda: not bench.node._waiting)
        assert bench.node.monitor.drops["no transform"] == 4
        graph.spin_until(lambda: bench.heard and bench.heard[-1].header.stamp.nanosec == round(8 / 30 * SECOND))


def test_a_busy_node_hears_what_has_come_before_it_gives_an_image_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        clock = Clock(monkeypatch)
        bench = Bench(graph, monkeypatch, transform_timeout=2.0)
        bench.calibrate()
        answer = bench.model.answer

        def slow(query: Query) -> Outputs:
            bench.model.answer = answer  # type: ignore[method-assign]
            time.sleep(1.0)  # while which the middleware delivers
            clock.now += 2.5  # longer than an image waits
            return answer(query)

        bench.model.answer = slow  # type: ignore[method-assign]
        bench.show(1)
        bench.show(9)  # seconds apart, so that none counts as overdue in the queue
        graph.spin_until(lambda: len(bench.node._waiting) == 2)
        bench.place(1)
        bench.place(9)  # comes while the first image is tracked
        graph.spin_until(lambda: len(bench.heard) == 2)


def test_an_unknown_ground_is_said_and_tracking_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, ground_frame="wheels")
        bench.calibrate()
        bench.place(1)
        bench.show(1)
        graph.spin_until(lambda: bench.heard)
        assert bench.model.heights[-1] == 0
        graph.spin_until(lambda: bench.diagnostics.says("camera's height"))


def test_a_camera_that_looks_down_is_a_counted_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch)
        bench.calibrate()
        bench.place(1, pitch=np.radians(88))
        bench.show(1)
        graph.spin_until(lambda: bench.diagnostics.says("drops.DataError=1"))
        assert not bench.heard


def test_time_going_backwards_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, fixed_frame="")
        bench.calibrate()
        for number, second in enumerate((5, 6, 1, 2, 3), start=1):
            bench.show(second)
            graph.spin_until(lambda n=number: has_done_with(bench.node, n))
        graph.spin_until(lambda: len(bench.heard) == 3)
        assert [m.detections[0].id for m in bench.heard] == ["1", "1", "2"]


def test_a_node_that_is_deactivated_leaves_the_shared_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, monkeypatch, fixed_frame="", batch_timeout=60.0)
        bench.model.cameras = 2  # the other one never sends
        bench.calibrate()
        batch = bench.node._member._batch
        batch.join(Tracker(bench.model))  # type: ignore[arg-type]
        bench.show(1)
        graph.spin_until(lambda: batch._jobs)
        bench.node.trigger_deactivate()
        frames = len(bench.model.heights)
        batch.run()
        assert len(bench.model.heights) == frames
