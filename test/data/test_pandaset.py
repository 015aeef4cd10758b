"""PandaSet's room: what it gives agrees with the file's own numbers and with the images' geometry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from camtrack_core.datasets.frames import truth_of
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.errors import DataError


@pytest.fixture
def root(data_root: Path) -> Path:
    folder = data_root / "pandaset"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def test_every_camera_is_a_source_and_frames_can_be_chosen(root: Path) -> None:
    assert len(list_sources(str(root))) == 6
    assert len(open_source(f"{root}?camera=back_camera")) == 80
    assert len(open_source(f"{root}?camera=front_camera&frames=50-59")) == 10


def test_boxes_project_onto_the_stated_2d_boxes(root: Path) -> None:
    """Centres, sizes, poses and intrinsics are one consistent whole: hulls of projected boxes are the file's boxes."""
    errors = []
    for frame in open_source(f"{root}?camera=back_camera&frames=0-19"):
        corners = frame.camera_pose.inverse().apply(frame.boxes3d.corners())
        whole = np.flatnonzero((corners[..., 2] > 1).all(1))
        pixels = frame.camera.project(corners[whole])
        hull = np.clip(np.concatenate([pixels.min(1), pixels.max(1)], 1), 0, [1280, 720, 1280, 720])
        errors.append(np.abs(hull - frame.labels.xyxy[whole]).max(1))
    errors = np.concatenate(errors)
    assert len(errors) > 200
    assert np.median(errors) < 1.5 and np.percentile(errors, 90) < 4


def test_what_stands_still_stays_in_the_fixed_frame(root: Path) -> None:
    """Poses and ids hold over time and over cameras: parked cars lie at one place wherever they are seen from."""
    places: dict[int, list[np.ndarray]] = {}
    for camera in ("front_camera", "left_camera", "back_camera"):
        for truth in truth_of(open_source(f"{root}?camera={camera}")):
            for row in np.flatnonzero(truth.attributes == "vehicle.parked"):
                places.setdefault(int(truth.labels.ids[row]), []).append(truth.boxes3d.centre[row])
    spans = [np.ptp(np.array(where), axis=0).max() for where in places.values() if len(where) > 20]
    assert len(spans) > 10
    assert np.median(spans) < 0.5


def test_lidar_sees_the_sides_of_cars_where_boxes_say(root: Path) -> None:
    sequence = open_source(f"{root}?camera=back_camera&frames=10-10")
    (frame,) = sequence
    depth = sequence.sparse_depth(0)
    optical = frame.camera_pose.inverse().apply(frame.boxes3d.centre)
    checked = 0
    for row in np.flatnonzero((frame.lidar_points > 100) & (frame.labels.visible > 0.9)):
        x1, y1, x2, y2 = frame.labels.xyxy[row]
        beside = np.abs(depth[:, :2] - [(x1 + x2) / 2, (y1 + y2) / 2]) < np.array([x2 - x1, y2 - y1]) / 6
        inside = beside.all(1)
        if inside.sum() >= 3:
            checked += 1
            assert abs(np.median(depth[inside, 2]) - optical[row, 2]) < frame.boxes3d.size[row, :2].max() / 2 + 0.5
    assert checked >= 2


def test_the_camera_is_as_high_as_the_cars_lower_sides_tell(root: Path) -> None:
    heights = {x: next(iter(open_source(f"{root}?camera={x}"))).camera_height for x in ("back_camera", "left_camera")}
    assert all(1.5 < height < 2.2 for height in heights.values()), heights


@pytest.mark.parametrize("broken", ["{", '{"images": [{}], "calibration": {}}', '{"images": 3, "calibration": {}}'])
def test_broken_labels_are_told_by_name(tmp_path: Path, broken: str) -> None:
    (tmp_path / "images" / "front_camera").mkdir(parents=True)
    (tmp_path / "labels.json").write_text(broken)
    with pytest.raises(DataError, match=r"labels\.json"):
        open_source(f"{tmp_path}?camera=front_camera")


def test_a_broken_object_is_told_with_its_image(tmp_path: Path) -> None:
    (tmp_path / "images" / "front_camera").mkdir(parents=True)
    k = {"fx": 100, "fy": 100, "cx": 64, "cy": 32, "width": 128, "height": 64}
    pose = {"position": {"x": 0, "y": 0, "z": 2}, "heading": {"w": 1, "x": 0, "y": 0, "z": 0}}
    row = {"file": "front_camera/00.jpg", "camera": "front_camera", "frame": 0, "timestamp": 1.0,
           "pose_world_from_cam": pose, "objects": [{"track": "a", "class": "Bus"}]}  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps({"calibration": {"front_camera": k}, "images": [row]}))
    with pytest.raises(DataError, match=r"front_camera/00\.jpg"):
        list(truth_of(open_source(f"{tmp_path}?camera=front_camera")))
