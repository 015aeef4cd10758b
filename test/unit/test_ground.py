"""Boxes on flat ground: what stands there is found again through any camera."""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.geometry.ground import HALF_LENGTH, on_ground


def test_a_point_on_the_ground_is_found_through_a_tilted_camera() -> None:
    pitch, roll = np.radians([5, 2])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    pose = Pose(OPTICAL_IN_VEHICLE @ about_x @ about_z, np.array([5.0, 1.0, 1.7]))
    camera = Camera.from_field_of_view(1280, 720, 80)
    feet = np.array([[15.0, 3.0, 0.0], [40.0, -5.0, 0.0], [25.0, 0.0, 0.0]])
    u, v = camera.project(pose.inverse().apply(feet)).T
    names = np.array(["car", "car", "pedestrian"])
    place = on_ground(np.stack([u - 20, v - 30, u + 20, v], -1), names, camera.intrinsics, pose, 1.7)
    expected = np.stack([1.0 - feet[:, 1], feet[:, 0] - 5.0], -1)
    distance = np.linalg.norm(expected, axis=1)
    behind = np.array([HALF_LENGTH, HALF_LENGTH, 0.3])
    np.testing.assert_allclose(place, expected * (1 + behind / distance)[:, None], atol=1e-6)


def test_boxes_that_reach_no_ground_have_no_place() -> None:
    camera, pose = Camera.from_field_of_view(1280, 720, 80), Pose(OPTICAL_IN_VEHICLE, np.zeros(3))
    boxes = np.array([[600.0, 300, 640, 350], [600, 300, 640, 361], [600, 300, 640, 500]])
    place = on_ground(boxes, np.array(["car"] * 3), camera.intrinsics, pose, 1.5)
    assert np.isnan(place).all(1).tolist() == [True, True, False]
