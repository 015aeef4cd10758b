"""The fusion node: messages and transforms in, tracks in the fixed frame out; parameters, and time that jumps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fusion_helpers import FRAME, SECOND, Bench, centre
from ros_helpers import opened_graph, parameters_of

from camtrack_core.ros.lifecycle.parameters import strangers
from camtrack_core.ros.messages.stamps import to_nanoseconds
from pkf_filter.ros.node import PkfNode
from pkf_filter.space.config import WorldConfig


@pytest.fixture
def bench() -> Iterator[Bench]:
    with opened_graph() as graph:
        yield Bench(graph, sensors=["front"])


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


def test_without_transform_detections_are_dropped_and_the_reason_is_told() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, sensors=["front"], transform_timeout=0.2)
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


def test_the_example_configuration_is_one_that_the_node_takes() -> None:
    """config/fusion.yaml, for several cameras, what launch/fusion.launch.xml loads, and what it may load instead."""
    root = Path(__file__).resolve().parents[2]
    for name, sensors in (
        ("fusion.yaml", ("front", "rear", "front_image")),
        ("camera_fusion.yaml", ("objects", "image")),
        ("image_fusion.yaml", ("image",)),
    ):
        flat = parameters_of(root / "config" / name)
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
        bench.graph.spin_until(lambda: bench.measurements() == 10 + 9)
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
    assert bench.measurements() == 8 and not bench.node.monitor.drops
    assert bench.node.monitor.processed == 6  # two came after newer ones, whose tracks were out
    assert [detection.id for detection in bench.heard[-1].detections] == ["1"]


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
