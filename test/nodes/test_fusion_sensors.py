"""Several sensors of the fusion node: a fault of one stays its own, and those of a group are waited for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from fusion_helpers import CAMERA, FRAME, MOUNT, SECOND, Bench, centre, vehicle
from ros_helpers import Graph, collect, opened_graph
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection3DArray

from camtrack.nodes import replay as replay_node
from camtrack_core.datasets.frames import Frame
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.stamps import to_nanoseconds


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
        bench = two_detectors(graph, **{"front.timeout": 0.5})
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
            before = bench.measurements(), sum(bench.node.monitor.drops.values())
            bench.detect(SECOND + (i - lag) * FRAME, (40.0, 2.0), topic="side/tracks")
            bench.graph.spin_until(
                lambda before=before: before != (bench.measurements(), sum(bench.node.monitor.drops.values()))  # type: ignore[misc]
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
        graph.spin_until(lambda: bench.measurements() + bench.node.monitor.drops["no calibration"] == 4)
        assert bench.node.monitor.drops["no calibration"] == drops


def test_boxes_in_rectified_images_have_their_intrinsics_in_p() -> None:
    with opened_graph() as graph:
        bench = Bench(graph, **{"sensors": ["front", "image"], "image.kind": "boxes_2d", "rectified": True})
        p = np.pad(CAMERA.intrinsics, ((0, 0), (0, 1))).ravel().tolist()
        bench.calibrate(k=[700.0, 0, 600, 0, 700, 300, 0, 0, 1], p=p, d=[0.1, 0, 0, 0, 0], distortion_model="plumb_bob")
        (_, sensor) = bench.node._mode._sensors
        np.testing.assert_array_equal(sensor.camera.intrinsics, CAMERA.intrinsics)
        assert not any("camera_info" in subject for subject in bench.node.monitor.warnings)
