"""The fusion node: messages and transforms in, tracks in the fixed frame out; a sensor's faults stay its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ros_helpers import Diagnostics, Graph, collect, opened_graph
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from camtrack.nodes import replay as replay_node
from camtrack_core.datasets.frames import Frame
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.lifecycle.parameters import strangers
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA, STATIC_TRANSFORMS, TRANSFORMS
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds
from camtrack_core.ros.tf.transforms import to_transform
from pkf_filter.ros.node import PkfNode
from pkf_filter.space.config import SensorModel, WorldConfig

SECOND = 1_000_000_000
FRAME = SECOND // 10
CAMERA = Camera.from_field_of_view(1280, 720, 70.0)
MOUNT = Pose(OPTICAL_IN_VEHICLE, np.array([1.0, 0.0, 1.5]))  # of the camera on the vehicle
UPRIGHT = OPTICAL_IN_VEHICLE.T


def header(frame: str, time_ns: int) -> Header:
    made = Header(frame_id=frame)
    fill_stamp(made.stamp, time_ns)
    return made


def vehicle(time_ns: int) -> Pose:
    """The vehicle drives along x at 10 m/s."""
    return Pose(np.eye(3), np.array([10.0 * time_ns / SECOND, 0, 0]))


class Bench:
    """A running node and a peer that plays vehicle, sensors and user."""

    def __init__(self, graph: Graph, **parameters: Any) -> None:
        self.graph = graph
        self.node = graph.start(PkfNode, **{"fixed_frame": "odom", **parameters})
        self.peer = graph.peer()
        self.diagnostics = Diagnostics(self.peer)
        self.heard = collect(self.peer, Detection3DArray, "pkf_filter/tracks", RESULTS)
        self._publishers: dict[str, Any] = {}
        self._static(TFMessage(transforms=[to_transform(MOUNT, "base_link", "camera", header("", 0).stamp)]))
        graph.spin_until(lambda: self.peer.count_publishers("pkf_filter/tracks"))

    def _static(self, message: TFMessage) -> None:
        self._publisher(TFMessage, "/tf_static", STATIC_TRANSFORMS).publish(message)

    def _publisher(self, kind: type, topic: str, qos: Any) -> Any:
        if topic not in self._publishers:
            publisher = self._publishers[topic] = self.peer.create_publisher(kind, topic, qos)
            self.graph.spin_until(publisher.get_subscription_count)
        return self._publishers[topic]

    def move(self, time_ns: int) -> None:
        pose = to_transform(vehicle(time_ns), "odom", "base_link", header("", time_ns).stamp)
        self._publisher(TFMessage, "/tf", TRANSFORMS).publish(TFMessage(transforms=[pose]))

    def detect(self, time_ns: int, *places: tuple[float, float], topic: str = "front/tracks", frame: str = "camera"):  # type: ignore[no-untyped-def]
        """Cars at places x, y in the fixed frame, as the camera's 3D detector says."""
        centre = np.array([(x, y, 0.75) for x, y in places]).reshape(-1, 3)
        placed = vehicle(time_ns).apply(MOUNT.translation)
        count = len(places)
        boxes = Boxes3D(centre - placed, np.tile([4.0, 1.8, 1.5], (count, 1)), np.zeros(count), np.zeros((count, 3)))
        detections = Detections3D(boxes, np.full(count, 0.95), np.zeros(count, np.int64))
        data = messages3d.pack_boxes(detections, ("car",), header(frame, time_ns), UPRIGHT)
        self._publisher(Detection3DArray, topic, RESULTS).publish(data)

    def detect_car(self, time_ns: int) -> None:
        self.detect(time_ns, (40.0, 2.0))

    def see(self, time_ns: int, x: float, y: float) -> None:
        """The same as the camera's 2D detector says."""
        boxes = Boxes3D(np.array([[x, y, 0.75]]), np.array([[4.0, 1.8, 1.5]]), np.zeros(1), np.zeros((1, 3)))
        pose = vehicle(time_ns) @ MOUNT
        pixels = CAMERA.project(pose.inverse().apply(boxes.corners()))[0]
        xyxy = np.concatenate([pixels.min(0), pixels.max(0)])[None]
        message = messages.from_boxes(
            Boxes2D(xyxy, np.array([0.95]), np.zeros(1, np.int64)), ("car",), header("camera", time_ns)
        )
        self._publisher(Detection2DArray, "image/tracks", RESULTS).publish(message)

    def calibrate(self, **changes: Any) -> None:
        k = CAMERA.intrinsics.ravel().tolist()
        info = CameraInfo(**{"width": CAMERA.width, "height": CAMERA.height, "k": k, **changes})
        publisher = self._publisher(CameraInfo, "image/camera_info", SENSOR_DATA)
        publisher.publish(info)
        self.graph.spin_for(0.2)

    def answer(self, count: int) -> Detection3DArray:
        """The newest tracks, once more than `count` messages came."""
        self.graph.spin_until(lambda: len(self.heard) > count)
        return self.heard[-1]

    def taken(self) -> None:
        """Wait until one more message has been taken."""
        before = self.node.monitor.processed
        self.graph.spin_until(lambda: self.node.monitor.processed > before)

    def drive(self, frames: range, *places: tuple[float, float]) -> Detection3DArray:
        for i in frames:
            count = len(self.heard)
            self.move(SECOND + i * FRAME)
            self.detect(SECOND + i * FRAME, *places)
            found = self.answer(count)
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    with opened_graph() as graph:
        yield Bench(graph, sensors=["front"])


def centre(detection: Any) -> tuple[float, float, float]:
    position = detection.bbox.center.position
    return position.x, position.y, position.z


def test_tracks_lie_in_the_fixed_frame_at_the_measurements_time(bench: Bench) -> None:
    found = bench.drive(range(8), (40.0, 2.0), (50.0, -3.0))
    assert found.header.frame_id == "odom"
    assert to_nanoseconds(found.header.stamp) == SECOND + 7 * FRAME
    by_id = {detection.id: detection for detection in found.detections}
    assert set(by_id) == {"1", "2"}
    assert centre(by_id["1"]) == pytest.approx((40.0, 2.0, 0.75), abs=0.05)
    (result,) = by_id["1"].results
    assert result.hypothesis.class_id == "car"
    covariance = result.pose.covariance.reshape(6, 6)
    assert 0 < covariance[0, 0] < 0.2 and (np.linalg.eigvalsh(covariance) > 0).all()
    assert by_id["1"].bbox.size.x == pytest.approx(4.0, abs=0.1)


def test_detections_wait_for_their_transform(bench: Bench) -> None:
    bench.drive(range(3), (40.0, 2.0))
    count = len(bench.heard)
    bench.detect(SECOND + 3 * FRAME, (40.0, 2.0))
    bench.graph.spin_for(0.05)
    assert len(bench.heard) == count
    bench.move(SECOND + 3 * FRAME)
    assert centre(bench.answer(count).detections[0]) == pytest.approx((40.0, 2.0, 0.75), abs=0.1)


def test_without_transform_detections_are_dropped_and_the_reason_is_told(bench: Bench) -> None:
    bench.drive(range(3), (40.0, 2.0))
    count = len(bench.heard)
    bench.detect(SECOND + 4 * FRAME, (40.0, 2.0), frame="unknown")
    bench.graph.spin_until(lambda: bench.diagnostics.says("no transform=1"))
    assert len(bench.heard) == count
    assert bench.drive(range(5, 6), (40.0, 2.0)).detections[0].id == "1"


def test_a_stamp_from_the_future_is_dropped(bench: Bench) -> None:
    bench.drive(range(3), (40.0, 2.0))
    now = bench.node.get_clock().now().nanoseconds
    bench.detect(now + 100 * SECOND, (40.0, 2.0))
    bench.graph.spin_until(lambda: bench.diagnostics.says("stamp from the future=1"))
    assert bench.drive(range(3, 4), (40.0, 2.0)).detections[0].id == "1"


def test_a_sensor_that_stops_and_one_that_starts_late_are_told_while_the_others_go_on() -> None:
    with opened_graph() as graph:
        names = {"sensors": ["front", "side"], "front.timeout": 0.3, "side.timeout": 0.3}
        bench = Bench(graph, **names)
        bench.drive(range(3), (40.0, 2.0))
        graph.spin_until(lambda: bench.diagnostics.says("no detections of 'side' on /side/tracks"))
        assert bench.diagnostics.says("never so far")
        for i in range(3, 6):  # the late one comes, the first one stops
            count = len(bench.heard)
            bench.move(SECOND + i * FRAME)
            bench.detect(SECOND + i * FRAME, (40.0, 2.0), topic="side/tracks")
            found = bench.answer(count)
        assert [detection.id for detection in found.detections] == ["1"]
        graph.spin_until(lambda: bench.diagnostics.says("no detections of 'front' on /front/tracks"))


def test_a_sensor_with_a_wrong_pose_is_told_and_the_tracks_go_on() -> None:
    """The second sensor says 3 m further left what the first one sees."""
    with opened_graph() as graph:
        bench = Bench(graph, sensors=["front", "odd"])
        for i in range(50):
            for name, shift in (("front", 0.0), ("odd", 3.0)):
                stamp = SECOND + i * FRAME + (FRAME // 2 if shift else 0)
                count = len(bench.heard)
                bench.move(stamp)
                bench.detect(stamp, (60.0, 2.0 + shift), topic=f"{name}/tracks")
                found = bench.answer(count)
        graph.spin_until(lambda: bench.diagnostics.says("in view of 'odd' are confirmed by it"))
        assert any(centre(track) == pytest.approx((60.0, 2.0, 0.75), abs=0.1) for track in found.detections)


def test_velocities_of_a_detector_count_from_the_first_detection() -> None:
    """They come on a topic of their own, here before and after the detections that wait for them."""
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front"], "front.velocities": "front/velocities"})
        motion = collect(bench.peer, MultiDOFJointTrajectory, "pkf_filter/trajectories", RESULTS)
        graph.spin_until(lambda: bench.node.count_subscribers("pkf_filter/trajectories"))
        publisher = bench._publisher(MultiDOFJointTrajectory, "front/velocities", RESULTS)
        moving = Boxes3D(np.zeros((1, 3)), np.ones((1, 3)), np.zeros(1), np.array([[10.0, 1.0, 0.0]]))
        none = np.zeros(1)
        tracks = Tracks3D(np.array([7]), moving, np.zeros((1, 4, 4)), np.ones(1), np.zeros(1, np.int64), none)
        bench.move(SECOND)
        placed = vehicle(SECOND).apply(MOUNT.translation)
        boxes = Boxes3D(np.array([[40.0, 2.0, 0.75]]) - placed, np.array([[4.0, 1.8, 1.5]]), none, np.zeros((1, 3)))
        seen = Tracks3D(np.array([7]), boxes, np.zeros((1, 4, 4)), np.full(1, 0.95), np.zeros(1, np.int64), none)
        data = messages3d.pack_tracks(seen, ("car",), header("camera", SECOND), UPRIGHT)
        bench._publisher(Detection3DArray, "front/tracks", RESULTS).publish(data)
        graph.spin_for(0.05)
        assert not motion
        publisher.publish(messages3d.pack_velocities(tracks, header("camera", SECOND), UPRIGHT))
        graph.spin_until(lambda: motion)
        now = motion[-1].points[4]
        speed, noise = WorldConfig().vehicle.speed, SensorModel().velocity_noise
        share = speed**2 / (speed**2 + noise**2)  # of what is measured, beside a new track's prior at rest
        velocity = now.velocities[0].linear
        assert (velocity.x, velocity.y) == pytest.approx((10.0 * share, 1.0 * share), abs=1e-6)


def test_the_example_configuration_is_one_that_the_node_takes() -> None:
    """config/fusion.yaml, for several cameras, and what launch/fusion.launch.xml loads."""
    root = Path(__file__).resolve().parents[2]
    for name, sensors in (
        ("fusion.yaml", ("front", "rear", "front_image")),
        ("camera_fusion.yaml", ("image", "objects")),
    ):
        written = yaml.safe_load((root / "config" / name).read_text())["/**"]["ros__parameters"]
        flat = dict(flattened(written))
        with opened_graph() as graph:
            node = graph.start(PkfNode, **flat)
            assert node.parameters.sensors == sensors
            assert not strangers(node, node._model)
            for parameter, value in flat.items():
                found = node.get_parameter(parameter).value
                assert found == value or list(found) == value
    assert "config/camera_fusion.yaml" in (root / "launch" / "fusion.launch.xml").read_text()


def test_the_node_filters_with_the_models_defaults_class_by_class() -> None:
    """Also where only some of a class group's parameters are given."""
    with opened_graph() as graph:
        node = graph.start(PkfNode, **{"sensors": ["front"], "world.cycle.speed": 7.0})
        default = WorldConfig()
        cycle = default.cycle.model_copy(update={"speed": 7.0})
        assert node.parameters.world == default.model_copy(update={"cycle": cycle})
        assert "car" in node.parameters.world.vehicle.names and node.parameters.world.vehicle.motion == "interacting"


def flattened(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_trajectories_and_markers_for_those_who_listen(bench: Bench) -> None:
    motion = collect(bench.peer, MultiDOFJointTrajectory, "pkf_filter/trajectories", RESULTS)
    markers = collect(bench.peer, MarkerArray, "pkf_filter/markers", RESULTS)
    bench.graph.spin_until(lambda: bench.node.count_subscribers("pkf_filter/trajectories"))
    for i in range(20):
        count = len(bench.heard)
        bench.move(SECOND + i * FRAME)
        bench.detect(SECOND + i * FRAME, (20.0 + i * 1.0, 2.0))
        bench.answer(count)
    bench.graph.spin_until(lambda: len(motion) == 20 and len(markers) == 20)
    newest = motion[-1]
    assert newest.joint_names == ["1"] and newest.header.frame_id == "odom"
    times = [point.time_from_start.sec + point.time_from_start.nanosec / 1e9 for point in newest.points]
    assert times == pytest.approx(np.arange(-4, 7) * 0.5)
    places = [point.transforms[0].translation.x for point in newest.points]
    assert np.isnan(places[0])  # 2 s ago there was no track
    assert places[4] == pytest.approx(39.0, abs=0.2)
    assert np.diff(places[2:]) == pytest.approx(np.full(8, 5.0), abs=0.5)
    assert newest.points[4].velocities[0].linear.x == pytest.approx(10.0, abs=0.5)
    assert len(markers[-1].markers) == 3


def fields(cloud: PointCloud2) -> dict[str, np.ndarray]:
    """Columns of a point cloud by name, read as its fields say."""
    table = np.frombuffer(bytes(cloud.data), np.float64).reshape(cloud.height * cloud.width, -1)
    assert cloud.point_step == table.shape[1] * 8 and cloud.row_step == len(table) * cloud.point_step
    assert {field.datatype for field in cloud.fields} == {PointField.FLOAT64}
    return {field.name: table[:, field.offset // 8] for field in cloud.fields}


def test_what_is_known_of_tracks_and_where_they_are_expected_for_those_who_listen(bench: Bench) -> None:
    """A car that drives on at 10 m/s, until it is not detected any more."""
    states = collect(bench.peer, PointCloud2, "pkf_filter/states", RESULTS)
    predictions = collect(bench.peer, PointCloud2, "pkf_filter/predictions", RESULTS)
    bench.graph.spin_until(lambda: bench.node.count_subscribers("pkf_filter/predictions"))
    for i in range(11):
        count = len(bench.heard)
        bench.move(SECOND + i * FRAME)
        bench.detect(SECOND + i * FRAME, *[(20.0 + i * 1.0, 2.0)] * (i < 10))
        bench.answer(count)
    bench.graph.spin_until(lambda: len(states) == len(predictions) == 11)
    seen, missed = fields(states[-2]), fields(states[-1])
    assert seen["id"] == missed["id"] == [1]
    assert (seen["coasting"], missed["coasting"]) == ([0], [1])
    assert seen["age"] == pytest.approx([0.9]) and seen["silence"] == [0] and missed["silence"] == pytest.approx([0.1])
    assert seen["existence"] > missed["existence"] > 0.7 and seen["score"] < seen["existence"]
    assert seen["class_car"] == [1] and seen["resting"] < 0.1
    for name in ("x", "vx"):
        assert seen[name] == pytest.approx([29.0 if name == "x" else 10.0], abs=0.5)
        assert 0 < seen[f"variance_{name}_{name}"] < missed[f"variance_{name}_{name}"]
    ahead = fields(predictions[-1])
    assert ahead["after"] == pytest.approx(np.arange(7) * 0.5) and (ahead["id"] == 1).all()
    assert ahead["x"] == pytest.approx(30.0 + 5.0 * np.arange(7), abs=1.5)
    assert (np.diff(ahead["variance_x_x"]) > 0).all() and (np.diff(ahead["existence"]) < 0).all()
    assert bench.heard[-1].detections[0].id == "1"


def test_boxes_in_the_image_correct_tracks_in_space() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front", "image"], "image.kind": "boxes_2d", "front.noise": 5.0})
        bench.calibrate()
        for i in range(20):
            for stamp, act in (
                (SECOND + 2 * i * FRAME, lambda t: bench.detect(t, (80.0, 1.0))),
                (SECOND + (2 * i + 1) * FRAME, lambda t: bench.see(t, 80.0, 0.0)),
            ):
                count = len(bench.heard)
                bench.move(stamp)
                act(stamp)
                found = bench.answer(count)
        assert [detection.id for detection in found.detections] == ["1"]
        assert centre(found.detections[0])[1] == pytest.approx(0.0, abs=0.3)


def two_detectors(graph: Graph, **parameters: Any) -> Bench:
    """Boxes in space and in the image, of the same images."""
    groups = {"image.kind": "boxes_2d", "image.group": "camera", "front.group": "camera"}
    bench = Bench(graph, **{"sensors": ["image", "front"], "publish_after": ["front"], **groups, **parameters})
    bench.calibrate()
    return bench


def test_a_stamp_is_published_once_when_all_of_a_group_have_answered_and_the_same_whoever_was_quicker() -> None:
    places = []
    for quicker in (0, 1):
        with opened_graph() as graph:
            bench = two_detectors(graph)
            acts = [bench.detect_car, partial(bench.see, x=40.0, y=1.5)]
            for i in range(6):
                stamp = SECOND + i * FRAME
                bench.move(stamp)
                acts[quicker](stamp)
                graph.spin_for(0.05)
                assert len(bench.heard) == i, "expected nothing before the other one has answered"
                acts[1 - quicker](stamp)
                found = bench.answer(i)
            assert [to_nanoseconds(m.header.stamp) for m in bench.heard] == [SECOND + i * FRAME for i in range(6)]
            assert not bench.node.monitor.drops
            places.append(centre(found.detections[0]))
    assert places[0] == places[1]


def test_without_the_sensors_that_are_named_for_it_tracks_are_published_after_every_one_and_they_can_come_back() -> (
    None
):
    with opened_graph() as graph:
        bench = two_detectors(graph, **{"front.timeout": 0.5, "transform_timeout": 20.0})
        for i in range(3):
            bench.move(SECOND + i * FRAME)
            bench.see(SECOND + i * FRAME, 40.0, 2.0)
            bench.detect(SECOND + i * FRAME, (40.0, 2.0))
            bench.answer(i)
        graph.spin_for(1.0)  # however much time passes while nobody else goes on: nothing is late
        for i in range(3, 20):
            bench.move(SECOND + i * FRAME)
            bench.see(SECOND + i * FRAME, 40.0, 2.0)
        graph.spin_until(lambda: bench.diagnostics.says("nothing usable of front: tracks are published without"))
        assert to_nanoseconds(bench.answer(3).header.stamp) == SECOND + 19 * FRAME
        graph.spin_until(lambda: bench.diagnostics.says("'front' answers"))
        for i in range(18, 24):  # back again, at first behind the others
            if i > 19:
                bench.move(SECOND + i * FRAME)
                bench.see(SECOND + i * FRAME, 40.0, 2.0)
            bench.detect(SECOND + i * FRAME, (40.0, 2.0))
        graph.spin_until(lambda: to_nanoseconds(bench.heard[-1].header.stamp) == SECOND + 23 * FRAME)
        count = len(bench.heard)
        bench.move(SECOND + 24 * FRAME)
        bench.see(SECOND + 24 * FRAME, 40.0, 2.0)
        graph.spin_for(0.1)
        assert len(bench.heard) == count  # it is waited for again
        bench.detect(SECOND + 24 * FRAME, (40.0, 2.0))
        assert len(bench.answer(count).detections) == 1
        assert not bench.node.monitor.drops


class Street:
    """Four frames of a recording, two a second: longer apart than a measurement may be late."""

    name, class_names = "street", ()

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Frame]:
        image = np.zeros((CAMERA.height // 16, CAMERA.width // 16, 3), np.uint8)
        for i in range(len(self)):
            time_ns = SECOND + i * SECOND // 2
            ego = vehicle(time_ns)
            yield Frame(time_ns, image, camera_pose=ego @ MOUNT, ego_pose=ego)


@pytest.mark.parametrize("slow", ["front", "image"])
def test_a_replay_at_rate_0_waits_for_a_slow_detector_and_the_tracks_are_the_same(
    slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers each image long after its timeout, by the clock: by the stamps nobody goes on without it."""
    monkeypatch.setattr(replay_node, "open_source", lambda spec: Street())
    found = []
    for wait in (0.0, 0.7):
        with opened_graph() as graph:
            bench = two_detectors(graph, **{"front.timeout": 0.3, "image.timeout": 0.3})
            detectors = {"front": bench.detect_car, "image": partial(bench.see, x=40.0, y=1.5)}
            results = bench.peer.create_publisher(Detection3DArray, "results", RESULTS)
            bench.peer.create_subscription(Detection3DArray, "pkf_filter/tracks", results.publish, RESULTS)
            images = collect(bench.peer, Image, "image", SENSOR_DATA)
            replay = graph.start(
                replay_node.ReplayNode, source="street", rate=0.0, result_type="Detection3DArray", publish_tf=True,
                fixed_frame="odom", wait_for_results=True,
            )  # fmt: skip
            for count in range(1, len(Street()) + 1):
                graph.spin_until(lambda count=count, images=images: len(images) == count)  # type: ignore[misc]
                stamp = to_nanoseconds(images[-1].header.stamp)
                detectors["image" if slow == "front" else "front"](stamp)
                graph.spin_for(wait)
                detectors[slow](stamp)
            graph.spin_until(lambda replay=replay: replay.exit_code == 0)  # type: ignore[misc]
            assert not replay.monitor.drops and not bench.node.monitor.drops
            assert len(images) == len(Street()), "expected no image to be sent twice"
            found.append([(to_nanoseconds(m.header.stamp), [centre(d) for d in m.detections]) for m in bench.heard])
    assert found[0] == found[1] and len(found[0]) == len(Street()) and len(found[0][-1][1]) == 1


def late_side(bench: Bench, frames: range, lag: int) -> None:
    """`front` in time, `side` so many frames behind it."""
    for i in frames:
        bench.move(SECOND + i * FRAME)
        bench.detect(SECOND + i * FRAME, (40.0, 2.0))
        bench.taken()
        if i >= lag:
            before = bench.node.monitor.processed, sum(bench.node.monitor.drops.values())
            bench.detect(SECOND + (i - lag) * FRAME, (40.0, 2.0), topic="side/tracks")
            bench.graph.spin_until(
                lambda before=before: before != (bench.node.monitor.processed, sum(bench.node.monitor.drops.values()))  # type: ignore[misc]
            )


def test_a_sensor_that_is_always_late_is_soon_fused_all_the_same() -> None:
    """By .8 s, where the configuration allows for .3 s."""
    with opened_graph() as graph:
        bench = Bench(graph, sensors=["front", "side"])
        late_side(bench, range(30), 8)
        lost = bench.node.monitor.drops["side too late"]
        assert 0 < lost <= 10
        late_side(bench, range(30, 45), 8)
        assert bench.node.monitor.drops == {"side too late": lost}


def test_what_is_too_late_for_any_track_is_counted_by_its_sensors_name_and_told_until_it_is_in_time() -> None:
    """By 3 s: no track lives so long without measurements."""
    with opened_graph() as graph:
        bench = Bench(graph, sensors=["front", "side"])
        late_side(bench, range(50), 30)
        assert bench.node.monitor.drops == {"side too late": 20}
        graph.spin_until(lambda: bench.diagnostics.says("detections of 'side' come 3.0 s after newer ones were taken"))
        late_side(bench, range(50, 55), 0)
        assert bench.node.monitor.drops == {"side too late": 20}
        graph.spin_until(lambda: "detections of 'side' come" not in bench.diagnostics.latest())


def test_cameras_have_the_same_sensors_and_are_fused_round_by_round() -> None:
    """Both cameras see the car: it is one track, published once both have said their part; or the one that is left."""
    with opened_graph() as graph:
        parameters = {"sensors": ["objects"], "cameras": "front rear", "publish_after": ["objects"]}
        bench = Bench(graph, **{**parameters, "objects.timeout": 0.5})
        for i in range(5):
            bench.move(SECOND + i * FRAME)
            for camera in ("front", "rear"):
                bench.detect(SECOND + i * FRAME, (40.0, 2.0), topic=f"{camera}/objects/tracks")
                bench.taken()
        graph.spin_until(lambda: len(bench.heard) >= 5)
        assert [to_nanoseconds(m.header.stamp) for m in bench.heard] == [SECOND + i * FRAME for i in range(5)]
        assert {detection.id for message in bench.heard for detection in message.detections} == {"1"}
        for i in range(5, 12):  # the rear camera is silent once half a second has gone on without it
            bench.move(SECOND + i * FRAME)
            bench.detect(SECOND + i * FRAME, (40.0, 2.0), topic="front/objects/tracks")
            bench.taken()
        graph.spin_until(lambda: to_nanoseconds(bench.heard[-1].header.stamp) == SECOND + 11 * FRAME)
        assert len(bench.heard) < 12  # until then it was waited for


def test_an_image_without_calibration_is_a_drop_and_the_other_sensor_goes_on() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front", "image"], "image.kind": "boxes_2d", "image.timeout": 0.5})
        bench.drive(range(3), (40.0, 2.0))
        bench.see(SECOND + 2 * FRAME, 40.0, 2.0)
        bench.graph.spin_until(lambda: bench.diagnostics.says("no calibration=1"))
        assert bench.drive(range(3, 5), (40.0, 2.0)).detections[0].id == "1"
        bench.graph.spin_until(lambda: bench.diagnostics.says("no detections of 'image' on /image/tracks"))


@pytest.mark.parametrize(("entry", "drops"), [(0.0, 1), (float("nan"), 1), (1.0, 0)])
def test_intrinsics_that_are_none_are_a_warning_and_a_drop(entry: float, drops: int) -> None:
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front", "image"], "image.kind": "boxes_2d"})
        bench.drive(range(3), (40.0, 2.0))
        bench.calibrate()
        bench.calibrate(k=(CAMERA.intrinsics * [[entry], [1], [1]]).ravel().tolist(), d=[0.1])
        words = "'image': K of camera_info: expected finite" if drops else "set the parameter 'rectified'"
        graph.spin_until(lambda: bench.diagnostics.says(words))
        bench.see(SECOND + 2 * FRAME, 40.0, 2.0)
        graph.spin_until(lambda: bench.node.monitor.processed + bench.node.monitor.drops["no calibration"] == 4)
        assert bench.node.monitor.drops["no calibration"] == drops


def test_boxes_in_rectified_images_have_their_intrinsics_in_p() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front", "image"], "image.kind": "boxes_2d", "rectified": True})
        p = np.pad(CAMERA.intrinsics, ((0, 0), (0, 1))).ravel().tolist()
        bench.calibrate(k=[700.0, 0, 600, 0, 700, 300, 0, 0, 1], p=p, d=[0.1, 0, 0, 0, 0], distortion_model="plumb_bob")
        (_, sensor) = bench.node._mode._sensors
        np.testing.assert_array_equal(sensor.camera.intrinsics, CAMERA.intrinsics)
        assert not any("camera_info" in subject for subject in bench.node.monitor.warnings)


def test_late_sensors_are_sorted_in() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, sensors=["fast", "slow"], **{"fast.topic": "a", "slow.topic": "b"})
        for i in range(10):
            count = len(bench.heard)
            bench.move(SECOND + i * FRAME)
            bench.detect(SECOND + i * FRAME, (60.0, 2.0), topic="a")
            bench.answer(count)
            if i:
                bench.detect(SECOND + i * FRAME - FRAME // 2, (60.0, 2.0), topic="b")
        bench.graph.spin_for(0.3)
        newest = bench.heard[-1]
        assert to_nanoseconds(newest.header.stamp) == SECOND + 9 * FRAME
        assert [detection.id for detection in newest.detections] == ["1"]
        assert not bench.diagnostics.says("older than the state")


def test_stamps_of_one_sensor_may_come_out_of_order(bench: Bench) -> None:
    bench.drive(range(4), (40.0, 2.0))
    for i in (6, 4, 5, 7):
        bench.move(SECOND + i * FRAME)
        bench.detect(SECOND + i * FRAME, (40.0, 2.0))
        bench.taken()
    bench.graph.spin_until(lambda: to_nanoseconds(bench.heard[-1].header.stamp) == SECOND + 7 * FRAME)
    assert len(bench.heard) == 6
    assert bench.node.monitor.processed == 8 and not bench.node.monitor.drops
    assert [detection.id for detection in bench.heard[-1].detections] == ["1"]


def test_at_a_fixed_rate_tracks_are_predicted() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, sensors=["front"], publish_rate=20.0)
        for i in range(10):
            bench.move(SECOND + i * FRAME)
            bench.detect(SECOND + i * FRAME, (20.0 + 1.0 * i, 2.0))
            graph.spin_for(0.02)
        graph.spin_until(lambda: any(to_nanoseconds(m.header.stamp) > SECOND + 10 * FRAME for m in bench.heard))
        stamps = [to_nanoseconds(message.header.stamp) for message in bench.heard]
        assert stamps == sorted(set(stamps))
        newest = bench.heard[-1]
        expected = 20.0 + 10.0 * (stamps[-1] - SECOND) / SECOND
        assert centre(newest.detections[0])[0] == pytest.approx(expected, abs=0.5)


def test_at_a_fixed_rate_messages_go_on_without_anything_to_tell() -> None:
    """The sensor finds nothing any more, and then says nothing any more: silence would mean a fault of the filter."""
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front"], "publish_rate": 50.0, "world.max_silence": 0.5})
        for i in range(5):
            bench.move(SECOND + i * FRAME)
            bench.detect(SECOND + i * FRAME, (20.0, 2.0))
            bench.taken()
        graph.spin_until(lambda: bench.heard and bench.heard[-1].detections)
        graph.spin_until(lambda: not bench.heard[-1].detections)
        count = len(bench.heard)
        graph.spin_until(lambda: len(bench.heard) >= count + 50)
        assert not any(message.detections for message in bench.heard[count:])
        stamps = [to_nanoseconds(message.header.stamp) for message in bench.heard]
        assert stamps == sorted(set(stamps)) and stamps[-1] > SECOND + 5 * FRAME + SECOND


def test_time_going_backwards_starts_afresh(bench: Bench) -> None:
    bench.drive(range(100, 105), (150.0, 2.0))
    for i in (0, 1):  # these might be stragglers
        bench.move(SECOND + i * FRAME)
        bench.detect(SECOND + i * FRAME, (40.0, 2.0))
    found = bench.drive(range(2, 7), (40.0, 2.0))
    assert [detection.id for detection in found.detections] == ["2"]


def test_parameters_of_sensors_are_checked() -> None:
    with opened_graph() as graph:
        node = graph.start(PkfNode, **{"sensors": ["left"], "left.noise": 3.0, "world.vehicle.acceleration": 1.5})
        assert node.parameters.left.noise == 3.0 and node.parameters.world.vehicle.acceleration == 1.5
        assert node.get_parameter("left.kind").value == "boxes_3d"
    for wrong in (
        {"sensors": ["two words"]},
        {"sensors": ["world"]},
        {"sensors": ["left"], "left.kind": "sonar"},
        {"sensors": ["left"], "left.detection_probability": 1.5},
        {"sensors": "left"},
        {"sensors": ["left"], "publish_after": ["right"]},
    ):
        with opened_graph() as graph:
            assert not graph.add(PkfNode(**graph.options(wrong))).start()
