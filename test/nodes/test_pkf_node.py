"""The PKF node: real messages in, tracks out, bad input counted and the node still up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ros_helpers import Diagnostics, Graph, collect, opened_graph
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.ros.lifecycle.qos import RESULTS
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages.stamps import fill_stamp
from pkf_filter.ros.node import PkfNode

SECOND = 1_000_000_000
FRAME = SECOND // 10
NAMES = ("car", "bus")


def detections(time_ns: int, *centres: float, class_id: int = 0) -> Detection2DArray:
    """Boxes of 60 px in one row."""
    x = np.array(centres, np.float64)
    xyxy = np.stack([x - 30, 0 * x + 70, x + 30, 0 * x + 130], 1)
    boxes = Boxes2D(xyxy, np.full(len(x), 0.9), np.full(len(x), class_id))
    header = Header(frame_id="front")
    fill_stamp(header.stamp, time_ns)
    return messages.from_boxes(boxes, NAMES, header)


class Bench:
    """A running node and a peer that talks to it."""

    def __init__(self, graph: Graph, **parameters: Any) -> None:
        self.graph = graph
        self.node = graph.start(PkfNode, **parameters)
        peer = graph.peer()
        self.diagnostics = Diagnostics(peer)
        self.heard = collect(peer, Detection2DArray, "pkf_filter/tracks", RESULTS)
        self.detector = peer.create_publisher(Detection2DArray, "detections", RESULTS)
        graph.spin_until(lambda: self.detector.get_subscription_count() and peer.count_publishers("pkf_filter/tracks"))

    def send(self, message: Detection2DArray) -> Detection2DArray:
        """The tracks that answer a message."""
        count = len(self.heard)
        self.detector.publish(message)
        self.graph.spin_until(lambda: len(self.heard) > count)
        return self.heard[-1]

    def ids(self, message: Detection2DArray) -> list[str]:
        return [detection.id for detection in message.detections]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with opened_graph() as graph:
        yield Bench(graph)


def test_ids_are_stable_and_headers_kept(bench: Bench) -> None:
    answers = []
    for i in range(8):
        sent = detections(SECOND + i * FRAME, 100 + 5 * i, 400 - 5 * i)
        answers.append(bench.send(sent))
        assert answers[-1].header == sent.header
    assert sorted(bench.ids(answers[-1])) == ["1", "2"]
    assert {name for answer in answers for name in bench.ids(answer)} == {"1", "2"}
    result = answers[-1].detections[0]
    assert result.header == answers[-1].header
    assert result.results[0].hypothesis.class_id == "car"
    assert result.bbox.size_x == pytest.approx(60, abs=1)


def test_class_names_come_back_as_they_came(bench: Bench) -> None:
    for i in range(5):
        bench.send(detections(SECOND + i * FRAME, 100, class_id=1))
    answer = bench.send(detections(SECOND + 5 * FRAME, 100, class_id=1))
    assert answer.detections[0].results[0].hypothesis.class_id == "bus"


def test_an_empty_array_is_a_frame_too(bench: Bench) -> None:
    for i in range(5):
        bench.send(detections(SECOND + i * FRAME, 100))
    answer = bench.send(detections(SECOND + 5 * FRAME))
    assert not answer.detections
    assert answer.header.stamp.nanosec == 5 * FRAME
    assert bench.ids(bench.send(detections(SECOND + 6 * FRAME, 100))) == ["1"]


def test_time_going_backwards_starts_afresh_with_new_ids(bench: Bench) -> None:
    for start in (100 * SECOND, SECOND):
        answers = [bench.send(detections(start + i * FRAME, 100)) for i in range(5)]
        assert bench.ids(answers[-1]) == ["1" if start > SECOND else "2"]
        for straggler in (8, 9):
            bench.detector.publish(detections(straggler * FRAME, 100))
    bench.graph.spin_until(lambda: bench.diagnostics.says("went backwards"))


def test_a_box_that_is_not_finite_is_dropped_and_counted(bench: Bench) -> None:
    for i in range(4):
        message = detections(SECOND + i * FRAME, 100, 400, 700)
        message.detections[1].bbox.center.position.x = float("nan")
        message.detections[2].bbox.size_x = -10.0
        answer = bench.send(message)
    assert len(answer.detections) == 1
    bench.graph.spin_until(lambda: bench.diagnostics.says("unusable detection=8"))


def test_late_stamps_are_sorted_in_and_repeated_ones_dropped(bench: Bench) -> None:
    for i in (0, 3):
        bench.send(detections(SECOND + i * FRAME, 100 + 20 * i))
    for i in (1, 2, 2):
        bench.detector.publish(detections(SECOND + i * FRAME, 100 + 20 * i))
    answer = bench.send(detections(SECOND + 4 * FRAME, 180))
    assert len(bench.heard) == 3  # the tracks of the late ones' times are out: no answer to them
    assert bench.node.monitor.processed == 3
    assert bench.ids(answer) == ["1"]
    assert bench.node.monitor.drops == {"duplicate stamp": 1}


def test_stamps_that_come_too_late_are_dropped() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, max_lag=0.15)
        for i in (0, 3):
            bench.send(detections(SECOND + i * FRAME, 100))
        bench.detector.publish(detections(SECOND + FRAME, 100))
        bench.send(detections(SECOND + 4 * FRAME, 100))
        assert bench.node.monitor.drops == {"late stamp": 1}


def test_parameters_reach_the_filter() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, **{"fixed_frame": "odom", "confirmation": 0.05, "noise.centre": 0.1})
        assert bench.node.parameters.fixed_frame == "odom"
        assert bench.node.parameters.noise.centre == 0.1
        assert len(bench.send(detections(SECOND, 100)).detections) == 1


def test_a_wrong_parameter_is_refused() -> None:
    with opened_graph() as graph:
        node = graph.add(PkfNode(**graph.options({"gate_iou": 7.0})))
        assert not node.start()
