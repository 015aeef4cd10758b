"""Overlap of upright 3D boxes: intersection over union of volumes."""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.boxes import Boxes3D, Floats

TOUCHING = 1e-9  # metres; corners this close to a side count as inside
PARALLEL = 1e-9  # sine of the angle between sides that do not cross


def iou_3d(a: Boxes3D, b: Boxes3D) -> Floats:
    """(N, M) intersection over union of the volumes of boxes a (N) and b (M) in one frame; 0 where they are apart."""
    overlap = np.zeros((len(a), len(b)))
    height = _shared_height(a, b)
    reach = (np.hypot(a.size[:, 0], a.size[:, 1])[:, None] + np.hypot(b.size[:, 0], b.size[:, 1])) / 2
    distance = np.linalg.norm(a.centre[:, None, :2] - b.centre[:, :2], axis=-1)
    i, j = np.nonzero((height > 0) & (distance < reach))
    overlap[i, j] = ground_intersection(a[i], b[j]) * height[i, j]
    union = a.size.prod(1)[:, None] + b.size.prod(1) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def ground_intersection(a: Boxes3D, b: Boxes3D) -> Floats:
    """(N,) area in square metres that the outlines of a[i] and b[i] share, seen from above.

    The shared region is convex. Its corners are corners of one box inside the other, or crossings of their sides.
    """
    centre = a.centre[:, :2]
    outline_a, outline_b = (box.corners()[:, :4, :2] - centre[:, None] for box in (a, b))
    crossings, crossed = _crossings(outline_a, outline_b)
    points = np.concatenate([outline_a, outline_b, crossings], 1)
    corner = np.concatenate([_inside(outline_a, b, centre), _inside(outline_b, a, centre), crossed], 1)
    return _convex_area(points, corner)


def _shared_height(a: Boxes3D, b: Boxes3D) -> Floats:
    low = np.maximum((a.centre - a.size / 2)[:, None, 2], (b.centre - b.size / 2)[:, 2])
    high = np.minimum((a.centre + a.size / 2)[:, None, 2], (b.centre + b.size / 2)[:, 2])
    return np.clip(high - low, 0, None)


def _inside(points: Floats, box: Boxes3D, origin: Floats) -> np.ndarray:
    """(N, 4) whether points (N, 4, 2), relative to origins (N, 2), lie within the outline of their box."""
    offset = points + (origin - box.centre[:, :2])[:, None]
    cos, sin = np.cos(box.yaw)[:, None], np.sin(box.yaw)[:, None]
    along = np.abs(cos * offset[..., 0] + sin * offset[..., 1])
    across = np.abs(cos * offset[..., 1] - sin * offset[..., 0])
    half = box.size[:, None, :2] / 2 + TOUCHING
    return (along <= half[..., 0]) & (across <= half[..., 1])


def _crossings(a: Floats, b: Floats) -> tuple[Floats, np.ndarray]:
    """Crossings (N, 16, 2) of the sides of quadrilaterals (N, 4, 2), and which of them exist (N, 16)."""
    start_a, start_b = a[:, :, None], b[:, None]
    side_a = np.roll(a, -1, 1)[:, :, None] - start_a
    side_b = np.roll(b, -1, 1)[:, None] - start_b
    gap = start_b - start_a
    denominator = _cross(side_a, side_b)
    # Where sides lie on one line, rounding alone would say where they cross: their ends are inside, and that is enough.
    lengths = np.linalg.norm(side_a, axis=-1) * np.linalg.norm(side_b, axis=-1)
    parallel = np.abs(denominator) <= PARALLEL * lengths
    denominator = np.where(parallel, 1.0, denominator)
    s, t = _cross(gap, side_b) / denominator, _cross(gap, side_a) / denominator
    crossed = ~parallel & (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    points = start_a + s[..., None] * side_a
    return points.reshape(len(a), 16, 2), crossed.reshape(len(a), 16)


def _convex_area(points: Floats, corner: np.ndarray) -> Floats:
    """(N,) areas of the convex polygons whose corners are the marked ones of points (N, P, 2), in any order."""
    count = corner.sum(1)
    middle = (points * corner[..., None]).sum(1) / np.maximum(count, 1)[:, None]
    spokes = points - middle[:, None]
    order = np.argsort(np.where(corner, np.arctan2(spokes[..., 1], spokes[..., 0]), np.inf), axis=1)
    spokes = np.take_along_axis(spokes, order[..., None], 1)
    marked = np.take_along_axis(corner, order, 1)
    spokes = np.where(marked[..., None], spokes, spokes[:, :1])  # the rest repeats the first corner: no area
    return np.where(count >= 3, _cross(spokes, np.roll(spokes, -1, 1)).sum(1) / 2, 0.0)


def _cross(a: Floats, b: Floats) -> Floats:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
