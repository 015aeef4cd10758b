"""MOTChallenge's protocol: tracks that match a distractor vanish, and of the truth only the targets are scored.

Matching is over all annotated objects (A. Milan et al., arXiv 1603.00831; as TrackEval has it).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.frames import Truth
from camtrack_core.datasets.motchallenge import DISTRACTOR, TARGET
from camtrack_core.errors import DataError
from camtrack_core.evaluation.tracking import EPSILON, MATCH_IOU, EvaluationFrame, TrackTruth
from camtrack_core.geometry.boxes import iou
from camtrack_core.geometry.tracks import Tracks2D


def evaluation_frame(truth: Truth, tracks: Tracks2D) -> EvaluationFrame:
    """One frame as it is scored. Raises DataError for a frame without labels."""
    labels = truth.labels
    if labels is None:
        raise DataError(f"expected labels of frame {truth.number} to score tracks against, found none")
    overlaps = iou(labels.xyxy, tracks.xyxy)
    overlaps[overlaps < MATCH_IOU - EPSILON] = 0
    rows, columns = linear_sum_assignment(-overlaps)
    matched = overlaps[rows, columns] > EPSILON
    absorbed = np.zeros(len(tracks), bool)
    absorbed[columns[matched]] = labels.class_ids[rows[matched]] == DISTRACTOR
    real = labels[labels.class_ids == TARGET]
    return EvaluationFrame(
        TrackTruth(real.ids, real.xyxy, real.class_ids, np.ones(len(real), bool)), tracks[~absorbed], truth.ignored
    )
