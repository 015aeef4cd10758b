"""Tracking scores: HOTA, CLEAR MOT and identity, computed by TrackEval.

What must not count is taken out before, as TrackEval does for KITTI: tracked boxes that match a truth box which is
not scored, and unmatched ones that lie on an ignored region or are too low.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.frames import Frame, Truth
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import ArraySet, Floats, Integers, coverage, iou
from camtrack_core.geometry.tracks import Tracks2D

MATCH_IOU = 0.5
IGNORE_COVERAGE = 0.5  # share of an unmatched box inside an ignored region that takes it out
EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class TrackTruth(ArraySet):
    """The true objects of one frame.

    Attributes:
        ids: (N,) int, constant over the sequence.
        xyxy: (N, 4) float, pixels.
        class_ids: (N,) int.
        scored: (N,) bool; the others are neither hit nor miss.
    """

    ids: Integers
    xyxy: Floats
    class_ids: Integers
    scored: NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluationFrame:
    """One frame of truth and what was tracked in it.

    Attributes:
        truth: the true objects.
        tracks: the tracked objects.
        ignored: (M, 4) float, regions where unmatched tracks do not count, pixels.
    """

    truth: TrackTruth
    tracks: Tracks2D
    ignored: Floats


@dataclass(frozen=True)
class TrackingScores:
    """Scores over one or more sequences; fractions, 1 is perfect.

    Attributes:
        hota, det_a, ass_a, loc_a: means over the IoU thresholds 0.05 to 0.95.
        mota, idf1: at IoU 0.5; mota may be negative.
        id_switches, fragmentations: counts at IoU 0.5.
        misses, false_positives: counts at IoU 0.5.
        truth, tracks: numbers of true and of tracked boxes that count.
        frames: number of frames.
        recall, precision: at IoU 0.5; motp: mean IoU of hits there; motal: mota with the logarithm of the switches.
        mostly_tracked, partly_tracked, mostly_lost: counts of true objects, at least 80 %, and less than 20 %.
        id_precision, id_recall: of the identity matching.
    """

    hota: float
    det_a: float
    ass_a: float
    loc_a: float
    mota: float
    idf1: float
    id_switches: int
    fragmentations: int
    misses: int
    false_positives: int
    truth: int
    tracks: int
    frames: int
    recall: float
    precision: float
    motp: float
    motal: float
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int
    id_precision: float
    id_recall: float


def evaluation_frame(
    frame: Frame | Truth, tracks: Tracks2D, min_height: float = 0.0, min_visible: float = 0.0
) -> EvaluationFrame:
    """The labels of a frame as truth, of which low or hidden objects are not scored.

    Raises:
        DataError: the frame has no labels.
    """
    if frame.labels is None:
        raise DataError(f"expected labels of the frame at {frame.time_ns} ns to score tracks against, found none")
    labels = frame.labels
    high = labels.xyxy[:, 3] - labels.xyxy[:, 1] >= min_height
    scored = high & (labels.visible >= min_visible)
    return EvaluationFrame(TrackTruth(labels.ids, labels.xyxy, labels.class_ids, scored), tracks, frame.ignored)


def score_tracks(sequences: Mapping[str, Sequence[EvaluationFrame]], min_track_height: float = 0.0) -> TrackingScores:
    """Scores regardless of classes, over all sequences together.

    Args:
        sequences: by name, every frame of each.
        min_track_height: unmatched tracked boxes up to this height in pixels do not count.

    Raises:
        DataError: there is no sequence, or an id occurs twice in a frame.
    """
    return score_each(sequences, min_track_height)[0]


def score_each(
    sequences: Mapping[str, Sequence[EvaluationFrame]], min_track_height: float = 0.0
) -> tuple[TrackingScores, dict[str, TrackingScores]]:
    """Scores over all sequences together, and of each by itself; arguments and errors as for score_tracks."""
    if not sequences:
        raise DataError("expected at least one sequence to score, got none")
    for name, frames in sequences.items():
        _check_ids(name, frames)
    data = {name: trackeval_data(frames, min_track_height) for name, frames in sequences.items()}
    together, each = _evaluate(data)
    return _summary(together), {name: _summary(fields) for name, fields in each.items()}


def score_tracks_by_class(
    sequences: Mapping[str, Sequence[EvaluationFrame]],
    class_names: Sequence[str],
    min_track_height: float = 0.0,
) -> dict[str, TrackingScores]:
    """Scores of every class by itself; class_ids of truth and tracks index `class_names`."""

    def of_class(class_id: int) -> dict[str, list[EvaluationFrame]]:
        return {name: [_of_class(f, class_id) for f in frames] for name, frames in sequences.items()}

    return {name: score_tracks(of_class(i), min_track_height) for i, name in enumerate(class_names)}


def trackeval_data(frames: Sequence[EvaluationFrame], min_track_height: float) -> dict[str, Any]:
    """A sequence in the form that TrackEval's metrics take, without what must not count."""
    cleaned = [counted(frame, min_track_height) for frame in frames]
    similarities = [iou(truth.xyxy, tracks.xyxy) for truth, tracks in cleaned]
    return as_trackeval([truth.ids for truth, _ in cleaned], [tracks.ids for _, tracks in cleaned], similarities)


def as_trackeval(true_ids: list[Integers], found_ids: list[Integers], similarities: list[Floats]) -> dict[str, Any]:
    """What TrackEval's metrics take: of each frame the ids (N,) and (M,), and the similarities (N, M) in [0, 1]."""
    truth_ids, track_ids = _consecutive(true_ids), _consecutive(found_ids)
    return {
        "num_timesteps": len(truth_ids),
        "gt_ids": truth_ids,
        "tracker_ids": track_ids,
        "similarity_scores": similarities,
        "num_gt_dets": sum(map(len, truth_ids)),
        "num_tracker_dets": sum(map(len, track_ids)),
        "num_gt_ids": _count_distinct(truth_ids),
        "num_tracker_ids": _count_distinct(track_ids),
    }


def score_trackeval(data: dict[str, dict[str, Any]]) -> TrackingScores:
    """Scores over all sequences, by name, in the form of `as_trackeval`."""
    return _summary(_evaluate(data)[0])


def _check_ids(name: str, frames: Iterable[EvaluationFrame]) -> None:
    for number, frame in enumerate(frames, start=1):
        for kind, ids in (("truth", frame.truth.ids), ("tracks", frame.tracks.ids)):
            if len(np.unique(ids)) < len(ids):
                raise DataError(f"sequence {name}, frame {number}: an id occurs twice in the {kind}: {ids.tolist()}")


def _of_class(frame: EvaluationFrame, class_id: int) -> EvaluationFrame:
    truth, tracks = frame.truth, frame.tracks
    return EvaluationFrame(truth[truth.class_ids == class_id], tracks[tracks.class_ids == class_id], frame.ignored)


def counted(frame: EvaluationFrame, min_track_height: float) -> tuple[TrackTruth, Tracks2D]:
    """The truth that is scored and the tracks that count as hits or as false."""
    truth, tracks = frame.truth, frame.tracks
    overlaps = iou(truth.xyxy, tracks.xyxy)
    overlaps[overlaps < MATCH_IOU - EPSILON] = 0
    rows, columns = linear_sum_assignment(-overlaps)
    matched = overlaps[rows, columns] > 0
    rows, columns = rows[matched], columns[matched]

    heights = tracks.xyxy[:, 3] - tracks.xyxy[:, 1]
    dropped = heights <= min_track_height + EPSILON
    dropped |= (coverage(tracks.xyxy, frame.ignored) > IGNORE_COVERAGE + EPSILON).any(1)
    dropped[columns] = ~truth.scored[rows]
    return truth[truth.scored], tracks[~dropped]


def _consecutive(ids: list[Integers]) -> list[Integers]:
    """The same ids numbered from 0 without gaps."""
    known = np.unique(np.concatenate([np.zeros(0, np.int64), *ids]))
    return [np.searchsorted(known, frame) for frame in ids]


def _count_distinct(ids: list[Integers]) -> int:
    return len(np.unique(np.concatenate([np.zeros(0, np.int64), *ids])))


def _evaluate(data: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """TrackEval's own fields over all sequences together, and of each."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    silent = {"PRINT_CONFIG": False}
    together: dict[str, Any] = {}
    each: dict[str, dict[str, Any]] = {name: {} for name in data}
    for metric in (HOTA(), CLEAR(silent), Identity(silent)):
        results = {name: metric.eval_sequence(values) for name, values in data.items()}
        together.update(metric.combine_sequences(results))
        for name, fields in results.items():
            each[name].update(fields)
    return together, each


def _summary(fields: dict[str, Any]) -> TrackingScores:
    return TrackingScores(
        hota=float(np.mean(fields["HOTA"])),
        det_a=float(np.mean(fields["DetA"])),
        ass_a=float(np.mean(fields["AssA"])),
        loc_a=float(np.mean(fields["LocA"])),
        mota=float(fields["MOTA"]),
        idf1=float(fields["IDF1"]),
        id_switches=int(fields["IDSW"]),
        fragmentations=int(fields["Frag"]),
        misses=int(fields["CLR_FN"]),
        false_positives=int(fields["CLR_FP"]),
        truth=int(fields["CLR_TP"] + fields["CLR_FN"]),
        tracks=int(fields["CLR_TP"] + fields["CLR_FP"]),
        frames=int(fields["CLR_Frames"]),
        recall=float(fields["CLR_Re"]),
        precision=float(fields["CLR_Pr"]),
        motp=float(fields["MOTP"]),
        motal=float(fields["MOTAL"]),
        mostly_tracked=int(fields["MT"]),
        partly_tracked=int(fields["PT"]),
        mostly_lost=int(fields["ML"]),
        id_precision=float(fields["IDP"]),
        id_recall=float(fields["IDR"]),
    )
