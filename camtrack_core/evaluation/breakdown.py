"""Where errors happen: every true object of every frame hit or missed, every tracked one right or false.

Matching is that of CLEAR MOT at IoU 0.5 as TrackEval has it, so that the counts are those of the scores: a pair of
the last frame is kept before IoU decides (K. Bernardin and R. Stiefelhagen, "Evaluating Multiple Object Tracking
Performance: The CLEAR MOT Metrics", 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.frames import Truth
from camtrack_core.evaluation.tracking import EPSILON, MATCH_IOU, EvaluationFrame, counted
from camtrack_core.geometry.boxes import ArraySet, Floats, Integers, iou
from camtrack_core.geometry.tracks import Tracks2D

NOBODY = -1
KEPT = 1000.0  # added to the IoU of a pair that was matched in the frame before
DISTANCES = (10.0, 20.0, 30.0, 50.0, 80.0)  # metres; borders of the bins, the last bin is open
HEIGHTS = (25.0, 50.0, 100.0, 200.0)  # pixels
SHARES = (0.25, 0.5, 0.75, 1.0)  # that is seen of an object


@dataclass(frozen=True)
class Judged(ArraySet):
    """The true objects of a frame that count.

    Attributes:
        ids: (N,) int. xyxy: (N, 4) float, pixels.
        partner: (N,) int, id of the track that found each; NOBODY where it was missed.
        switched: (N,) bool, whether another track had found it before.
    """

    ids: Integers
    xyxy: Floats
    partner: Integers
    switched: NDArray[np.bool_]


@dataclass(frozen=True)
class JudgedFrame:
    """A frame: what was to be found, and the tracks that found nothing."""

    objects: Judged
    false: Tracks2D

    @property
    def errors(self) -> int:
        missed = int((self.objects.partner == NOBODY).sum())
        return missed + int(self.objects.switched.sum()) + len(self.false)


def judge_sequence(frames: Sequence[EvaluationFrame], min_track_height: float = 0.0) -> list[JudgedFrame]:
    """What became of every object and track; arguments as score_tracks has them, for one sequence."""
    last: dict[int, int] = {}  # the track that found each object most lately,
    before: dict[int, int] = {}  # and in the frame before
    judged = []
    for frame in frames:
        truth, tracks = counted(frame, min_track_height)
        overlaps = iou(truth.xyxy, tracks.xyxy)
        kept = np.array([before.get(i, NOBODY) for i in truth.ids.tolist()], np.int64)[:, None] == tracks.ids
        overlaps = np.where(overlaps < MATCH_IOU - EPSILON, 0, overlaps + KEPT * kept)
        rows, columns = linear_sum_assignment(-overlaps)
        hit = overlaps[rows, columns] > EPSILON
        rows, columns = rows[hit], columns[hit]
        partner = np.full(len(truth), NOBODY)
        partner[rows] = tracks.ids[columns]
        pairs = dict(zip(truth.ids[rows].tolist(), partner[rows].tolist(), strict=True))
        switched = np.array([i in pairs and last.get(i, pairs[i]) != pairs[i] for i in truth.ids.tolist()], bool)
        if len(truth) and len(tracks):  # TrackEval leaves pairs standing over frames that are empty on one side
            before = pairs
        last |= pairs
        judged.append(
            JudgedFrame(
                Judged(truth.ids, truth.xyxy, partner, switched), tracks[np.isin(tracks.ids, partner, invert=True)]
            )
        )
    return judged


@dataclass(frozen=True)
class Bin:
    """Objects of one kind: how many there were, how many were missed, and how many changed their track."""

    label: str
    objects: int
    misses: int
    switches: int
    false: int | None = None

    @property
    def miss_rate(self) -> float:
        return self.misses / max(self.objects, 1)


def by_height(frames: Sequence[JudgedFrame]) -> list[Bin]:
    """Errors by the height of the box in the image; false tracks have a height, too."""
    heights = np.concatenate([_heights(f.objects.xyxy) for f in frames] or [np.zeros(0)])
    false = np.concatenate([_heights(f.false.xyxy) for f in frames] or [np.zeros(0)])
    bins = _bins(frames, heights, HEIGHTS, "px")
    counts = np.bincount(np.digitize(false, HEIGHTS), minlength=len(HEIGHTS) + 1)
    return [replace(b, false=int(n)) for b, n in zip(bins, counts, strict=True)]


def by_distance(frames: Sequence[JudgedFrame], truth: Sequence[Truth]) -> list[Bin]:
    """Errors by the distance from the camera; empty where the truth knows none."""
    if all(t.distances is None for t in truth):
        return []
    return _bins(frames, _attribute(frames, truth, "distances"), DISTANCES, "m")


def by_visibility(frames: Sequence[JudgedFrame], truth: Sequence[Truth]) -> list[Bin]:
    """Errors by the share of the object that is seen."""
    *bins, whole = _bins(frames, _attribute(frames, truth, "visible"), SHARES, "seen")
    return [*bins, replace(whole, label="wholly seen")]


def _attribute(frames: Sequence[JudgedFrame], truth: Sequence[Truth], name: str) -> Floats:
    """Of all judged objects, frame after frame; NaN where the truth does not know."""
    values = [np.zeros(0)]
    for frame, one in zip(frames, truth, strict=True):
        known: dict[int, float] = {}
        column = one.distances if name == "distances" else None if one.labels is None else one.labels.visible
        if one.labels is not None and column is not None:
            known = dict(zip(one.labels.ids.tolist(), column.tolist(), strict=True))
        values.append(np.array([known.get(i, np.nan) for i in frame.objects.ids.tolist()], float))
    return np.concatenate(values)


def _bins(frames: Sequence[JudgedFrame], values: Floats, borders: Sequence[float], unit: str) -> list[Bin]:
    missed = np.concatenate([f.objects.partner == NOBODY for f in frames] or [np.zeros(0, bool)])
    switched = np.concatenate([f.objects.switched for f in frames] or [np.zeros(0, bool)])
    known = np.isfinite(values)
    place = np.digitize(np.where(known, values, 0), borders)
    texts = [f"{b:g}" for b in borders]
    labels = [f"below {texts[0]} {unit}", *(f"{a} to {b} {unit}" for a, b in pairwise(texts))]
    labels.append(f"from {texts[-1]} {unit}")
    rows = [known & (place == k) for k in range(len(labels))]
    return [
        Bin(label, int(row.sum()), int((missed & row).sum()), int((switched & row).sum()))
        for label, row in zip(labels, rows, strict=True)
    ]


def _heights(xyxy: Floats) -> Floats:
    return xyxy[:, 3] - xyxy[:, 1]
