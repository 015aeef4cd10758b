"""Average precision of detections in single images, with regions where neither hits nor misses count.

Detections of an image claim truth boxes greedily, best score first. One that claims none and lies on an ignored
region is not counted; any other is false. Precision is interpolated at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers, coverage, iou

IGNORE_IOU = 0.3  # a detection with this much IoU with an ignored region,
IGNORE_COVERAGE = 0.7  # or with this share of itself inside one, is not counted
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ImageTruth:
    """What is to be found in one image.

    Attributes:
        xyxy: (N, 4) float, pixels.
        class_ids: (N,) int.
        ignored: (M, 4) float, regions where nothing counts, pixels.
    """

    xyxy: Floats
    class_ids: Integers
    ignored: Floats

    def of_class(self, class_id: int) -> ImageTruth:
        """The objects of one class; ignored regions hold for every class."""
        rows = self.class_ids == class_id
        return ImageTruth(self.xyxy[rows], self.class_ids[rows], self.ignored)


@dataclass(frozen=True)
class DetectionScores:
    """Scores over a set of images; all but `truth` are NaN where there is nothing to find.

    Attributes:
        truth: number of objects to find.
        ap: average precision.
        best_f1: greatest harmonic mean of precision and recall,
        precision, recall, threshold: and where it is reached.
    """

    truth: int
    ap: float
    best_f1: float
    precision: float
    recall: float
    threshold: float


def average_precision(
    truth: Sequence[ImageTruth], detections: Sequence[Boxes2D], iou_threshold: float = 0.5
) -> DetectionScores:
    """Scores of detections regardless of their class.

    Args:
        truth: per image what is to be found.
        detections: per image what was found.
        iou_threshold: least IoU of a hit.

    Raises:
        DataError: the two are of different lengths.
    """
    if len(truth) != len(detections):
        raise DataError(f"expected detections of {len(truth)} images, got {len(detections)}")
    count = sum(len(t.xyxy) for t in truth)
    counted = [judge(t, d, iou_threshold) for t, d in zip(truth, detections, strict=True)]
    scores = np.concatenate([np.zeros(0), *(s for s, _ in counted)])
    hits = np.concatenate([np.zeros(0, bool), *(h for _, h in counted)])
    if not count:
        return DetectionScores(0, *(float("nan"),) * 5)
    if not len(scores):
        return DetectionScores(count, 0.0, 0.0, 0.0, 0.0, float("nan"))
    order = np.lexsort((~hits, -scores))
    scores, hits = scores[order], hits[order]
    found = np.cumsum(hits)
    recall, precision = found / count, found / np.arange(1, len(hits) + 1)
    f1 = 2 * precision * recall / (precision + recall + 1e-12)
    best = int(f1.argmax())
    return DetectionScores(
        count,
        interpolated_area(recall, precision),
        float(f1[best]),
        float(precision[best]),
        float(recall[best]),
        float(scores[best]),
    )


def average_precision_by_class(
    truth: Sequence[ImageTruth],
    detections: Sequence[Boxes2D],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
) -> dict[str, DetectionScores]:
    """Scores of every class by itself; class_ids of both sides index `class_names`."""
    return {
        name: average_precision(
            [t.of_class(i) for t in truth], [d[d.class_ids == i] for d in detections], iou_threshold
        )
        for i, name in enumerate(class_names)
    }


def judge(truth: ImageTruth, detections: Boxes2D, iou_threshold: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores (K,) of the detections of one image that count, best first, and whether each is a hit (K,)."""
    detections = detections[np.argsort(-detections.scores, kind="stable")]
    overlaps = iou(detections.xyxy, truth.xyxy)
    hits = np.zeros(len(detections), bool)
    for row in range(len(detections)) if len(truth.xyxy) else ():
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= iou_threshold:
            hits[row] = True
            overlaps[:, best] = -1  # claimed
    on_ignored = iou(detections.xyxy, truth.ignored) >= IGNORE_IOU
    on_ignored |= coverage(detections.xyxy, truth.ignored) >= IGNORE_COVERAGE
    counts = hits | ~on_ignored.any(1)
    return detections.scores[counts], hits[counts]


def interpolated_area(recall: Floats, precision: Floats) -> float:
    """Mean over RECALLS of the best precision at that recall or beyond; `recall` (K,) must not decrease."""
    best_beyond = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best_beyond[np.searchsorted(recall, RECALLS, side="left")].mean())
