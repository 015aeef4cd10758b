"""KITTI's 2D tracking protocol: what counts as truth and as tracked for one class.

Neighbouring classes and hardly visible objects are neither hit nor miss; DontCare regions and low boxes hide tracks
that match nothing (A. Geiger, P. Lenz, R. Urtasun, CVPR 2012; as TrackEval has it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from camtrack_core.datasets.kitti.rows import DONT_CARE, KittiObjects
from camtrack_core.evaluation.kitti.kitti3d import MAX_OCCLUSION, MAX_TRUNCATION, NEIGHBOURS
from camtrack_core.evaluation.tracking import EvaluationFrame, TrackTruth
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.numbers import NOWHERE, rows_of

MIN_TRACK_HEIGHT = 25.0  # pixels


def evaluation_frames(truth: KittiObjects, tracks: Sequence[Tracks2D], kind: str) -> list[EvaluationFrame]:
    """A sequence for one class, of which the tracks are; to be scored with MIN_TRACK_HEIGHT."""
    objects = truth[np.isin(truth.kinds, [kind, NEIGHBOURS.get(kind, "")])]
    regions = truth[truth.kinds == DONT_CARE]
    scored = (objects.kinds == kind) & (objects.occlusion <= MAX_OCCLUSION) & (objects.truncation <= MAX_TRUNCATION)
    places, region_places = rows_of(objects.frames), rows_of(regions.frames)
    frames = []
    for number, found in enumerate(tracks):
        rows = places.get(number, NOWHERE)
        one_class = np.zeros(len(rows), np.int64)
        ignored = regions.xyxy[region_places.get(number, NOWHERE)]
        frames.append(
            EvaluationFrame(TrackTruth(objects.ids[rows], objects.xyxy[rows], one_class, scored[rows]), found, ignored)
        )
    return frames


def tracks_of(results: KittiObjects, kind: str, count: int) -> list[Tracks2D]:
    """The tracks of a class, or of all if `kind` is empty, in each of `count` frames. Scores may be missing."""
    rows = results[results.kinds == kind] if kind else results
    scores = np.where(np.isfinite(rows.scores), rows.scores, 1.0)
    tracks = Tracks2D(rows.ids, rows.xyxy, scores, np.zeros(len(rows), np.int64))
    places = rows_of(rows.frames)
    return [tracks[places.get(number, NOWHERE)] for number in range(count)]
