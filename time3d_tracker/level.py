"""The level frame: where Time3D reasons about boxes.

Origin at the camera, x right, y straight down, z horizontally ahead: the optical frame with its pitch and roll taken
out. Boxes stand upright there, their heading is an angle `yaw` about y (0 looks along x, as KITTI's rotation_y), and
the camera is the 3 x 3 matrix `projection` = K R, with R the rotation of level to optical coordinates: pixels are
projection @ point, dehomogenised. A camera without known tilt is taken as level.
"""

from __future__ import annotations

import numpy as np

from camtrack_core.datasets.frames import Frame
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D, Floats
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.geometry.ground import height_over_ground

STEEPEST = np.sin(np.radians(80))  # a camera that looks straight down has no level frame
CORNER_SIGNS = np.array(
    [[x, y, z] for y in (1, -1) for x, z in ((1, 1), (1, -1), (-1, -1), (-1, 1))], np.float64
)  # of length, height and width: bottom corners first, each side from the front left one on


def level_pose(camera_pose: Pose) -> Pose:
    """Pose of the level frame in the fixed frame (z up), of a camera's pose there.

    Raises DataError for a camera that looks more than 80 degrees up or down.
    """
    ahead = camera_pose.rotation[:, 2]
    if abs(ahead[2]) > STEEPEST:
        raise DataError(f"expected a camera that looks ahead, got the optical axis {ahead.round(3)} in the fixed frame")
    z = np.array([ahead[0], ahead[1], 0.0]) / np.hypot(ahead[0], ahead[1])
    y = np.array([0.0, 0.0, -1.0])
    return Pose(np.stack([np.cross(y, z), y, z], 1), camera_pose.translation)


def upright_pose(camera_pose: Pose) -> Pose:
    """Pose in the optical frame of the upright frame: origin at the camera, x horizontally ahead, y left, z up.

    Args:
        camera_pose: in the fixed frame. Raises DataError as level_pose.
    """
    turn = camera_pose.rotation.T @ level_pose(camera_pose).rotation  # level to optical
    return Pose(turn @ UPRIGHT.rotation.T, np.zeros(3))


def projection(intrinsics: Floats, camera_pose: Pose) -> Floats:
    """(3, 3) pixels of level coordinates."""
    return intrinsics @ camera_pose.rotation.T @ level_pose(camera_pose).rotation


def camera_height(frame: Frame) -> float:
    """Height over the ground of the camera of a recording's frame, metres; 0 where unknown."""
    if frame.camera_height is not None:
        return frame.camera_height
    return 0.0 if frame.camera_pose is None else height_over_ground(frame.camera_pose, frame.ego_pose)


def to_level(boxes: Boxes3D, pose: Pose) -> tuple[Floats, Floats, Floats]:
    """Centre (N, 3), yaw (N,) and velocity (N, 3) in the level frame `pose` of boxes in the fixed frame."""
    into = pose.rotation.T
    heading = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw), np.zeros(len(boxes))], -1) @ into.T
    return (
        (boxes.centre - pose.translation) @ into.T,
        np.arctan2(-heading[:, 2], heading[:, 0]),
        boxes.velocity @ into.T,
    )


def from_level(centre: Floats, size: Floats, yaw: Floats, velocity: Floats, pose: Pose) -> Boxes3D:
    """The inverse: boxes in the fixed frame. `size` is (length, width, height), as there."""
    heading = np.stack([np.cos(yaw), np.zeros(len(yaw)), -np.sin(yaw)], -1) @ pose.rotation.T
    return Boxes3D(pose.apply(centre), size, np.arctan2(heading[:, 1], heading[:, 0]), velocity @ pose.rotation.T)


# Pose, in a frame with x ahead, y left and z up, of a level camera's optical frame, which is its level frame as well.
UPRIGHT = Pose(OPTICAL_IN_VEHICLE, np.zeros(3))


def corners(centre: Floats, size: Floats, yaw: Floats) -> Floats:
    """(N, 8, 3) corners in the level frame, in the order of CORNER_SIGNS."""
    local = CORNER_SIGNS * size[:, None, [0, 2, 1]] / 2
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x = cos * local[..., 0] + sin * local[..., 2]
    z = cos * local[..., 2] - sin * local[..., 0]
    return np.stack([x, local[..., 1], z], -1) + centre[:, None]


def motion(past: Pose, now: Pose) -> Floats:
    """(5,) motion of the camera from the level frame `past` to `now`: translation in the axes of `now`, metres, and
    sine and cosine of the turn about y."""
    turn = now.rotation.T @ past.rotation
    shift = now.rotation.T @ (now.translation - past.translation)
    return np.array([*shift, turn[0, 2], turn[0, 0]])
