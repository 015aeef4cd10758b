"""Boxes in space as boxes in an image: what data sets label in space only is projected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Boxes3D, Floats, area, clip
from camtrack_core.geometry.camera import NEAR_PLANE, Camera, Pose

# Pairs of the eight corners of Boxes3D.corners that an edge joins.
EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)])


def project_boxes(boxes: Boxes3D, camera: Camera, camera_pose: Pose) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The boxes around the images of boxes in the fixed frame; parts behind the camera are cut off.

    Args:
        boxes: N boxes in the fixed frame, z up.
        camera: intrinsics and image size.
        camera_pose: of the optical frame in the fixed frame.

    Returns:
        (N, 4) boxes clipped to the image in pixels, (N,) the share of each that the image shows, and (N,) whether
        it shows anything of them; the first two are 0 where it does not.
    """
    corners = camera_pose.inverse().apply(boxes.corners())
    whole, seen = np.zeros((len(boxes), 4)), np.zeros(len(boxes), bool)
    for row, box in enumerate(corners):
        points = _in_front(box)
        if len(points):
            pixels = camera.project(points)
            whole[row] = *pixels.min(0), *pixels.max(0)
            seen[row] = True
    xyxy = clip(whole, camera.width, camera.height)
    inside = np.divide(area(xyxy), area(whole), out=np.zeros(len(boxes)), where=area(whole) > 0)
    return xyxy, inside, seen & (area(xyxy) > 0)


def _in_front(corners: Floats) -> Floats:
    """(K, 3) the corners (8, 3) before the near plane and where the edges pierce it."""
    start, end = corners[EDGES[:, 0]], corners[EDGES[:, 1]]
    crossing = (start[:, 2] < NEAR_PLANE) != (end[:, 2] < NEAR_PLANE)
    start, end = start[crossing], end[crossing]
    share = (NEAR_PLANE - start[:, 2]) / (end[:, 2] - start[:, 2])
    cuts = start + share[:, None] * (end - start)
    cuts[:, 2] = NEAR_PLANE  # not a rounding error before it
    return np.concatenate([corners[corners[:, 2] >= NEAR_PLANE], cuts])
