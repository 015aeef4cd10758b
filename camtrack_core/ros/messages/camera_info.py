"""The camera that a CameraInfo message tells of."""

from __future__ import annotations

from typing import Any

import numpy as np

from camtrack_core.encoded import Image
from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.camera import Camera


def is_rectified(topic: str) -> bool:
    """Whether a topic bears the name that ROS gives to rectified images: image_rect, image_rect_color."""
    return topic.removesuffix("/compressed").rpartition("/")[2].startswith("image_rect")


def read_camera(message: Any, rectified: bool) -> Camera:
    """The pinhole camera of a CameraInfo message; its distortion is another matter, see `distortion`.

    Its width and height are those of the images: of the region of interest, where there is one, after binning.

    Args:
        rectified: the images are rectified ones. By convention they share the CameraInfo of those that are not: their
            intrinsics are in P, the others' in K.

    Raises ConfigurationError for intrinsics that are none.
    """
    matrix = np.array(message.p, float).reshape(3, 4)[:, :3] if rectified else np.array(message.k, float).reshape(3, 3)
    region, bins = message.roi, np.maximum([message.binning_x, message.binning_y], 1)
    width, height = (region.width or message.width) // bins[0], (region.height or message.height) // bins[1]
    in_region = matrix - np.array([[0, 0, region.x_offset], [0, 0, region.y_offset], [0, 0, 0.0]])
    try:
        return Camera(in_region / np.append(bins, 1)[:, None], int(width), int(height))
    except ConfigurationError as error:
        raise ConfigurationError(f"{'P' if rectified else 'K'} of camera_info: {error}") from None


def other_size(camera: Camera, image: Image) -> str | None:
    """In a sentence, that an image is not of the size that its CameraInfo says; None where it is."""
    height, width = image.shape[:2]
    if (width, height) == (camera.width, camera.height):
        return None
    return f"expected an image of {camera.width}x{camera.height} by its camera_info, got {width}x{height}"


def distortion(message: Any, rectified: bool) -> str | None:
    """What is wrong with images of this CameraInfo as those of a pinhole camera, in a sentence; None where nothing is.

    `rectified` is as in `read_camera`: such images are without distortion, whatever the message holds.
    """
    coefficients = np.array(message.d, float)
    if rectified or (np.isfinite(coefficients).all() and not coefficients.any()):
        return None
    return (
        f"expected rectified images, got a camera_info with {message.distortion_model} {coefficients.tolist()}; if the "
        "images are rectified, set the parameter 'rectified', of a bag the option ?rectified=true"
    )
