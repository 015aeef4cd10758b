"""Training targets beside the heatmap. Pure functions of numpy arrays, run by the data loader."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers
from camtrack_core.training.gaussians import gaussians
from gcnet_tracker.config import STRIDE

ABSENT, UNKNOWN = -2, -1  # instead of a row: not in the other frame; perhaps in it


def soft(finds: Boxes2D, classes: int, size: tuple[int, int]) -> Floats:
    """(n, h', w') float32: at each cell the greatest score of a find (N) that stands there, fading as Eq. 7 does."""
    scores = np.zeros((classes, *size), np.float32)
    for row, score, class_id in zip(gaussians(finds.xyxy, STRIDE, size), finds.scores, finds.class_ids, strict=True):
        np.maximum(scores[class_id], score * row, out=scores[class_id])
    return scores


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
