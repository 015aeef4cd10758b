"""Places of 2D boxes on flat ground, and how well they are known: the plainest way into space.

One ground model for boxes that are set on the ground alone and for those that start tracks of the filter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Pose

LEAST_HEIGHT = 0.5  # metres over ground; a vehicle frame that is closer to the camera does not lie on the ground
LEAST_SLOPE = 0.01  # of a ray that meets the ground; a flatter one does so anywhere
LEAST_SHARE = 0.04  # of the distance: kerbs, cambers and loose boxes
SIZES = {
    "car": (4.5, 1.85, 1.6), "van": (5.2, 2.0, 2.1), "truck": (7.5, 2.5, 3.0), "bus": (11.0, 2.8, 3.3),
    "pedestrian": (0.7, 0.7, 1.75), "cyclist": (1.8, 0.7, 1.7), "bicycle": (1.8, 0.7, 1.4),
    "motorcycle": (2.1, 0.8, 1.5),
}  # fmt: skip
USUAL_SIZE = SIZES["car"]  # of other classes
HALF_LENGTH = 1.0  # metres from a vehicle's nearest side to its centre, along the line of sight, over all headings
HALF_DEPTHS = {"pedestrian": 0.3, "cyclist": 0.6, "bicycle": 0.6, "motorcycle": 0.6}  # of other classes


def height_over_ground(camera_pose: Pose, ego_pose: Pose | None) -> float:
    """Height of a camera over the ground, metres: over the origin of the vehicle frame, which lies on the ground (as
    Autoware's base_link and the ego frame of nuScenes do). 0 where the vehicle's pose is unknown or so close below
    the camera that it does not lie on the ground."""
    height = 0.0 if ego_pose is None else float(camera_pose.translation[2] - ego_pose.translation[2])
    return height if height >= LEAST_HEIGHT else 0.0


def on_ground(
    xyxy: Floats, class_names: NDArray[np.str_], intrinsics: Floats, camera_pose: Pose, height: float
) -> Floats:
    """(N, 2) metres to the right and ahead of the camera of objects that stand on the ground.

    The middle of a box's lower edge is where the ray meets the ground; the object's centre is half its depth behind.

    Args:
        xyxy: (N, 4) pixels of the original image; class_names (N,) of them.
        intrinsics: (3, 3) pixels.
        camera_pose: of the optical frame in a frame with z up and level ground.
        height: of the camera over the ground, metres.

    Returns:
        NaN where the lower edge is not well below the horizon.
    """
    foot = np.stack([(xyxy[:, 0] + xyxy[:, 2]) / 2, xyxy[:, 3], np.ones(len(xyxy))], -1)
    ray = foot @ np.linalg.inv(intrinsics).T @ camera_pose.rotation.T
    ahead = camera_pose.rotation[:2, 2] / np.hypot(*camera_pose.rotation[:2, 2])
    along = ray[:, :2] @ ahead
    across = ray[:, :2] @ [ahead[1], -ahead[0]]
    meets = (along > 0) & (-ray[:, 2] > LEAST_SLOPE * along)
    scale = height / np.where(meets, -ray[:, 2], np.nan)
    place = np.stack([across, along], -1) * scale[:, None]
    distance = np.linalg.norm(place, axis=1)
    behind = np.array([HALF_DEPTHS.get(str(name), HALF_LENGTH) for name in class_names]).reshape(-1)
    return np.asarray(place * (1 + behind / distance)[:, None])


def place_deviation(distance: Floats, height: float, pitch_deviation: float) -> Floats:
    """(N,) metres along the line of sight, of places on the ground.

    Args:
        distance: (N,) metres from the camera; height: of it over the ground, metres.
        pitch_deviation: of the camera's pitch over the ground, radians: it moves what is far by the square of the
            distance.
    """
    return np.asarray(distance * np.hypot(LEAST_SHARE, pitch_deviation * distance / height))


def usual_sizes(class_names: NDArray[np.str_]) -> Floats:
    """(N, 3) length, width and height of usual objects of these classes, metres."""
    return np.array([SIZES.get(str(name), USUAL_SIZE) for name in class_names]).reshape(-1, 3)
