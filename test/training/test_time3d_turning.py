"""Turned training pictures: they show what a camera of that pitch and roll would have seen."""

from __future__ import annotations

import numpy as np
import pytest

from camtrack_core.geometry.boxes import Boxes3D, iou
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.networks.letterbox import PADDING
from time3d_tracker import level
from time3d_tracker.config import TrainingConfig
from time3d_tracker.turning import Turn, random_turn

CAMERA = Camera.from_field_of_view(320, 180, 70)
POSE = Pose(OPTICAL_IN_VEHICLE, np.array([3.0, 1.0, 1.5]))
POINTS = np.array([[13.0, 2, 1], [23, -4, 2], [33, 3, 0], [18, 1, 3]])  # in the fixed frame
BOXES = Boxes3D(np.array([[20.0, 2, 0.8], [30, -6, 1.6]]), np.array([[4.5, 1.8, 1.6], [8, 2.5, 3.2]]),
                np.array([0.4, -1.0]), np.zeros((2, 3)))  # fmt: skip


def turned_by(pitch: float, roll: float) -> Turn:
    """Degrees up and clockwise about the view."""
    a, b = np.radians([pitch, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return Turn(about_x @ about_z)


def pixels(points: np.ndarray, pose: Pose) -> np.ndarray:
    return CAMERA.project(pose.inverse().apply(points))


def outlines(boxes: Boxes3D, pose: Pose) -> np.ndarray:
    found = pixels(boxes.corners(), pose)
    return np.concatenate([found.min(1), found.max(1)], 1)


@pytest.mark.parametrize(("pitch", "roll"), [(2.0, 0.0), (0.0, 3.0), (-1.5, -2.0)])
def test_what_stands_in_space_is_where_the_turned_pose_sees_it(pitch: float, roll: float) -> None:
    """Spots that are painted at projected points are found, in the turned picture, at those of the turned pose."""
    turn = turned_by(pitch, roll)
    for point, spot in zip(POINTS, pixels(POINTS, POSE), strict=True):
        picture = np.full((180, 320, 3), PADDING, np.uint8)
        x, y = np.floor(spot).astype(int)
        picture[y - 1 : y + 2, x - 1 : x + 2] = 255
        bright = turn.image(picture, CAMERA.intrinsics)[..., 0].astype(float) - PADDING
        rows, columns = np.mgrid[:180, :320] + 0.5
        middle = np.array([(bright * columns).sum(), (bright * rows).sum()]) / bright.sum()
        off = np.floor(spot) + 0.5 - spot  # the painted pixel's centre is not the point itself
        np.testing.assert_allclose(middle - off, pixels(point[None], turn.pose(POSE))[0], atol=0.15)


def test_places_in_the_level_frame_do_not_change() -> None:
    """It takes pitch and roll out: the same street, from the same place."""
    before = level.to_level(BOXES, level.level_pose(POSE))[0]
    after = level.to_level(BOXES, level.level_pose(turned_by(2.0, -3.0).pose(POSE)))[0]
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_boxes_go_along() -> None:
    turn = turned_by(-1.0, 2.0)
    moved = turn.objects(outlines(BOXES, POSE), CAMERA.intrinsics)
    true = outlines(BOXES, turn.pose(POSE))
    assert (np.diag(iou(moved, true)) > 0.9).all()
    assert (np.diag(iou(outlines(BOXES, POSE), true)) < 0.8).any()
    around = turn.regions(outlines(BOXES, POSE), CAMERA.intrinsics)
    assert (around[:, :2] <= moved[:, :2] + 1e-9).all() and (around[:, 2:] >= moved[:, 2:] - 1e-9).all()
    assert turn.objects(np.zeros((0, 4)), CAMERA.intrinsics).shape == (0, 4)


def test_no_turn_leaves_everything_as_it_is() -> None:
    training = TrainingConfig(turned_pitch=0, turned_roll=0)
    turn = random_turn(np.random.default_rng(0), training)
    picture = np.random.default_rng(1).integers(0, 255, (18, 32, 3), np.uint8)
    assert turn.image(picture, CAMERA.intrinsics) is picture
    np.testing.assert_allclose(turn.objects(outlines(BOXES, POSE), CAMERA.intrinsics), outlines(BOXES, POSE))


def test_turns_are_as_wide_as_is_said() -> None:
    rng = np.random.default_rng(0)
    training = TrainingConfig(turned_pitch=1.5, turned_roll=1.0)
    ahead = np.array([random_turn(rng, training).rotation for _ in range(2000)])
    pitch, roll = np.degrees(np.arcsin(-ahead[:, 1, 2])), np.degrees(np.arcsin(ahead[:, 1, 0]))
    assert np.std(pitch) == pytest.approx(1.5, rel=0.1) and np.std(roll) == pytest.approx(1.0, rel=0.1)
