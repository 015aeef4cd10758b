"""The camera that a CameraInfo message tells of."""

from __future__ import annotations

from typing import Any

import numpy as np

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.camera import Camera


def read_camera(message: Any, rectified: bool) -> Camera:
    """The pinhole camera of a CameraInfo message; its distortion is another matter, see `distortion`.

    Args:
        rectified: the images are rectified ones. By convention they share the CameraInfo of those that are not: their
            intrinsics are in P, the others' in K.

    Raises ConfigurationError for intrinsics that are none.
    """
    matrix = np.array(message.p, float).reshape(3, 4)[:, :3] if rectified else np.array(message.k, float).reshape(3, 3)
    try:
        return Camera(matrix, message.width, message.height)
    except ConfigurationError as error:
        raise ConfigurationError(f"{'P' if rectified else 'K'} of camera_info: {error}") from None


def distortion(message: Any, rectified: bool) -> str | None:
    """What is wrong with images of this CameraInfo as those of a pinhole camera, in a sentence; None where nothing is.

    `rectified` is as in `read_camera`: such images are without distortion, whatever the message holds.
    """
    coefficients = np.array(message.d, float)
    if rectified or (np.isfinite(coefficients).all() and not coefficients.any()):
        return None
    return (
        f"expected rectified images, got a camera_info with {message.distortion_model} {coefficients.tolist()}; if the "
        "images are rectified, set the parameter 'rectified'"
    )
