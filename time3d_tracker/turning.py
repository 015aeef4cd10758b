"""Training pictures as a camera of another pitch and roll would have taken them: a homography, whatever they show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Pose
from camtrack_core.networks.letterbox import PADDING
from time3d_tracker.config import TrainingConfig

MIDDLES = ((0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1))  # of a box's sides: what fills the box touches it there
CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))
CENTRE = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # coordinates of a pixel's centre from its indices


@dataclass(frozen=True)
class Turn:
    """A rotation about the camera's centre, constant over a clip.

    Attributes:
        rotation: (3, 3) of the turned optical frame in the one that took the pictures.
    """

    rotation: Floats

    def pose(self, pose: Pose) -> Pose:
        """Of the turned camera."""
        return replace(pose, rotation=pose.rotation @ self.rotation)

    def homography(self, intrinsics: Floats) -> Floats:
        """(3, 3) pixels of the turned camera from those of the picture, both of these intrinsics (3, 3)."""
        return np.asarray(intrinsics @ self.rotation.T @ np.linalg.inv(intrinsics))

    def image(self, picture: NDArray[np.uint8], intrinsics: Floats) -> NDArray[np.uint8]:
        """The picture of the turned camera, of the same size; grey where nobody knows."""
        if np.array_equal(self.rotation, np.eye(3)):
            return picture
        matrix = np.linalg.inv(CENTRE) @ self.homography(intrinsics) @ CENTRE
        size = picture.shape[1], picture.shape[0]
        return np.asarray(cv2.warpPerspective(picture, matrix, size, borderValue=(PADDING,) * 3), np.uint8)

    def objects(self, xyxy: Floats, intrinsics: Floats) -> Floats:
        """(N, 4) boxes around objects that the boxes (N, 4) of the picture are around."""
        return self._around(xyxy, intrinsics, MIDDLES)

    def regions(self, xyxy: Floats, intrinsics: Floats) -> Floats:
        """(N, 4) boxes around all of the boxes (N, 4) of the picture."""
        return self._around(xyxy, intrinsics, CORNERS)

    def _around(self, xyxy: Floats, intrinsics: Floats, at: tuple[tuple[float, float], ...]) -> Floats:
        share = np.array(at)
        points = xyxy[:, None, :2] * (1 - share) + xyxy[:, None, 2:] * share
        turned = np.concatenate([points, np.ones((*points.shape[:2], 1))], -1) @ self.homography(intrinsics).T
        pixels = turned[..., :2] / turned[..., 2:]
        return np.concatenate([pixels.min(1), pixels.max(1)], -1).reshape(-1, 4)


def random_turn(rng: np.random.Generator, training: TrainingConfig) -> Turn:
    pitch, roll = np.radians(rng.normal(0, (training.turned_pitch, training.turned_roll)))
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return Turn(about_x @ about_z)
