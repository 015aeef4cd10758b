"""KITTI's object data set and oxts: real labels in the other layout, and trajectories that are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data_helpers import IMAGES
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from camtrack_core.datasets.frames import truth_of
from camtrack_core.datasets.kitti.oxts import read_oxts
from camtrack_core.datasets.kitti.rows import from_camera, to_camera
from camtrack_core.datasets.kitti.sequences import KittiSequence, camera_in_imu, read_calibration
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D, iou
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose

METRES_PER_DEGREE = 2 * np.pi * 6378137 / 360
LEVEL_CAMERA = Pose(OPTICAL_IN_VEHICLE, np.array([0.3, 0.1, 0.7]))  # in the inertial unit


def oxts_row(latitude: float, longitude: float, altitude: float, angles: tuple[float, float, float]) -> str:
    return " ".join(map(str, [latitude, longitude, altitude, *angles, *[0] * 24]))


def test_oxts_follow_a_known_drive(tmp_path: Path) -> None:
    """100 m to the north, 50 m to the east and 2 m up near Karlsruhe, with a turn to the left."""
    latitude, longitude = 49.0, 8.4
    north = latitude + 100 / METRES_PER_DEGREE
    east = longitude + 50 / (METRES_PER_DEGREE * np.cos(np.radians(latitude)))
    rows = [
        oxts_row(latitude, longitude, 110, (0, 0, np.pi / 2)),
        oxts_row(north, east, 112, (0.02, -0.03, np.pi)),
    ]
    (tmp_path / "0000.txt").write_text("\n".join(rows))
    first, second = read_oxts(tmp_path / "0000.txt", 2, Pose(np.eye(3) @ OPTICAL_IN_VEHICLE, np.zeros(3)))
    np.testing.assert_allclose(first.rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(first.translation, 0, atol=1e-9)
    # Ahead is north at first, so that east lies to the right.
    np.testing.assert_allclose(second.translation, [100, -50, 2], atol=0.01)
    expected = Rotation.from_euler("ZYX", [np.pi / 2, -0.03, 0.02]).as_matrix()
    np.testing.assert_allclose(second.rotation, expected, atol=1e-12)


@given(
    st.floats(-80, 80),
    st.floats(-179, 179),
    st.floats(-3, 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 2),
    st.integers(1, 4),
)
def test_a_standing_vehicle_stays_where_it_is(
    latitude: float, longitude: float, yaw: float, tilt: tuple[float, float], count: int
) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join([oxts_row(latitude, longitude, 5, (*tilt, yaw))] * count))
        file.flush()
        poses = read_oxts(Path(file.name), count, LEVEL_CAMERA)
    assert len(poses) == count
    for pose in poses:
        np.testing.assert_allclose(pose.translation, 0, atol=1e-6)
        np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-9)
        assert abs(pose.rotation[1, 0]) < 1e-9  # the first heading is the x axis
        ahead = Rotation.from_euler("ZYX", [yaw, tilt[1], tilt[0]]).as_matrix()[:, 0]
        assert pose.rotation[2, 0] == pytest.approx(ahead[2], abs=1e-9)  # the tilt stays


def test_oxts_of_a_real_calibration_place_the_boxes(kitti_copy: Path) -> None:
    """Standing still, the boxes lie where the labels say, seen from the camera; z is up."""
    shutil.rmtree(kitti_copy / "poses")
    (kitti_copy / "oxts").mkdir()
    (kitti_copy / "oxts/0001.txt").write_text("\n".join([oxts_row(49, 8.4, 110, (0, 0, 1.0))] * len(IMAGES)))
    camera = camera_in_imu(read_calibration(kitti_copy / "calib/0001.txt"), kitti_copy)
    assert 0.5 < camera.translation[0] < 1.5 and 0.5 < camera.translation[2] < 1.2  # ahead of and above the unit
    overlaps = []
    for frame in KittiSequence(kitti_copy, "0001"):
        assert frame.camera_pose is not None and frame.camera is not None
        assert frame.camera_pose.rotation[2, 1] < -0.99  # the image's down is down
        xyxy, _, seen = project_boxes(frame.boxes3d, frame.camera, frame.camera_pose)
        clear = seen & (frame.labels.visible == 1)
        overlaps += np.diag(iou(xyxy[clear], frame.labels.xyxy[clear])).tolist()
    assert len(overlaps) >= 3 and min(overlaps) > 0.9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3\n", "expected 30 numbers a row"),
        (oxts_row(49, 8, 1, (0, 0, 0)), "expected 3 rows of finite numbers and latitudes, got 1"),
        ("\n".join([oxts_row(90, 8, 1, (0, 0, 0))] * 3), "latitudes"),
        ("\n".join([oxts_row(float("nan"), 8, 1, (0, 0, 0))] * 3), "finite"),
    ],
)
def test_broken_oxts_are_named(kitti_copy: Path, text: str, words: str) -> None:
    shutil.rmtree(kitti_copy / "poses")
    (kitti_copy / "oxts").mkdir()
    (kitti_copy / "oxts/0001.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        KittiSequence(kitti_copy, "0001")
    calibration = kitti_copy / "calib/0001.txt"
    calibration.write_text("\n".join(line for line in calibration.read_text().splitlines() if "imu" not in line))
    with pytest.raises(DataError, match="expected a row Tr_imu_velo, which oxts need"):
        KittiSequence(kitti_copy, "0001")


@given(st.lists(st.tuples(*[st.floats(-50, 50)] * 3, *[st.floats(0.1, 9)] * 3, st.floats(-3.1, 3.1)), max_size=4))
def test_boxes_go_to_the_camera_and_back(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows).reshape(-1, 7)
    centre, size, turn = to_camera(from_camera(table[:, :3], table[:, 3:6], table[:, 6]))
    np.testing.assert_allclose(np.column_stack([centre, size, turn]), table, atol=1e-9)


# --- the object data set


@pytest.fixture
def images(kitti_copy: Path, tmp_path: Path) -> Path:
    """The three images as the object data set has them: without frames and ids, truncation as a fraction."""
    part = tmp_path / "object/training"
    for folder in ("image_2", "label_2", "calib"):
        (part / folder).mkdir(parents=True)
    for k in range(len(IMAGES)):
        shutil.copyfile(kitti_copy / f"image_02/0001/{k:06d}.jpg", part / f"image_2/{k:06d}.jpg")
        shutil.copyfile(kitti_copy / "calib/0001.txt", part / f"calib/{k:06d}.txt")
        rows = []
        for line in (kitti_copy / "label_02/0001.txt").read_text().splitlines():
            frame, _, kind, truncation, rest = line.split(" ", 4)
            share = {"0": "0.00", "1": "0.30", "2": "0.80"}.get(truncation, "-1")
            if int(frame) == k:
                rows.append(f"{'Person_sitting' if kind == 'Person' else kind} {share} {rest}")
        (part / f"label_2/{k:06d}.txt").write_text("\n".join(rows) + "\n")
    return tmp_path / "object"


def test_object_images_are_those_of_the_sequence_without_its_ids(images: Path, kitti_copy: Path) -> None:
    assert list_sources(str(images)) == [f"{images}?sequence=training"]
    found, expected = list(open_source(str(images))), list(KittiSequence(kitti_copy, "0001"))
    assert len(found) == len(expected) == 3
    ids = np.concatenate([frame.labels.ids for frame in found])
    assert len(set(ids.tolist())) == len(ids) > 10
    for frame, same in zip(found, expected, strict=True):
        np.testing.assert_array_equal(frame.image, same.image)
        np.testing.assert_allclose(frame.labels.xyxy, same.labels.xyxy)
        np.testing.assert_allclose(frame.labels.visible, same.labels.visible)
        np.testing.assert_array_equal(frame.labels.class_ids, same.labels.class_ids)
        np.testing.assert_allclose(frame.ignored, same.ignored)
        in_vehicle = same.ego_pose.inverse().apply(same.boxes3d.centre)
        assert isinstance(frame.boxes3d, Boxes3D) and frame.ego_pose is not None
        np.testing.assert_allclose(frame.boxes3d.centre, in_vehicle, atol=1e-9)
        np.testing.assert_allclose(frame.camera.intrinsics, same.camera.intrinsics)


def test_object_truth_needs_no_images_and_testing_no_labels(images: Path) -> None:
    shutil.copytree(images / "training", images / "testing", ignore=shutil.ignore_patterns("label_2"))
    assert len(list_sources(str(images))) == 2
    testing = list(open_source(f"{images}?sequence=testing"))
    assert len(testing) == 3 and all(f.labels is None and f.camera is not None for f in testing)
    shutil.rmtree(images / "training/image_2")
    training = open_source(f"{images}?sequence=training")
    assert sum(len(t.labels) for t in truth_of(training)) > 10
    with pytest.raises(DataError, match=r"lacks the image .*000000\.png"):
        next(iter(training))


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("label_2/000001.txt", "Car 0.0 0\n", r"15 or 16 fields in .*label_2/000001\.txt"),
        ("label_2/000001.txt", "Zeppelin" + " 1" * 14, "got 'Zeppelin'"),
        ("label_2/000001.txt", "Car 0 0 0 0 0 9 9 1 1 nan 0 0 9 0", "finite boxes in space"),
        ("calib/000002.txt", "P2: 1 2\n", r"calib/000002\.txt"),
        ("image_2/000001.jpg", "no image", r"000001\.jpg: expected a JPEG or PNG image"),
    ],
)
def test_broken_object_files_are_named(images: Path, file: str, text: str, words: str) -> None:
    (images / "training" / file).write_text(text)
    with pytest.raises(DataError, match=words):
        list(open_source(str(images)))
