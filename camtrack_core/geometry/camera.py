"""The pinhole camera: intrinsics, projection and the pose of a camera in a fixed frame.

Camera optical frame: x right, y down, z forward. Fixed frame: z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Floats

NEAR_PLANE = 0.1  # metres; points closer than this have no image


@dataclass(frozen=True)
class Camera:
    """An undistorted pinhole camera.

    Attributes:
        intrinsics: (3, 3) float, pixels.
        width, height: image size in pixels.
    """

    intrinsics: Floats
    width: int
    height: int

    def __post_init__(self) -> None:
        check_intrinsics(self.intrinsics)

    @classmethod
    def from_field_of_view(cls, width: int, height: int, horizontal_degrees: float) -> Camera:
        """A camera with square pixels and the principal point in the middle of the image."""
        focal = width / 2 / np.tan(np.radians(horizontal_degrees) / 2)
        return cls(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]), width, height)

    def project(self, points: Floats) -> Floats:
        """Image points (..., 2) in pixels of points (..., 3) in the optical frame; NaN behind the camera."""
        with np.errstate(divide="ignore", invalid="ignore"):
            image = points @ self.intrinsics.T
            pixels = image[..., :2] / image[..., 2:]
        pixels[points[..., 2] < NEAR_PLANE] = np.nan
        return pixels


def check_intrinsics(intrinsics: Floats) -> None:
    """Raises ConfigurationError for a matrix that is not a pinhole camera's."""
    k = np.asarray(intrinsics)
    if k.shape != (3, 3) or not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0 or k[2, 2] != 1:
        raise ConfigurationError(f"expected finite 3x3 intrinsics with positive focal lengths, got {k.tolist()}")


@dataclass(frozen=True)
class Pose:
    """A rigid transform: maps points of a child frame to its parent frame, p_parent = rotation p + translation.

    Attributes:
        rotation: (3, 3) float.
        translation: (3,) float, metres.
    """

    rotation: Floats
    translation: Floats

    def apply(self, points: Floats) -> Floats:
        return points @ self.rotation.T + self.translation

    def inverse(self) -> Pose:
        return Pose(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(self.rotation @ other.rotation, self.apply(other.translation))


# Columns: the optical axes (right, down, forward) in a vehicle frame with x forward, y left, z up.
OPTICAL_IN_VEHICLE = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
