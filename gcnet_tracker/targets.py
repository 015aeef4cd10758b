"""Training targets (paper Eq. 7 and 8). Pure functions of numpy arrays, run by the data loader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers
from camtrack_core.training.gaussians import deviations
from gcnet_tracker.config import STRIDE

ABSENT, UNKNOWN = -2, -1  # instead of a row: not in the other frame; perhaps in it
LABELLED = 0.3  # G above which a cell is a labelled object's


@dataclass(frozen=True)
class Targets:
    """What the network should say about one image.

    Attributes:
        heatmap: (n, h', w') float32, Ygt of Eq. 7.
        counted: (h', w') float32, 0 inside ignored regions, where no loss is taken.
    """

    heatmap: Floats
    counted: Floats


def soft(finds: Boxes2D, classes: int, size: tuple[int, int]) -> Floats:
    """(n, h', w') float32: at each cell the greatest score of a find (N) that stands there, fading as Eq. 7 does."""
    scores = np.zeros((classes, *size), np.float32)
    for row, score, class_id in zip(gaussians(finds.xyxy, *size), finds.scores, finds.class_ids, strict=True):
        np.maximum(scores[class_id], score * row, out=scores[class_id])
    return scores


def gaussians(xyxy: Floats, height: int, width: int) -> Floats:
    """Eq. 7: G (N, h', w') of boxes (N, 4) in pixels of the network's input; exactly 1 at each centre's cell."""
    cells = xyxy / STRIDE
    centre = np.floor((cells[:, :2] + cells[:, 2:]) / 2)
    sigma = np.maximum(deviations(cells[:, 2:] - cells[:, :2]), 1e-3)
    dx = (np.arange(width)[None] - centre[:, :1]) / sigma[:, :1]
    dy = (np.arange(height)[None] - centre[:, 1:]) / sigma[:, 1:]
    return np.exp(-(dy[:, :, None] ** 2 + dx[:, None, :] ** 2) / 2)


def build(xyxy: Floats, class_ids: Integers, ignored: Floats, classes: int, size: tuple[int, int]) -> Targets:
    """Targets of one image.

    Args:
        xyxy: (N, 4) boxes, pixels of the network's input, centres inside the image.
        class_ids: (N,) int.
        ignored: (M, 4) regions without labels, pixels of the network's input.
        classes: n.
        size: h', w'.
    """
    height, width = size
    heatmap = np.zeros((classes, height, width), np.float32)
    counted = np.ones((height, width), np.float32)
    for x1, y1, x2, y2 in np.clip(ignored / STRIDE, 0, [width, height, width, height]):
        counted[int(np.floor(y1)) : int(np.ceil(y2)), int(np.floor(x1)) : int(np.ceil(x2))] = 0
    if len(xyxy):
        g = gaussians(xyxy, height, width)
        for row, class_id in zip(g, class_ids, strict=True):
            np.maximum(heatmap[class_id], row, out=heatmap[class_id])
        counted = np.maximum(counted, g.max(0) > LABELLED)  # a labelled object inside an ignored region counts
    return Targets(heatmap, counted.astype(np.float32))


def follow(past_ids: Integers, ids: Integers, seen: Integers) -> NDArray[np.int64]:
    """Where the objects of the past frame are in the current one (paper Sec. 3.2).

    Args:
        past_ids: (N,) of the past frame's objects.
        ids: (M,) of the current frame's objects.
        seen: ids of all that is in the current view, though it be too small, cut or hidden to be asked for.

    Returns:
        (N,) row of the same object in the current frame; UNKNOWN where it is only seen, ABSENT where it is not there.
    """
    row_of = dict.fromkeys(seen.tolist(), UNKNOWN) | {identity: row for row, identity in enumerate(ids.tolist())}
    return np.array([row_of.get(identity, ABSENT) for identity in past_ids.tolist()], np.int64)
