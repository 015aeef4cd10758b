"""What two teachers agree on: each looks at the whole image and at its tiles, and a find counts as much as both say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.geometry.boxes import Boxes2D, iou
from camtrack_core.labelling.teacher import COCO_GROUPS, Detector, detect_with_tiles

SAME = 0.5  # IoU from which two teachers' boxes are of one object


@dataclass(frozen=True)
class Agreeing:
    """Two detectors as one, over whole images and tiles."""

    first: Detector
    second: Detector

    def __call__(self, image: NDArray[np.uint8]) -> Boxes2D:
        """(N) boxes of a BGR image, class_ids are COCO's; a score is the mean of both, 0 for who did not see it."""
        return agree(detect_with_tiles(self.first, image), detect_with_tiles(self.second, image))


def agree(first: Boxes2D, second: Boxes2D) -> Boxes2D:
    """Boxes of both, one for each object: mean box by scores, mean score, the class of the surer."""
    both = Boxes2D(*(np.concatenate([getattr(first, n), getattr(second, n)]) for n in ("xyxy", "scores", "class_ids")))
    mine, others = _same(first, second)
    rows = np.concatenate([mine, others + len(first)]).astype(np.int64)
    weights = np.stack([first.scores[mine], second.scores[others]])
    surer = np.where(weights[0] >= weights[1], mine, others + len(first))
    boxes = (weights[0, :, None] * first.xyxy[mine] + weights[1, :, None] * second.xyxy[others]) / weights.sum(0)[
        :, None
    ]
    alone = np.setdiff1d(np.arange(len(both)), rows)
    return Boxes2D(
        np.concatenate([boxes, both.xyxy[alone]]),
        np.concatenate([weights.mean(0), both.scores[alone] / 2]),
        np.concatenate([both.class_ids[surer], both.class_ids[alone]]),
    )


def _same(first: Boxes2D, second: Boxes2D) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of both that are one object: of one group of classes, by the greatest sum of IoU."""
    overlap = iou(first.xyxy, second.xyxy)
    groups = [np.array([np.isin(x.class_ids, group) for group in COCO_GROUPS]) for x in (first, second)]
    overlap = np.where((groups[0][:, :, None] & groups[1][:, None]).any(0) & (overlap >= SAME), overlap, 0)
    rows, columns = linear_sum_assignment(-overlap)
    matched = overlap[rows, columns] > 0
    return rows[matched], columns[matched]
