"""Drawing tracks in space: boxes with a marked front on images, and a bird's-eye view with trails."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.drawing.image import colour
from camtrack_core.geometry.boxes import Boxes3D, Floats
from camtrack_core.geometry.camera import NEAR_PLANE, Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D

EDGES = tuple((i, (i + 1) % 4) for i in range(4)) + tuple((i + 4, (i + 1) % 4 + 4) for i in range(4))
EDGES += tuple((i, i + 4) for i in range(4))
FRONT = ((0, 5), (1, 4))  # a cross on the face that looks ahead
SHIFT = 4  # fractional bits of drawn coordinates
FARTHEST = 1e5  # pixels beyond which nothing is drawn

BACKGROUND, GRID, LABEL, OWN = (24, 24, 24), (52, 52, 52), (150, 150, 150), (235, 235, 235)  # BGR
RING = 10.0  # metres between two circles
TRUE = (110, 110, 110)
TRAIL_SECONDS = 4.0


def draw_tracks_3d(
    image: NDArray[np.uint8], tracks: Tracks3D, class_names: Sequence[str], camera: Camera, pose: Pose
) -> NDArray[np.uint8]:
    """Draws boxes with class and id into an image (H, W, 3) uint8 BGR, and returns it.

    Args:
        tracks: in a frame with z up.
        camera: that took the image.
        pose: of the tracks' frame in the camera's optical frame.
    """
    width = max(1, round(image.shape[1] / 700))
    size = max(0.32, image.shape[1] / 2200)
    corners = pose.apply(tracks.boxes.corners())
    far_first = np.argsort(-pose.apply(tracks.boxes.centre)[:, 2], kind="stable")
    for row in far_first.tolist():
        tint = colour(int(tracks.ids[row]))
        for start, end in (*EDGES, *FRONT):
            _draw_line(image, corners[row, start], corners[row, end], camera, tint, width)
        seen = corners[row][corners[row, :, 2] > NEAR_PLANE]
        pixels = camera.project(seen)
        if len(seen) and np.abs(pixels).max() < FARTHEST:
            x, y = np.round(pixels.min(0)).astype(int).tolist()
            text = f"{class_names[tracks.class_ids[row]]} {tracks.ids[row]}"
            cv2.putText(image, text, (x, max(y - 3, 9)), cv2.FONT_HERSHEY_SIMPLEX, size, tint, 1, cv2.LINE_AA)
    return image


def _draw_line(
    image: NDArray[np.uint8], a: Floats, b: Floats, camera: Camera, tint: tuple[int, int, int], width: int
) -> None:
    """The line from a to b, points of the optical frame, as far as it lies before the camera."""
    if a[2] < b[2]:
        a, b = b, a
    near = 2 * NEAR_PLANE
    if a[2] <= near:
        return
    if b[2] < near:
        b = a + (b - a) * (a[2] - near) / (a[2] - b[2])
    pixels = camera.project(np.stack([a, b]))
    if np.abs(pixels).max() < FARTHEST:
        start, end = ((round(x * 2**SHIFT), round(y * 2**SHIFT)) for x, y in pixels.tolist())
        cv2.line(image, start, end, tint, width, cv2.LINE_AA, SHIFT)


class BirdsEye:
    """A map seen from above, ahead is up, with the camera at its lower end; remembers where tracks have been.

    Args:
        size: (width, height) of the picture, pixels.
        reach: metres from the camera to the upper edge.
    """

    def __init__(self, size: tuple[int, int], reach: float) -> None:
        self._size, self._reach = size, reach
        self._scale = size[1] * 0.92 / reach
        self._trails: dict[int, deque[tuple[int, Floats]]] = {}

    def draw(
        self, time_ns: int, tracks: Tracks3D, class_names: Sequence[str], camera_pose: Pose, truth: Boxes3D | None
    ) -> NDArray[np.uint8]:
        """The picture (H, W, 3) uint8 BGR of tracks, trails and, grey, the true boxes, all in the fixed frame."""
        picture = np.full((self._size[1], self._size[0], 3), BACKGROUND, np.uint8)
        ahead = camera_pose.rotation[:2, 2] / max(float(np.linalg.norm(camera_pose.rotation[:2, 2])), 1e-6)
        self._into = np.array([[ahead[1], -ahead[0]], [-ahead[0], -ahead[1]]]) * self._scale
        self._origin = camera_pose.translation[:2]
        self._draw_rings(picture)
        if truth is not None:
            for outline in truth.corners()[:, :4, :2]:
                self._polyline(picture, outline, True, TRUE, 1)
        self._remember(time_ns, tracks)
        for row, identity in enumerate(tracks.ids.tolist()):
            tint = colour(identity)
            self._polyline(picture, np.array([place for _, place in self._trails[identity]]), False, tint, 1)
            outline = tracks.boxes.corners()[row, :4, :2]
            self._polyline(picture, outline, True, tint, 2)
            centre, front = tracks.boxes.centre[row, :2], outline[:2].mean(0)
            self._polyline(picture, np.stack([centre, front]), False, tint, 2)
            velocity = tracks.boxes.velocity[row, :2]
            if np.isfinite(velocity).all():
                self._polyline(picture, np.stack([centre, centre + velocity]), False, tint, 1)
            x, y = self._pixels(outline).max(0).astype(int).tolist()
            label = f"{class_names[tracks.class_ids[row]]} {identity}"
            cv2.putText(picture, label, (x + 3, y), cv2.FONT_HERSHEY_SIMPLEX, 0.32, tint, 1, cv2.LINE_AA)
        return picture

    def reset(self) -> None:
        self._trails.clear()

    def _remember(self, time_ns: int, tracks: Tracks3D) -> None:
        for identity, centre in zip(tracks.ids.tolist(), tracks.boxes.centre, strict=True):
            self._trails.setdefault(identity, deque()).append((time_ns, centre[:2].copy()))
        oldest = time_ns - round(TRAIL_SECONDS * 1e9)
        for identity in list(self._trails):
            trail = self._trails[identity]
            while trail and trail[0][0] < oldest:
                trail.popleft()
            if not trail:
                del self._trails[identity]

    def _draw_rings(self, picture: NDArray[np.uint8]) -> None:
        x, y = self._pixels(self._origin[None])[0].astype(int).tolist()
        for distance in np.arange(RING, 2 * self._reach, RING):
            cv2.circle(picture, (x, y), round(distance * self._scale), GRID, 1, cv2.LINE_AA)
            if distance <= self._reach:
                place = (x + 3, y - round(distance * self._scale) + 10)
                cv2.putText(picture, f"{distance:.0f} m", place, cv2.FONT_HERSHEY_SIMPLEX, 0.3, LABEL, 1, cv2.LINE_AA)
        cv2.drawMarker(picture, (x, y), OWN, cv2.MARKER_TRIANGLE_UP, 10, 2)

    def _pixels(self, places: Floats) -> Floats:
        """(N, 2) pixels of places (N, 2) of the fixed frame."""
        return (places - self._origin) @ self._into.T + [self._size[0] / 2, self._size[1] * 0.96]

    def _polyline(
        self, picture: NDArray[np.uint8], places: Floats, closed: bool, tint: tuple[int, int, int], width: int
    ) -> None:
        points = np.round(self._pixels(places) * 2**SHIFT).clip(-FARTHEST, FARTHEST).astype(np.int32)
        cv2.polylines(picture, [points], closed, tint, width, cv2.LINE_AA, SHIFT)
