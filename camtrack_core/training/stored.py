"""How the clips of both networks keep images and name classes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_WIDTH = 1280  # pixels; wider recordings are shrunk: no training resolution needs more
JPEG_QUALITY = 95

# Names of data sets' classes that the networks call otherwise.
ALIASES = {"van": "car", "others": "truck", "rider": "cyclist", "person": "pedestrian"}


def shrunk(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The image, no wider than MAX_WIDTH, and the factor by which its pixels have shrunk."""
    factor = min(1.0, MAX_WIDTH / image.shape[1])
    if factor == 1:
        return image, 1.0
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8), factor


def encoded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image (H, W, 3) as JPEG data."""
    return np.asarray(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1], np.uint8).reshape(-1)


def decoded(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """JPEG data as an image (H, W, 3), BGR."""
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
