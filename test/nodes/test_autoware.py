"""The node that tells Autoware what the filter knows, value by value."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from ros_helpers import Diagnostics, Graph, collect, opened_graph
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from camtrack_core.ros.lifecycle.qos import RESULTS
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.point_cloud import from_point_cloud, to_point_cloud
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds
from pkf_filter.ros.node import PkfNode

INSTALLED = find_spec("autoware_perception_msgs") is not None
if INSTALLED:
    from autoware_perception_msgs.msg import ObjectClassification as Label
    from autoware_perception_msgs.msg import PredictedObjects, Shape, TrackedObjects
    from autoware_perception_msgs.msg import TrackedObjectKinematics as Kinematics

    from pkf_filter.ros.autoware import AutowareNode

pytestmark = pytest.mark.skipif(not INSTALLED, reason="Autoware's messages are not installed here")
SECOND = 1_000_000_000
FRAME = SECOND // 10
UNKNOWN = 1e6  # variance

# Two tracks: a car that drives to the left, and a person of whom little is known.
STATES: dict[str, list[float]] = {
    "id": [7, 12],
    "x": [10.0, -3.0], "y": [20.0, 4.0], "z": [0.75, 0.9], "yaw": [np.pi / 2, 3.0],
    "variance_x_x": [0.04, 0.5], "variance_x_y": [0.01, 0.0], "variance_y_y": [0.09, 0.5],
    "variance_yaw_yaw": [0.01, 1.0],
    "vx": [0.5, 0.0], "vy": [6.0, 0.0], "turn_rate": [0.2, 0.0],
    "variance_vx_vx": [0.25, 1.0], "variance_vx_vy": [0.125, 0.0], "variance_vy_vy": [1.0, 1.0],
    "score": [0.9, 0.6], "existence": [0.9375, 0.75], "resting": [0.25, 0.875], "facing": [0.0, 9.0],
    "coasting": [0, 1], "age": [3.0, 1.0], "silence": [0.0, 0.2],
    "class_car": [0.5, 0.0], "class_truck": [0.125, 0.0], "class_van": [0.25, 0.0], "class_hay": [0.125, 0.0],
    "class_pedestrian": [0.0, 1.0],
}  # fmt: skip
PREDICTIONS: dict[str, list[float]] = {
    "id": [7, 12, 7, 12, 7, 12],
    "after": [0.0, 0.0, 0.5, 0.5, 1.0, 1.0],
    "x": [10.0, -3.0, 10.25, -3.0, 10.5, -3.0], "y": [20.0, 4.0, 23.0, 4.0, 26.0, 4.0],
    "z": [0.75, 0.9, 0.75, 0.9, 0.75, 0.9], "yaw": [np.pi / 2, 3.0, np.pi / 2 + 0.1, 3.0, np.pi / 2 + 0.2, 3.0],
    "existence": [0.9375, 0.75, 0.8, 0.7, 0.75, 0.375],
}  # fmt: skip


def header(time_ns: int) -> Header:
    made = Header(frame_id="odom")
    fill_stamp(made.stamp, time_ns)
    return made


def tracks(time_ns: int) -> Detection3DArray:
    """The boxes of STATES, with the covariance of a pose of which every entry is another number."""
    found = []
    for row, track in enumerate(STATES["id"]):
        one = Detection3D(id=str(int(track)), results=[ObjectHypothesisWithPose()])
        one.results[0].pose.covariance = np.arange(36.0) + 100 * row
        box = one.bbox
        position, turn = box.center.position, box.center.orientation
        position.x, position.y, position.z = (STATES[name][row] for name in "xyz")
        turn.z, turn.w = np.sin(STATES["yaw"][row] / 2), np.cos(STATES["yaw"][row] / 2)
        box.size.x, box.size.y, box.size.z = (4.0 + row, 1.75, 1.5)
        found.append(one)
    return Detection3DArray(header=header(time_ns), detections=found)


def cloud(time_ns: int, columns: dict[str, list[float]]) -> PointCloud2:
    return to_point_cloud(header(time_ns), {name: np.array(values, float) for name, values in columns.items()})


class Bench:
    """A running node and a peer that plays the filter and Autoware."""

    def __init__(self, graph: Graph, **parameters: Any) -> None:
        self.graph = graph
        self.node = graph.start(AutowareNode, **parameters)
        self.peer = graph.peer()
        self.diagnostics = Diagnostics(self.peer)
        self.tracked = collect(self.peer, TrackedObjects, "autoware/tracked_objects", RESULTS)
        self.predicted = collect(self.peer, PredictedObjects, "autoware/predicted_objects", RESULTS)
        kinds = {"tracks": Detection3DArray, "states": PointCloud2, "predictions": PointCloud2}
        self.parts = {name: self.peer.create_publisher(kind, name, RESULTS) for name, kind in kinds.items()}
        graph.spin_until(lambda: all(part.get_subscription_count() for part in self.parts.values()))
        graph.spin_until(lambda: self.peer.count_publishers("autoware/predicted_objects"))

    def tell(self, time_ns: int, *names: str) -> None:
        made = {"tracks": tracks(time_ns), "states": cloud(time_ns, STATES), "predictions": cloud(time_ns, PREDICTIONS)}
        for name in names or made:
            self.parts[name].publish(made[name])

    def heard(self, count: int) -> tuple[TrackedObjects, PredictedObjects]:
        self.graph.spin_until(lambda: len(self.tracked) == len(self.predicted) == count)
        return self.tracked[-1], self.predicted[-1]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with opened_graph() as graph:
        yield Bench(graph)


def labels(found: Any) -> list[tuple[int, float]]:
    return [(one.label, one.probability) for one in found.classification]


def test_a_tracked_object_value_by_value(bench: Bench) -> None:
    bench.tell(SECOND + 5)
    found, _ = bench.heard(1)
    assert found.header == header(SECOND + 5)
    car, person = found.objects
    assert car.existence_probability == 0.9375 and person.existence_probability == 0.75
    # a van is a car to Autoware; the likeliest first; what it has no label for is unknown
    assert labels(car) == [(Label.CAR, 0.75), (Label.TRUCK, 0.125), (Label.UNKNOWN, 0.125)]
    assert labels(person) == [(Label.PEDESTRIAN, 1.0)]
    assert (car.shape.type, len(car.shape.footprint.points)) == (Shape.BOUNDING_BOX, 0)
    size = car.shape.dimensions
    assert (size.x, size.y, size.z) == (4.0, 1.75, 1.5) and person.shape.dimensions.x == 5.0

    pose = car.kinematics.pose_with_covariance
    place, turn = pose.pose.position, pose.pose.orientation
    assert (place.x, place.y, place.z) == (10.0, 20.0, 0.75)
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx((0, 0, np.sqrt(0.5), np.sqrt(0.5)))
    assert pose.covariance.tolist() == list(range(36))
    assert person.kinematics.pose_with_covariance.covariance[0] == 100.0

    # Along y of the frame at 6 m/s is forwards, along x at .5 m/s to the right.
    twist = car.kinematics.twist_with_covariance
    linear, angular = twist.twist.linear, twist.twist.angular
    assert (linear.x, linear.y, linear.z) == pytest.approx((6.0, -0.5, 0.0))
    assert (angular.x, angular.y, angular.z) == (0.0, 0.0, 0.2)
    expected = UNKNOWN * np.eye(6)
    expected[:2, :2] = [[1.0, -0.125], [-0.125, 0.25]]
    np.testing.assert_allclose(twist.covariance.reshape(6, 6), expected, atol=1e-9)
    acceleration = car.kinematics.acceleration_with_covariance
    assert acceleration.accel.linear.x == 0.0
    np.testing.assert_array_equal(acceleration.covariance.reshape(6, 6), UNKNOWN * np.eye(6))

    assert (car.kinematics.is_stationary, person.kinematics.is_stationary) == (False, True)
    assert car.kinematics.orientation_availability == Kinematics.AVAILABLE  # by its motion
    assert person.kinematics.orientation_availability == Kinematics.UNAVAILABLE  # a deviation of 1 rad


def test_a_predicted_object_is_the_tracked_one_with_its_way(bench: Bench) -> None:
    bench.tell(SECOND)
    tracked, found = bench.heard(1)
    assert found.header == tracked.header
    for before, one in zip(tracked.objects, found.objects, strict=True):
        assert (one.object_id, one.existence_probability) == (before.object_id, before.existence_probability)
        assert (one.classification, one.shape) == (before.classification, before.shape)
        kinematics, known = one.kinematics, before.kinematics
        assert kinematics.initial_pose_with_covariance == known.pose_with_covariance
        assert kinematics.initial_twist_with_covariance == known.twist_with_covariance
        assert kinematics.initial_acceleration_with_covariance == known.acceleration_with_covariance
    (way,) = found.objects[0].kinematics.predicted_paths
    assert (way.time_step.sec, way.time_step.nanosec) == (0, 500_000_000)
    assert [(pose.position.x, pose.position.y, pose.position.z) for pose in way.path] == [
        (10.0, 20.0, 0.75), (10.25, 23.0, 0.75), (10.5, 26.0, 0.75),
    ]  # fmt: skip
    yaws = [2 * np.arctan2(pose.orientation.z, pose.orientation.w) for pose in way.path]
    assert yaws == pytest.approx([np.pi / 2, np.pi / 2 + 0.1, np.pi / 2 + 0.2])
    assert way.confidence == pytest.approx(0.8)  # of .9375 now .75 is left at the end
    assert found.objects[1].kinematics.predicted_paths[0].confidence == 0.5


def test_ids_stay_while_the_node_runs_and_are_others_in_every_run() -> None:
    seen = []
    for _ in range(2):
        with opened_graph() as graph:
            bench = Bench(graph)
            for i in (1, 2):
                bench.tell(i * SECOND)
                found, _ = bench.heard(i)
                ids = [uuid.UUID(bytes=bytes(one.object_id.uuid)) for one in found.objects]
                seen.append(ids)
    assert seen[0] == seen[1] and seen[2] == seen[3]
    assert len({*seen[0], *seen[2]}) == 4 and all(one.version == 5 for one in seen[0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"facing": [0.0, 0.0], "vy": [0.5, 0.0]}, "SIGN_UNKNOWN"),
        ({"facing": [2.5, 0.0], "vy": [0.5, 0.0]}, "AVAILABLE"),
        ({"facing": [0.0, 0.0]}, "AVAILABLE"),
        ({"variance_yaw_yaw": [0.3, 0.3]}, "UNAVAILABLE"),
    ],
)
def test_how_much_is_known_of_the_orientation(
    changes: dict[str, list[float]], expected: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, values in changes.items():
        monkeypatch.setitem(STATES, name, values)
    bench.tell(SECOND)
    found = bench.heard(1)[0].objects[0].kinematics.orientation_availability
    assert found == getattr(Kinematics, expected)


def test_parameters_move_the_thresholds() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, stationary=0.2, known_yaw=1.5)
        bench.tell(SECOND)
        found, _ = bench.heard(1)
        assert found.objects[0].kinematics.is_stationary
        assert found.objects[1].kinematics.orientation_availability == Kinematics.AVAILABLE


def test_without_tracks_messages_are_empty_and_without_a_class_it_is_unknown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in STATES if name.startswith("class_")]:
        monkeypatch.setitem(STATES, name, [0.0, 0.0])
    bench.tell(SECOND)
    assert labels(bench.heard(1)[0].objects[0]) == [(Label.UNKNOWN, 1.0)]
    bench.parts["tracks"].publish(Detection3DArray(header=header(2 * SECOND)))
    bench.parts["states"].publish(cloud(2 * SECOND, {name: [] for name in STATES}))
    bench.parts["predictions"].publish(cloud(2 * SECOND, {name: [] for name in PREDICTIONS}))
    found, ahead = bench.heard(2)
    assert found.objects == ahead.objects == [] and to_nanoseconds(found.header.stamp) == 2 * SECOND


def test_parts_may_come_in_any_order_and_stamps_without_all_of_them_are_counted(bench: Bench) -> None:
    bench.tell(SECOND, "predictions", "tracks")
    bench.tell(2 * SECOND, "states", "predictions", "tracks")
    found, _ = bench.heard(1)
    assert to_nanoseconds(found.header.stamp) == 2 * SECOND
    bench.graph.spin_until(lambda: bench.diagnostics.says("part lost=1"))
    for i in range(3, 40):
        bench.tell(i * SECOND, "states")
        bench.graph.spin_until(lambda i=i: i * SECOND in bench.node._waiting)  # type: ignore[misc]
    bench.graph.spin_until(lambda: bench.node.monitor.drops["part lost"] == 1 + 37 - 32)
    bench.tell(SECOND)  # a recording that starts again
    assert to_nanoseconds(bench.heard(2)[0].header.stamp) == SECOND


def test_a_broken_cloud_is_counted_and_the_node_goes_on(bench: Bench) -> None:
    wrong = cloud(SECOND, STATES)
    wrong.data = wrong.data[:-8]
    bench.parts["states"].publish(wrong)
    bench.tell(SECOND, "tracks", "predictions")
    bench.graph.spin_until(lambda: sum(bench.node.monitor.drops.values()))
    bench.tell(2 * SECOND)
    assert len(bench.heard(1)[0].objects) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"is_bigendian": True},
        {"point_step": 7},
        {"width": 3},
        {"fields": [PointField(name="id", offset=0, datatype=PointField.FLOAT32, count=1)]},
        {"fields": [PointField(name="id", offset=4, datatype=PointField.FLOAT64, count=1)]},
    ],
)
def test_clouds_of_another_layout_are_refused(change: dict[str, Any]) -> None:
    made = to_point_cloud(header(0), {"id": np.arange(4.0)})
    np.testing.assert_array_equal(from_point_cloud(made)["id"], np.arange(4.0))
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises(DataError):
        from_point_cloud(made)


def test_what_the_filter_publishes_reaches_autoware() -> None:
    """A car that drives along x at 10 m/s, from detections to objects; the filter predicts in steps of 1 s."""
    with opened_graph() as graph:
        filter_node = graph.start(PkfNode, fixed_frame="odom", sensors=["front"], trajectory_step=1.0, horizon=2.0)
        bench = Bench.__new__(Bench)
        bench.graph, bench.peer = graph, graph.peer()
        remapped = {"context": graph.context, "cli_args": ["--ros-args", *remaps("tracks", "states", "predictions")]}
        bench.node = graph.add(AutowareNode(**remapped))
        assert bench.node.start()
        bench.tracked = collect(bench.peer, TrackedObjects, "autoware/tracked_objects", RESULTS)
        bench.predicted = collect(bench.peer, PredictedObjects, "autoware/predicted_objects", RESULTS)
        heard = collect(bench.peer, Detection3DArray, "pkf_filter/tracks", RESULTS)
        detector = bench.peer.create_publisher(Detection3DArray, "front/tracks", RESULTS)
        topics = [f"pkf_filter/{name}" for name in ("tracks", "states", "predictions")]
        graph.spin_until(lambda: all(filter_node.count_subscribers(topic) for topic in topics))
        graph.spin_until(lambda: detector.get_subscription_count() and bench.peer.count_publishers(topics[0]))
        for i in range(15):
            centre, size = np.array([[20.0 + i, 2.0, 0.75]]), np.array([[4.0, 1.8, 1.5]])
            boxes = Boxes3D(centre, size, np.zeros(1), np.full((1, 3), np.nan))
            found = Detections3D(boxes, np.array([0.95]), np.zeros(1, np.int64))
            detector.publish(messages3d.pack_boxes(found, ("car",), header(SECOND + i * FRAME), np.eye(3)))
            graph.spin_until(lambda i=i: len(heard) == i + 1)  # type: ignore[misc]
        tracked, ahead = bench.heard(15)
        (detection,), (car,), (way,) = (
            heard[-1].detections,
            tracked.objects,
            ahead.objects[0].kinematics.predicted_paths,
        )
        assert tracked.header == heard[-1].header
        pose = car.kinematics.pose_with_covariance
        assert pose.pose == detection.bbox.center
        np.testing.assert_array_equal(pose.covariance, detection.results[0].pose.covariance)
        assert labels(car) == [(Label.CAR, 1.0)] and 0.9 < car.existence_probability <= 1
        assert car.kinematics.twist_with_covariance.twist.linear.x == pytest.approx(10.0, abs=0.3)
        assert not car.kinematics.is_stationary
        assert car.kinematics.orientation_availability == Kinematics.AVAILABLE
        assert way.time_step.sec == 1
        assert [pose.position.x for pose in way.path] == pytest.approx([34.0, 44.0, 54.0], abs=1.0)
        assert way.confidence == pytest.approx(0.5 ** (2 / 5), abs=1e-3)  # half of all vanish in 5 s


def remaps(*names: str) -> list[str]:
    return [word for name in names for word in ("-r", f"{name}:=pkf_filter/{name}")]
