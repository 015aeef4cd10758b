"""Scores of tracks in space by the distance of centres on the ground, computed by TrackEval.

The similarity of two objects is 1 at no distance, 0.5 at MATCH_DISTANCE, as far as a match may be (nuScenes takes the
same 2 m), and 0 at twice that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.evaluation.tracking import TrackingScores, as_trackeval, score_trackeval
from camtrack_core.geometry.boxes import Floats, Integers

MATCH_DISTANCE = 2.0  # metres
RECALLS = np.linspace(0.1, 1.0, 40)  # of AMOTA


@dataclass(frozen=True)
class SpaceFrame:
    """One frame of truth and what was tracked in it.

    Attributes:
        true_ids: (N,) int.
        true_centres: (N, 3) metres.
        scored: (N,) bool; the others are neither hit nor miss.
        ids: (M,) int.
        centres: (M, 3) metres.
    """

    true_ids: Integers
    true_centres: Floats
    scored: NDArray[np.bool_]
    ids: Integers
    centres: Floats


def ground_distances(frame: SpaceFrame) -> Floats:
    """(N, M) metres between centres on the ground."""
    return np.linalg.norm(frame.true_centres[:, None, :2] - frame.centres[None, :, :2], axis=-1)


def counted(frame: SpaceFrame) -> tuple[SpaceFrame, Floats]:
    """The frame without objects that are not scored and the tracks that found them, and the distances of the matches
    that are left, metres."""
    distance = ground_distances(frame)
    rows, columns = linear_sum_assignment(np.minimum(distance, MATCH_DISTANCE))
    near = distance[rows, columns] < MATCH_DISTANCE
    rows, columns = rows[near], columns[near]
    kept = np.ones(len(frame.ids), bool)
    kept[columns] = frame.scored[rows]
    scored = frame.scored
    left = SpaceFrame(
        frame.true_ids[scored], frame.true_centres[scored], scored[scored], frame.ids[kept], frame.centres[kept]
    )
    return left, distance[rows, columns][scored[rows]]


def score_in_space(frames: Sequence[SpaceFrame]) -> tuple[TrackingScores, float]:
    """Scores of a sequence, and the mean distance of matches, metres (NaN without any)."""
    true_ids, ids, similarities, distances = [], [], [], []
    for frame in frames:
        left, matched = counted(frame)
        distances.append(matched)
        true_ids.append(left.true_ids)
        ids.append(left.ids)
        similarities.append(np.clip(1 - ground_distances(left) / (2 * MATCH_DISTANCE), 0, 1))
    every = np.concatenate([*distances, np.zeros(0)])
    mean = float(every.mean()) if len(every) else float("nan")
    return score_trackeval({"": as_trackeval(true_ids, ids, similarities)}), mean


def average_mota(frames: Sequence[SpaceFrame], scores: Sequence[Floats]) -> float:
    """AMOTA as nuScenes has it: 1 less switches and false tracks per hit, at the thresholds that reach each of RECALLS.

    What is not reached counts as 0.

    Args:
        frames: truth and tracks.
        scores: of the tracks of each frame; a track counts with the mean of its own.
    """
    objects = sum(int(frame.scored.sum()) for frame in frames)
    ids, given = (np.concatenate([*parts, np.zeros(0)]) for parts in ([f.ids for f in frames], scores))
    if not objects or not len(ids):
        return 0.0 if objects else float("nan")
    known, column = np.unique(ids, return_inverse=True)
    mean = np.bincount(column, given) / np.bincount(column)
    reached = []
    for threshold in np.unique(mean)[::-1]:
        kept = [np.isin(frame.ids, known[mean >= threshold]) for frame in frames]
        cut = [SpaceFrame(f.true_ids, f.true_centres, f.scored, f.ids[k], f.centres[k])
               for f, k in zip(frames, kept, strict=True)]  # fmt: skip
        found, _ = score_in_space(cut)
        wrong = (found.id_switches + found.false_positives) / max(objects - found.misses, 1)
        reached.append((1 - found.misses / objects, max(1 - wrong, 0.0)))
    return float(np.mean([next((share for at, share in reached if at >= recall), 0.0) for recall in RECALLS]))
