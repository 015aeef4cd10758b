"""Heatmaps that training asks of both networks: a Gaussian at the centre of every object.

After CornerNet (Law and Deng 2018), as GCNet's Eq. 7 and 8 have it. Pure functions of numpy arrays, run by the data
loaders. Shapes: N objects, n classes, a map of (h', w') cells of `stride` pixels each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from camtrack_core.geometry.boxes import Floats, Integers

IOU_THRESHOLD = 0.3  # of GCNet's Eq. 8
LABELLED = 0.3  # of a Gaussian, above which a cell is a labelled object's


class Heatmap(NamedTuple):
    """What a network should say about one image.

    Attributes:
        heatmap: (n, h', w') float32, exactly 1 at the cell of each object's centre.
        counted: (h', w') float32, 0 inside ignored regions, where no loss is taken.
    """

    heatmap: Floats
    counted: Floats


def build(
    xyxy: Floats, class_ids: Integers, ignored: Floats, classes: int, stride: int, size: tuple[int, int]
) -> Heatmap:
    """Target of one image.

    Args:
        xyxy: (N, 4) boxes, pixels of the network's input.
        class_ids: (N,) int.
        ignored: (M, 4) regions without labels, pixels of the network's input.
        classes: n.
        size: h', w'.
    """
    height, width = size
    heatmap = np.zeros((classes, height, width), np.float32)
    counted = np.ones((height, width), np.float32)
    for x1, y1, x2, y2 in np.clip(ignored / stride, 0, [width, height, width, height]):
        counted[int(np.floor(y1)) : int(np.ceil(y2)), int(np.floor(x1)) : int(np.ceil(x2))] = 0
    for row, class_id in zip(gaussians(xyxy, stride, size), class_ids, strict=True):
        np.maximum(heatmap[class_id], row, out=heatmap[class_id])
        counted[row > LABELLED] = 1  # a labelled object inside an ignored region counts
    return Heatmap(heatmap, counted)


def gaussians(xyxy: Floats, stride: int, size: tuple[int, int]) -> Floats:
    """GCNet's Eq. 7: G (N, h', w') of boxes (N, 4) in pixels of the network's input."""
    height, width = size
    centre = centre_cells(xyxy, stride, size)
    sigma = np.maximum(deviations((xyxy[:, 2:] - xyxy[:, :2]) / stride), 1e-3)
    dx = (np.arange(width)[None] - centre[:, :1]) / sigma[:, :1]
    dy = (np.arange(height)[None] - centre[:, 1:]) / sigma[:, 1:]
    return np.exp(-(dy[:, :, None] ** 2 + dx[:, None, :] ** 2) / 2)


def centre_cells(xyxy: Floats, stride: int, size: tuple[int, int]) -> Integers:
    """(N, 2) column and row of the cells that hold the boxes' centres."""
    height, width = size
    middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2 / stride
    return np.clip(np.floor(middle), 0, [width - 1, height - 1]).astype(np.int64)


def deviations(size: Floats) -> Floats:
    """GCNet's Eq. 8: sigma of a side of the given length, from the shift that still leaves the threshold's IoU."""
    return size * (1 - IOU_THRESHOLD) / (3 * (1 + IOU_THRESHOLD))
