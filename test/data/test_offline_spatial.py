"""Time3D offline: true boxes survive the way to a file and score one; the tracker's own results are what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack.offline.methods import Engine, Run, ids_of, moved
from camtrack.offline.run import track_sources
from camtrack_core.datasets.kitti import sequences as kitti
from camtrack_core.datasets.kitti.rows import read_objects
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.nuscenes import CLASS_NAMES, NuScenesSequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.evaluation.kitti.kitti3d import UNROUNDED, score_tracks_3d
from camtrack_core.evaluation.nuscenes.submission import read_submission
from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.geometry.tracks import Tracks3D
from time3d_tracker.model import Time3DModel
from time3d_tracker.tracker import Result, Tracker

UPRIGHT = Pose(OPTICAL_IN_VEHICLE.T, np.zeros(3))  # of a level camera


class Written(Engine):
    """An engine whose model only knows names."""

    def __init__(self, run: Run, class_names: tuple[str, ...]) -> None:
        self._run, self.seconds, self.class_names = run, [], class_names


def a_result(ids: np.ndarray, boxes: Boxes3D, class_ids: np.ndarray, upright: Pose, xyxy: np.ndarray) -> Result:
    n = len(ids)
    tracks = Tracks3D(ids, boxes, np.zeros((n, 4, 4)), np.full(n, 0.9), class_ids, np.zeros(n))
    detections = Detections3D(boxes, tracks.scores, class_ids)
    return Result(tracks, xyxy, upright, detections, xyxy, np.ones(len(xyxy)), left_out=0)


def test_moved_boxes_keep_their_corners() -> None:
    rng = np.random.default_rng(0)
    boxes = Boxes3D(
        rng.normal(size=(5, 3)) * 9, rng.uniform(1, 4, (5, 3)), rng.uniform(-3, 3, 5), rng.normal(size=(5, 3))
    )
    angle = 2.2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose = Pose(turn, np.array([3.0, -4, 1]))
    np.testing.assert_allclose(moved(boxes, pose).corners(), pose.apply(boxes.corners()), atol=1e-9)
    np.testing.assert_allclose(moved(boxes, pose).velocity, boxes.velocity @ turn.T)


def test_true_boxes_written_as_kitti_text_score_one(data_root: Path, tmp_path: Path) -> None:
    """The labels of a sequence, seen from the left colour camera, through the writer and back."""
    source = f"{data_root / 'kitti_tracking'}?sequence=0012"
    sequence = open_source(source)
    assert isinstance(sequence, KittiSequence) and sequence.objects is not None
    mounting, frames = sequence.mounting(), []
    assert mounting is not None and abs(mounting.translation[1]) == pytest.approx(0.06, abs=0.01)
    objects = sequence.objects[np.isin(sequence.objects.kinds, ["Car", "Truck"])]
    for number in range(len(sequence)):
        rows = objects[objects.frames == number]
        inside = moved(rows.boxes, (mounting @ UPRIGHT).inverse())
        class_ids = np.where(rows.kinds == "Car", 0, 1)
        frames.append(a_result(rows.ids, inside, class_ids, UPRIGHT, rows.xyxy))
    Written(Run("time3d", Path("x")), ("car", "truck")).write(tmp_path / "0012.txt", sequence, frames)
    found, expected = read_objects(tmp_path / "0012.txt"), objects
    np.testing.assert_allclose(found.boxes.centre, expected.boxes.centre, atol=1e-3)
    np.testing.assert_allclose(np.cos(found.boxes.yaw - expected.boxes.yaw), 1, atol=1e-6)
    assert found.kinds.tolist() == expected.kinds.tolist()
    assert evaluate_tracks(tmp_path / "0012.txt", [source], Rules()).combined.mota == 1
    spatial = score_tracks_3d({"0012": sequence.objects}, {"0012": found}, slack=UNROUNDED)
    assert spatial.mota == 1 and spatial.motp > 0.99


def test_true_boxes_written_as_a_submission_are_the_annotations(data_root: Path, tmp_path: Path) -> None:
    sequence = open_source(str(data_root / "nuscenes"))
    assert isinstance(sequence, NuScenesSequence)
    names, frames, truth = CLASS_NAMES, [], list(sequence.truth())
    for key, one in zip(sequence.keys(), truth, strict=True):
        assert key is not None and one.boxes3d is not None and one.labels is not None
        inside = moved(one.boxes3d, (key[1] @ UPRIGHT).inverse())
        assert (inside.centre[:, 0] > 0).all()  # ahead of the camera
        frames.append(a_result(one.labels.ids, inside, one.labels.class_ids, UPRIGHT, one.labels.xyxy))
    run = Run("time3d", Path("x"))
    assert run.suffix(sequence) == ".json"
    Written(run, names).write(tmp_path / "s.json", sequence, frames)
    found = read_submission(tmp_path / "s.json")
    assert len(found) == 40
    for key, one in zip(sequence.keys(), truth, strict=True):
        assert key is not None and one.boxes3d is not None and one.labels is not None
        boxes = found[key[0]].boxes
        np.testing.assert_allclose(boxes.centre, one.boxes3d.centre, atol=1e-3)
        np.testing.assert_allclose(boxes.size, one.boxes3d.size, atol=1e-4)
        assert found[key[0]].names.tolist() == [names[i] for i in one.labels.class_ids]


def test_what_the_tracker_says_is_written(kitti_copy: Path, tmp_path: Path, graph: Path) -> None:
    run = Run("time3d", graph, "onnxruntime")
    source = f"{kitti_copy}?sequence=0001"
    (result,) = track_sources([source], tmp_path / "out", run, 1, lambda done, expected: None)
    assert result.error == "" and result.frames == 3
    tracker, rows, ids = Tracker(Time3DModel(graph, "onnxruntime", 1)), 0, []
    written = read_objects(tmp_path / "out/0001.txt")
    for number, frame in enumerate(open_source(source)):
        assert frame.camera is not None
        expected = tracker.step(
            frame.image, frame.time_ns, frame.camera.intrinsics, frame.camera_pose, kitti.CAMERA_HEIGHT
        )
        now = written[written.frames == number]
        assert now.ids.tolist() == ids_of(expected)
        np.testing.assert_allclose(now.xyxy, expected.xyxy, atol=1e-3)
        distance = np.linalg.norm(now.boxes.centre - np.array([0, 0.06, 0]), axis=1)  # the left camera's place
        np.testing.assert_allclose(distance, np.linalg.norm(expected.tracks.boxes.centre, axis=1), rtol=0.02, atol=0.02)
        rows, ids = rows + len(now), ids + ids_of(expected)
    assert rows == len(written) > 0 and result.tracks == len(set(ids))
    assert evaluate_tracks(tmp_path / "out", [source], Rules()).combined.frames == 3


def test_scenes_and_recordings_without_a_camera(data_root: Path, tmp_path: Path, graph: Path) -> None:
    run = Run("time3d", graph, "onnxruntime")
    sources = [str(data_root / "nuscenes"), str(data_root / "videos/highway_a.mp4")]
    scene, video = track_sources(sources, tmp_path / "out", run, 1, lambda done, expected: None)
    assert scene.error == "" and scene.frames == 40
    assert "expected a recording with a calibrated camera" in video.error
    data = json.loads((tmp_path / "out/scene-0103-CAM_FRONT.json").read_text())
    assert len(data["results"]) == 40 and data["meta"]["use_camera"] and not data["meta"]["use_lidar"]
    (wrong,) = track_sources(sources[:1], tmp_path / "x.txt", run, 1, lambda done, expected: None)
    assert "expected a file x.json for these tracks" in wrong.error
