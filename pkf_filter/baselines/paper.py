"""The tracker of the paper as it is described (Sec. V-A and IX), to compare with.

Kalman filters of SORT's model that step by frames; measurements and tracks that cannot be told apart are weighed by
Prop. 1, the others are matched one to one; tracks are born below an IoU and live by hit and age counters.

Where the paper is silent, the values are those of SORT (A. Bewley et al., ICIP 2016), on which it builds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from camtrack_core.config import Parameters
from camtrack_core.geometry.boxes import ArraySet, Boxes2D, Floats, Integers
from camtrack_core.geometry.tracks import Tracks2D
from pkf_filter.association.weights import association_weights
from pkf_filter.filtering.update import pkf_update
from pkf_filter.image.models import measurable, overlap

# Sec. IX: state (u, v, s, r, u', v', s'), measurement (u, v, s, r) with area s and aspect ratio r, dt = 1 frame
F = np.eye(7) + np.eye(7, k=4)
H = np.eye(4, 7)
V = np.diag([1.0, 1.0, 10.0, 10.0])
W = np.diag([1.0, 1.0, 1.0, 1.0, 1e-2, 1e-2, 1e-4])
INITIAL_COVARIANCE = np.diag([10.0, 10.0, 10.0, 10.0, 1e4, 1e4, 1e4])
S, R, DS = 2, 3, 6
LEAST_IOU = 0.01  # boxes apart from each other keep a likelihood, so that Prop. 1 has a joint event


class PaperConfig(Parameters):
    """Values of Sec. V-B."""

    alpha: float = Field(2.0, gt=0, description="likelihood is exp(-alpha / IoU)")
    ambiguity_threshold: float = Field(
        0.9,
        ge=0,
        description="candidates are ambiguous above this share of the better IoU; above 1 none is, at 0 all are",
    )
    weight_threshold: float = Field(0.25, ge=0, lt=1, description="measurements of lower weight are left out")
    birth_iou: float = Field(0.3, gt=0, lt=1, description="a box with a lower IoU to all tracks starts a track")
    match_iou: float = Field(0.3, gt=0, lt=1, description="pairs below this are no match")
    min_hits: int = Field(3, ge=1, description="measured frames until a track is shown")
    max_age: int = Field(30, ge=0, description="frames without measurement after which a track ends")


@dataclass(frozen=True)
class _Tracks(ArraySet):
    mean: Floats
    covariance: Floats
    ids: Integers
    hits: Integers
    ages: Integers  # frames without measurement
    scores: Floats
    class_ids: Integers

    def __add__(self, other: _Tracks) -> _Tracks:
        return _Tracks(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


class PaperTracker:
    """The paper's tracker under the contract of `pkf_filter.Tracker`; it steps by frames and ignores the time."""

    def __init__(self, config: PaperConfig | None = None) -> None:
        self.config = config or PaperConfig()
        self._next_id = 1
        self._tracks = self._born(Boxes2D.empty())

    def step(self, time_ns: int, measurements: Boxes2D) -> Tracks2D:
        """Tracks after the measurements of one frame; boxes that are no measurement are left out."""
        boxes = measurements[measurable(np.ascontiguousarray(measurements.xyxy, np.float64))]
        tracks, config = self._tracks, self.config
        mean: Floats = tracks.mean @ F.T
        mean[mean[:, S] <= 0, DS] = 0.0
        mean[:, S], mean[:, R] = np.maximum(mean[:, S], 1.0), np.maximum(mean[:, R], 1e-3)
        covariance: Floats = F @ tracks.covariance @ F.T + W

        scores = overlap(np.ascontiguousarray(boxes.xyxy, np.float64), to_boxes(mean))
        weights = paper_weights(scores, config)
        mean, covariance = pkf_update(mean, covariance, H, V, to_measurements(boxes.xyxy), weights)
        seen = weights.any(0)
        best = weights.argmax(0) if len(boxes) else np.zeros(len(tracks), np.int64)
        updated = _Tracks(
            mean=mean,
            covariance=covariance,
            ids=tracks.ids,
            hits=tracks.hits + seen,
            ages=np.where(seen, 0, tracks.ages + 1),
            scores=np.where(seen, boxes.scores[best], tracks.scores) if len(boxes) else tracks.scores,
            class_ids=np.where(seen, boxes.class_ids[best], tracks.class_ids) if len(boxes) else tracks.class_ids,
        )
        new = boxes[scores.max(1, initial=0.0) < config.birth_iou]
        self._tracks = updated[updated.ages <= config.max_age] + self._born(new)
        shown = self._tracks[(self._tracks.ages == 0) & (self._tracks.hits >= config.min_hits)]
        return Tracks2D(shown.ids, to_boxes(shown.mean), shown.scores, shown.class_ids)

    def _born(self, boxes: Boxes2D) -> _Tracks:
        count = len(boxes)
        mean = np.concatenate([to_measurements(boxes.xyxy), np.zeros((count, 3))], 1)
        ids = np.arange(self._next_id, self._next_id + count)
        self._next_id += count
        covariance = np.tile(INITIAL_COVARIANCE, (count, 1, 1))
        none = np.zeros(count, np.int64)
        return _Tracks(mean, covariance, ids, none + 1, none, boxes.scores, boxes.class_ids)


def paper_weights(scores: Floats, config: PaperConfig) -> Floats:
    """Weights (M, N) of IoU scores (M, N): Prop. 1 for what is ambiguous, 0 or 1 by assignment for the rest."""
    matches = matched(scores, config.match_iou)
    rows, columns = ambiguous(scores, matches, config.ambiguity_threshold)
    weights = np.zeros(scores.shape)
    for k, j in matches:
        if not rows[k]:
            weights[k, j] = 1.0
    part = scores[np.ix_(rows, columns)]
    if part.size:
        weights[np.ix_(rows, columns)] = obliged_weights(-config.alpha / np.maximum(part, LEAST_IOU))
    weights[weights < config.weight_threshold] = 0.0
    weights[scores == 0.0] = 0.0
    return weights


def obliged_weights(log_likelihood: Floats) -> Floats:
    """Prop. 1 of (M, N): all of the smaller side are paired, as in the permanent of a rectangular matrix."""
    M, N = log_likelihood.shape
    clutter = np.full(M, -np.inf if M <= N else 0.0)
    missed = np.full(N, 0.0 if M <= N else -np.inf)
    return association_weights(log_likelihood, clutter, missed).weights


def matched(scores: Floats, least: float) -> list[tuple[int, int]]:
    """Binary association: pairs of the best total score, of at least this score each."""
    rows, columns = linear_sum_assignment(-scores)
    return [(int(k), int(j)) for k, j in zip(rows, columns, strict=True) if scores[k, j] >= least]


def ambiguous(
    scores: Floats, matches: list[tuple[int, int]], threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which measurements (M,) and tracks (N,) the check of Sec. V-A marks, with the matches of those marked."""
    rows, columns = np.zeros(scores.shape[0], np.bool_), np.zeros(scores.shape[1], np.bool_)
    for table, whose, candidates in ((scores, rows, columns), (scores.T, columns, rows)):
        for one, row in enumerate(table):
            order = np.argsort(-row)
            for better, next_ in pairwise(order):
                if not (row[next_] > 0 and row[next_] >= threshold * row[better]):
                    break
                whose[one] = candidates[better] = candidates[next_] = True
    for k, j in matches:
        rows[k] = columns[j] = rows[k] or columns[j]
    return rows, columns


def to_measurements(xyxy: Floats) -> Floats:
    """(N, 4) float64 (u, v, s, r) of boxes (N, 4) of positive area."""
    size = np.asarray(xyxy[:, 2:] - xyxy[:, :2], np.float64)
    return np.concatenate([xyxy[:, :2] + size / 2, size[:, :1] * size[:, 1:], size[:, :1] / size[:, 1:]], 1)


def to_boxes(states: Floats) -> Floats:
    """(N, 4) x1, y1, x2, y2 of states or measurements (N, 4 or 7) with positive area and aspect ratio."""
    area, aspect = np.maximum(states[:, S], 1.0), np.maximum(states[:, R], 1e-3)
    width = np.sqrt(area * aspect)
    half = np.stack([width, area / width], 1) / 2
    return np.concatenate([states[:, :2] - half, states[:, :2] + half], 1)
