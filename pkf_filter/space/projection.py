"""The image of an upright box in space as a camera's detector sees it, and how it changes with the box.

Measurement z = (x1, y1, x2, y2) in pixels: the extents of the projected corners, cut to the image. Each extent is one
corner's, so its derivative is that corner's; an extent cut off by the image's border does not change at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import NEAR_PLANE
from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.small_matrices import put_vector
from pkf_filter.space.models import HEIGHT, LENGTH, STATE_SIZE, WIDTH, YAW

SIDES = 4
MIN_VISIBLE = 0.3  # share of a box's image within the borders from which a detector can be expected to see it


@compiled
def project(
    states: Floats, intrinsics: Floats, rotation: Floats, translation: Floats, size: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Images of N boxes.

    Args:
        states: (N, 10), see `models`.
        intrinsics: (3, 3) pixels.
        rotation: (3, 3), translation: (3,), the camera's pose: maps points of its optical frame to the fixed frame.
        size: (2,) width and height of the image in pixels.

    Returns:
        sides (N, 4) in pixels, their Jacobian H (N, 4, 10), and (N,) whether the box is in view: all of it before
        the camera, and at least MIN_VISIBLE of it within the image. Sides and H of boxes not before it are 0.
    """
    N = len(states)
    sides = np.zeros((N, SIDES))
    H = np.zeros((N, SIDES, STATE_SIZE))
    in_view = np.zeros(N, np.bool_)
    pixel = np.empty(2)
    gradient = np.empty((2, STATE_SIZE))
    for j in range(N):
        whole = np.array([np.inf, np.inf, -np.inf, -np.inf])
        nearest = np.inf
        for corner in range(8):
            depth = _project_corner(states[j], corner, intrinsics, rotation, translation, pixel, gradient)
            nearest = min(nearest, depth)
            if depth < NEAR_PLANE:
                break
            for a in range(2):
                if pixel[a] < whole[a]:
                    whole[a] = pixel[a]
                    put_vector(H[j, a], gradient[a])
                if pixel[a] > whole[2 + a]:
                    whole[2 + a] = pixel[a]
                    put_vector(H[j, 2 + a], gradient[a])
        if nearest < NEAR_PLANE:
            H[j] = 0.0
            continue
        for side in range(SIDES):
            sides[j, side] = min(max(whole[side], 0.0), size[side % 2])
            if sides[j, side] != whole[side]:
                H[j, side] = 0.0
        shown = (sides[j, 2] - sides[j, 0]) * (sides[j, 3] - sides[j, 1])
        in_view[j] = shown >= MIN_VISIBLE * (whole[2] - whole[0]) * (whole[3] - whole[1])
    return sides, H, in_view


@compiled
def _project_corner(
    state: Floats,
    corner: int,
    intrinsics: Floats,
    rotation: Floats,
    translation: Floats,
    pixel: Floats,
    gradient: Floats,
) -> float:
    """Write the image (2,) of one of eight corners and its derivative (2, 10); returns the corner's depth in metres."""
    along = 0.5 if corner & 1 else -0.5
    across = 0.5 if corner & 2 else -0.5
    above = 0.5 if corner & 4 else -0.5
    cos, sin = np.cos(state[YAW]), np.sin(state[YAW])
    length, width = along * state[LENGTH], across * state[WIDTH]
    dx, dy, dz = cos * length - sin * width, sin * length + cos * width, above * state[HEIGHT]

    change = np.zeros((3, STATE_SIZE))  # of the corner in the fixed frame
    change[0, 0] = change[1, 1] = change[2, 2] = 1.0
    change[0, YAW], change[1, YAW] = -dy, dx
    change[0, LENGTH], change[1, LENGTH] = along * cos, along * sin
    change[0, WIDTH], change[1, WIDTH] = -across * sin, across * cos
    change[2, HEIGHT] = above

    in_camera = np.zeros(3)
    image = np.zeros(3)
    projection = np.zeros((3, 3))  # from the fixed frame to homogeneous pixels
    for a in range(3):
        in_camera[a] = (
            rotation[0, a] * (state[0] + dx - translation[0])
            + rotation[1, a] * (state[1] + dy - translation[1])
            + rotation[2, a] * (state[2] + dz - translation[2])
        )
    for a in range(3):
        for b in range(3):
            image[a] += intrinsics[a, b] * in_camera[b]
            for c in range(3):
                projection[a, c] += intrinsics[a, b] * rotation[c, b]
    for a in range(2):
        pixel[a] = image[a] / image[2]
        for i in range(STATE_SIZE):
            gradient[a, i] = 0.0
            for c in range(3):
                gradient[a, i] += (projection[a, c] - pixel[a] * projection[2, c]) / image[2] * change[c, i]
    return float(in_camera[2])
