"""How pictures of any size fit into a network's input: top left, as large as they can be, the rest grey."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 114  # grey level of what the picture leaves free


def fit_into(target: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    """Puts an image (H, W, 3) BGR into an input (h, w, 3), top left, rest padded; returns its scale."""
    height, width = image.shape[:2]
    scale = min(target.shape[1] / width, target.shape[0] / height)
    columns, rows = max(round(width * scale), 1), max(round(height * scale), 1)
    # Bilinear sampling skips pixels where it shrinks by more than two: first come means of whole blocks of pixels,
    # which OpenCV takes six times faster than those that cut pixels.
    block = min(width // columns, height // rows)
    if block > 1:
        smaller = (width // block, height // block)
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    cv2.resize(image, (columns, rows), dst=target[:rows, :columns], interpolation=cv2.INTER_LINEAR)
    target[rows:] = PADDING
    target[:rows, columns:] = PADDING
    return scale
