"""Places of 2D boxes on flat ground: the plainest way into space, and what a network has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Pose

LEAST_SLOPE = 0.01  # of a ray that meets the ground; a flatter one does so anywhere
HALF_LENGTH = 1.0  # metres from a vehicle's nearest side to its centre, along the line of sight, over all headings
HALF_DEPTHS = {"pedestrian": 0.3, "cyclist": 0.6, "bicycle": 0.6, "motorcycle": 0.6}  # of other classes


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
