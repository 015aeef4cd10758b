"""What the fusion node says besides tracks, and when: velocities, trajectories, markers, states, fixed rates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fusion_helpers import FRAME, MOUNT, SECOND, UPRIGHT, Bench, centre, header, vehicle
from ros_helpers import collect, opened_graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2, PointField
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.lifecycle.qos import CLOCK, RESULTS
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds
from pkf_filter.space.config import SensorModel, WorldConfig


@pytest.fixture
def bench() -> Iterator[Bench]:
    with opened_graph() as graph:
        yield Bench(graph, sensors=["front"])


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


def test_latency_is_compensated_to_the_simulated_time_of_publishing() -> None:
    """Detections of a car at 10 m/s come .2 s late, and without the parameter so do its tracks."""
    places = {}
    for compensate in (False, True):
        with opened_graph() as graph:
            bench = Bench(graph, sensors=["front"], compensate_latency=compensate, use_sim_time=True)
            clock = bench._publisher(Clock, "/clock", CLOCK)
            for i in range(15):
                stamp, now = SECOND + i * FRAME, SECOND + (i + 2) * FRAME
                clock.publish(Clock(clock=fill_stamp(header("", 0).stamp, now)))
                graph.spin_until(lambda now=now, bench=bench: bench.node.get_clock().now().nanoseconds == now)  # type: ignore[misc]
                bench.move(stamp)
                bench.detect(stamp, (20.0 + 1.0 * i, 2.0))
                found = bench.answer(i)
            assert to_nanoseconds(found.header.stamp) == (now if compensate else stamp)
            places[compensate] = found.detections[0]
    assert centre(places[False])[0] == pytest.approx(34.0, abs=0.1)
    assert centre(places[True])[0] == pytest.approx(36.0, abs=0.3)
    variance = {key: one.results[0].pose.covariance[0] for key, one in places.items()}
    assert variance[True] > 1.5 * variance[False]


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_the_covariance_that_a_detection_states_is_that_of_its_track(factor: float) -> None:
    """Of two cars one states none. Stated along the axes of the camera's frame, told in the fixed one."""
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front"], "front.covariance_factor": factor})
        stated = np.zeros((2, 4, 4))
        stated[0] = np.diag([0.5, 0.2, 0.1, 0.04])
        stated[0, 0, 1] = stated[0, 1, 0] = 0.15
        centre_ = np.array([[40.0, 2.0, 0.75], [50.0, -3.0, 0.75]]) - vehicle(SECOND).apply(MOUNT.translation)
        boxes = Boxes3D(centre_, np.tile([4.0, 1.8, 1.5], (2, 1)), np.zeros(2), np.zeros((2, 3)))
        sent = Tracks3D(np.arange(2), boxes, stated, np.full(2, 0.95), np.zeros(2, np.int64), np.zeros(2))
        bench.move(SECOND)
        data = messages3d.pack_tracks(sent, ("car",), header("camera", SECOND), UPRIGHT)
        bench._publisher(Detection3DArray, "front/tracks", RESULTS).publish(data)
        first, second = sorted(bench.answer(0).detections, key=lambda one: centre(one)[0])
        found = [
            one.results[0].pose.covariance.reshape(6, 6)[np.ix_([0, 1, 2, 5], [0, 1, 2, 5])] for one in (first, second)
        ]
        deviation = WorldConfig().vehicle.measured_position
        if factor:
            np.testing.assert_allclose(found[0], factor * stated[0], atol=1e-6)
            assert bench.node.monitor.facts["front covariances"] == "1 of 2"
        else:
            assert found[0][0, 0] == pytest.approx(deviation**2) and "front covariances" not in bench.node.monitor.facts
        assert found[1][0, 0] == pytest.approx(deviation**2)
