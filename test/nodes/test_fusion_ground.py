"""Boxes of a calibrated image alone: the fusion node makes tracks in space of them, and so does the run without ROS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fusion_helpers import CAMERA, FRAME, MOUNT, SECOND, Bench, centre, pictured_car, vehicle
from ros_helpers import opened_graph
from vision_msgs.msg import Detection3DArray

from camtrack.offline import fusion
from camtrack_core.config import validated
from camtrack_core.datasets.frames import Frame
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.camera import Pose
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter.ros.fusion_config import FusionParameters, with_sensors

CAR = (40.0, 2.0)
FRAMES = range(12)  # of 0.1 s, in which the camera comes from 29 m before the car to 18 m
IMAGE = {"kind": "boxes_2d", "pitch_deviation": 0.5}


def stamp(frame: int) -> int:
    return SECOND + frame * FRAME


def seen_by_the_node(**parameters: Any) -> list[Detection3DArray]:
    with opened_graph() as graph:
        given = {f"image.{name}": value for name, value in IMAGE.items()} | parameters
        bench = Bench(graph, **{"sensors": ["image"], **given})
        bench.calibrate()
        for frame in FRAMES:
            count = len(bench.heard)
            bench.move(stamp(frame))
            bench.see(stamp(frame), *CAR)
            bench.answer(count)
        return bench.heard


def tracked_without_ros(monkeypatch: pytest.MonkeyPatch) -> list[Tracks3D]:
    """By `track --method fusion` with one image sensor, whose detector sees what the node is sent."""
    model: Any = SimpleNamespace(class_names=("car",))
    found = SimpleNamespace(upright=Pose(np.eye(3), np.zeros(3)))
    boxes = iter([pictured_car(stamp(frame), *CAR) for frame in FRAMES])
    monkeypatch.setattr(fusion, "SpatialTracker", lambda _: SimpleNamespace(step=lambda *_: found))
    monkeypatch.setattr(fusion, "ImageTracker", lambda _: SimpleNamespace(step=lambda _: next(boxes)))
    parameters = validated(with_sensors(FusionParameters, ["image"]), {"sensors": ("image",), "image": IMAGE})
    tracker, image, tracks = fusion.FusionTracker(model, model, parameters), np.zeros((720, 1280, 3), np.uint8), []
    for frame in FRAMES:
        ego = vehicle(stamp(frame))
        _, one = tracker.filtered(Frame(stamp(frame), image, camera=CAMERA, camera_pose=ego @ MOUNT, ego_pose=ego))
        tracks.append(one)
    return tracks


def foot(boxes: Boxes2D) -> np.ndarray:
    """Where the lower edge of a box meets the ground, from the camera ahead and to the left, metres."""
    left, _, right, bottom = boxes.xyxy[0]
    k = CAMERA.intrinsics
    ahead = MOUNT.translation[2] * k[1, 1] / (bottom - k[1, 2])
    return np.array([ahead, -((left + right) / 2 - k[0, 2]) / k[0, 0] * ahead])


def test_boxes_of_an_image_alone_become_tracks_in_space_where_the_objects_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = seen_by_the_node()
    expected = tracked_without_ros(monkeypatch)
    assert len(heard) == len(expected) == len(FRAMES)
    assert [len(message.detections) for message in heard] == [len(tracks) for tracks in expected]
    deviations = []
    for frame, message, tracks in zip(FRAMES, heard, expected, strict=True):
        for row, found in enumerate(message.detections):
            result = found.results[0]
            assert found.id == str(tracks.ids[row]) == "1"
            assert result.hypothesis.class_id == "car"
            assert result.hypothesis.score == pytest.approx(tracks.scores[row], abs=1e-9)
            np.testing.assert_allclose(centre(found), tracks.boxes.centre[row], atol=1e-6)
            size = found.bbox.size
            np.testing.assert_allclose([size.x, size.y, size.z], tracks.boxes.size[row], atol=1e-6)
            spread = np.array(result.pose.covariance).reshape(6, 6)
            np.testing.assert_allclose(spread[:3, :3], tracks.covariance[row, :3, :3], atol=1e-6)
            place = np.array(centre(found)[:2])
            sight = place - vehicle(stamp(frame)).apply(MOUNT.translation)[:2]
            near = foot(pictured_car(stamp(frame), *CAR))  # the lower edge is the car's back
            assert np.linalg.norm(sight) - np.linalg.norm(near) == pytest.approx(1.0, abs=1.5)
            assert np.arctan2(sight[1], sight[0]) == pytest.approx(np.arctan2(near[1], near[0]), abs=0.02)
            deviations.append(float(np.sqrt(np.linalg.eigvalsh(spread[:2, :2]).max())))
    assert len(deviations) >= len(FRAMES) - 2
    assert np.linalg.norm(place - CAR) <= 2.0
    assert deviations[0] > 1.0 and deviations[-1] < deviations[0]


def test_without_a_pitch_deviation_boxes_of_an_image_start_no_tracks() -> None:
    assert not any(message.detections for message in seen_by_the_node(**{"image.pitch_deviation": 0.0}))


def test_without_the_frame_on_the_ground_boxes_that_may_start_tracks_are_dropped_and_it_is_told() -> None:
    with opened_graph() as graph:
        given = {f"image.{name}": value for name, value in IMAGE.items()}
        bench = Bench(graph, **{"sensors": ["image"], "ground_frame": "wheels", "transform_timeout": 0.1, **given})
        bench.calibrate()
        bench.move(SECOND)
        bench.see(SECOND, *CAR)
        bench.graph.spin_until(lambda: bench.diagnostics.says("no transform=1"))
        assert not bench.heard
