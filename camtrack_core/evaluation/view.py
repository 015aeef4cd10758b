"""Boxes in space, scored against what the camera that made them can see.

Asked for are objects up to 60 m away, at least half of whose 2D box is inside the picture and 14 pixels high, that are
not more than 80 % behind one nearer box and, where somebody counted, have 5 lidar points. All others are let pass, as
are those of a neighbouring class and what is neutral: a detection close to one of them is neither hit nor false.

Distances of a match are between centres along the ground, as nuScenes measures; places are those of the level frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.projected import project_boxes
from camtrack_core.evaluation.detection import RECALLS
from camtrack_core.geometry.boxes import ArraySet, Boxes3D, Floats, Integers, coverage, iou
from camtrack_core.geometry.camera import Camera, Pose

REACH = 60.0  # metres
LEAST_POINTS = 5
MOST_COVERED = 0.8
LEAST_INSIDE = 0.5
LEAST_HEIGHT = 14.0  # pixels
LIMITS = (0.5, 1.0, 2.0, 4.0)  # metres
BANDS = (0.0, 15.0, 25.0, 40.0, 60.0)  # metres; bounds of the bands of distance
OVERLAP = 0.5  # IoU of 2D boxes that are of one object
PASSING = 2.0  # metres; detections at least this close to what is let pass are neutral
LEAST_SCORE = 0.05  # of a detection whose depth is compared
LEAST_BAND = 5  # objects that a number of a band needs
OTHERS = ("trailer", "construction_vehicle")
GROUPS = {  # classes asked for, and what else is let pass
    "vehicle": (("car", "truck", "bus"), OTHERS),
    "car": (("car",), ("truck", "bus", *OTHERS)),
    "truck": (("truck",), ("car", "bus", *OTHERS)),
    "bus": (("bus",), ("car", "truck", *OTHERS)),
    "pedestrian": (("pedestrian",), ("cyclist", "bicycle", "motorcycle")),
    "cyclist": (("cyclist",), ("pedestrian", "motorcycle")),
}


@dataclass(frozen=True)
class Seen(ArraySet):
    """Objects of one frame.

    Attributes:
        place: (N, 2) float, metres to the right and ahead of the camera, along the ground.
        depth: (N,) float, metres along the horizontal part of the optical axis.
        xyxy: (N, 4) float, pixels, inside the image.
        class_names: (N,) str.
        score: (N,) float; of true objects 1 for those asked for and 0 for those let pass.
    """

    place: Floats
    depth: Floats
    xyxy: Floats
    class_names: NDArray[np.str_]
    score: Floats


@dataclass(frozen=True)
class ViewScores:
    """Scores of one group of classes; NaN where there are too few objects.

    Attributes:
        asked: (bands,) int, objects to find.
        ap: (len(LIMITS),) average precision, mean over 101 recalls.
        ap2d: the same of 2D boxes at IoU 0.5.
        error: (bands,) median distance along the ground of found objects (within 4 m), metres.
        depth_ratio: (bands,) median of found over true depth of objects found in the image, whatever their depth.
        recall: (len(LIMITS), bands).
    """

    asked: Integers
    ap: Floats
    ap2d: float
    error: Floats
    depth_ratio: Floats
    recall: Floats


def true_objects(
    boxes: Boxes3D, class_names: NDArray[np.str_], points: Integers | None, camera: Camera, pose: Pose,
    neutral: Boxes3D | None = None,
) -> Seen:  # fmt: skip
    """What a frame shows of boxes in the fixed frame.

    Args:
        boxes: N labelled objects; class_names (N,) of them.
        points: (N,) lidar points in each; None where nobody counted.
        camera, pose: of the optical frame in the fixed frame (z up).
        neutral: further objects that nobody labelled, let pass for any class.
    """
    xyxy, _, seen = project_boxes(boxes, camera, pose)
    place = level_places(boxes.centre, pose)
    asked = asked_for(boxes, points, camera, pose)
    labelled = Seen(place, place[:, 1], xyxy, class_names, asked.astype(float))[seen]
    if neutral is None:
        return labelled
    xyxy, _, seen = project_boxes(neutral, camera, pose)
    place = level_places(neutral.centre, pose)
    others = Seen(place, place[:, 1], xyxy, np.full(len(neutral), "any"), np.zeros(len(neutral)))[seen]
    parts = ("place", "depth", "xyxy", "class_names", "score")
    return Seen(*(np.concatenate([getattr(labelled, name), getattr(others, name)]) for name in parts))


def asked_for(boxes: Boxes3D, points: Integers | None, camera: Camera, pose: Pose) -> NDArray[np.bool_]:
    """(N,) which of all labelled objects of a frame are asked for; arguments as those of `true_objects`."""
    xyxy, inside, seen = project_boxes(boxes, camera, pose)
    place = level_places(boxes.centre, pose)
    nearer = (place[:, 1] < place[:, None, 1]) & seen
    asked = seen & (inside >= LEAST_INSIDE) & (xyxy[:, 3] - xyxy[:, 1] >= LEAST_HEIGHT)
    asked &= np.hypot(*place.T) < REACH
    if points is not None:
        asked &= points >= LEAST_POINTS
    asked &= (coverage(xyxy, xyxy) * nearer).max(1, initial=0) <= MOST_COVERED
    return np.asarray(asked, bool)


def level_places(points: Floats, pose: Pose) -> Floats:
    """(N, 2) metres to the right and ahead of a camera at `pose`, of points (N, 3) in the fixed frame, z up."""
    ahead = pose.rotation[:2, 2] / np.hypot(*pose.rotation[:2, 2])
    offset = points[:, :2] - pose.translation[:2]
    return np.stack([offset @ [ahead[1], -ahead[0]], offset @ ahead], -1)


def score_view(truth: Sequence[Seen], found: Sequence[Seen], group: str) -> ViewScores:
    """Scores of detections, one set a frame, against true objects; `group` is a name of GROUPS."""
    own, passing = GROUPS[group]
    distances = [np.hypot(*t.place[_asked(t, own)].T) for t in truth]
    distance = np.concatenate([*distances, np.zeros(0)])
    ap, recall, error = [], [], np.full(len(BANDS) - 1, np.nan)
    for limit in LIMITS:
        hits, gaps, ranks = [], [], []
        for t, f in zip(truth, found, strict=True):
            gap = np.linalg.norm(f.place[:, None] - t.place[None], axis=-1)
            beside = (gap < max(limit, PASSING)) | (iou(f.xyxy, t.xyxy) >= OVERLAP)
            hit, rank = _claims(t, f, own, passing, gap, limit, beside)
            hits.append(np.isfinite(hit[_asked(t, own)]))
            gaps.append(hit[_asked(t, own)])
            ranks += rank
        hit_all, gap_all = np.concatenate([*hits, np.zeros(0, bool)]), np.concatenate([*gaps, np.zeros(0)])
        ap.append(_average_precision(ranks, len(distance)))
        recall.append(by_band(distance, hit_all.astype(float), np.mean))
        if limit == LIMITS[-1]:
            error = by_band(distance[hit_all], gap_all[hit_all], np.median)
    ranks = []
    for t, f in zip(truth, found, strict=True):
        cost = 1 - iou(f.xyxy, t.xyxy)
        ranks += _claims(t, f, own, passing, cost, 1 - OVERLAP + 1e-9, cost <= 1 - OVERLAP + 1e-9)[1]
    asked = np.histogram(distance, BANDS)[0]
    ap2d = _average_precision(ranks, len(distance))
    return ViewScores(asked, np.array(ap), ap2d, error, _depth_ratios(truth, found, own), np.array(recall))


def standard_errors(truth: Sequence[Seen], found: Sequence[Seen], group: str, blocks: int = 8) -> ViewScores:
    """Standard errors of every score: the jackknife over `blocks` stretches of successive frames."""
    parts = np.array_split(np.arange(len(truth)), blocks)
    left = []
    for part in parts:
        kept = np.setdiff1d(np.arange(len(truth)), part)
        left.append(score_view([truth[i] for i in kept], [found[i] for i in kept], group))
    factor = np.sqrt(blocks - 1)  # of the deviation of the leave-one-out scores

    def spread(name: str) -> Floats:
        values = np.array([getattr(scores, name) for scores in left], float)
        return np.asarray(factor * values.std(0))

    whole = score_view(truth, found, group)
    return ViewScores(whole.asked, spread("ap"), float(spread("ap2d")), spread("error"), spread("depth_ratio"),
                      spread("recall"))  # fmt: skip


def by_band(distance: Floats, values: Floats, function) -> Floats:  # type: ignore[no-untyped-def]
    """(bands,) a function of the values of each band of distance; NaN for fewer than LEAST_BAND."""
    band = np.digitize(distance, BANDS)
    chosen = [values[band == i] for i in range(1, len(BANDS))]
    return np.array([float(function(x)) if len(x) >= LEAST_BAND else np.nan for x in chosen])


def _asked(truth: Seen, own: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.asarray(np.isin(truth.class_names, own) & (truth.score > 0), bool)


def _claims(
    truth: Seen, found: Seen, own: tuple[str, ...], passing: tuple[str, ...], cost: Floats, limit: float,
    beside: NDArray[np.bool_],
) -> tuple[Floats, list[tuple[float, bool]]]:  # fmt: skip
    """Detections of a frame claim the nearest object that is still free, best score first.

    Returns:
        (N,) cost of the claim of each true object, infinite where none; and score and success of every detection that
        counts.
    """
    asked = _asked(truth, own)
    passes = (np.isin(truth.class_names, own) & ~asked) | np.isin(truth.class_names, (*passing, "any"))
    neutral = np.any(beside & passes, axis=1).tolist()
    claimed = np.full(len(asked), np.inf)
    ranks: list[tuple[float, bool]] = []
    within = np.asarray(np.hypot(found.place[:, 0], found.place[:, 1]) <= REACH)
    rows = np.flatnonzero(np.isin(found.class_names, own) & within)
    for row in rows[np.argsort(-found.score[rows], kind="stable")]:
        free = np.where(asked & np.isinf(claimed), cost[row], np.inf)
        if free.min(initial=np.inf) < limit:
            claimed[free.argmin()] = free.min()
            ranks.append((float(found.score[row]), True))
        elif not neutral[row]:
            ranks.append((float(found.score[row]), False))
    return claimed, ranks


def _average_precision(ranks: list[tuple[float, bool]], asked: int) -> float:
    if asked == 0:
        return float("nan")
    true = np.array([hit for _, hit in sorted(ranks, key=lambda rank: -rank[0])], float)
    recall, precision = true.cumsum() / asked, true.cumsum() / np.arange(1, len(true) + 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(recall, RECALLS)].mean())


def _depth_ratios(truth: Sequence[Seen], found: Sequence[Seen], own: tuple[str, ...]) -> Floats:
    depth: list[float] = []
    ratio: list[float] = []
    for t, f in zip(truth, found, strict=True):
        candidates = np.isin(f.class_names, own) & (f.score > LEAST_SCORE)
        overlap = iou(f.xyxy, t.xyxy) * candidates[:, None]
        for column in np.flatnonzero(_asked(t, own) & (overlap.max(0, initial=0) >= OVERLAP)):
            depth.append(float(t.depth[column]))
            ratio.append(float(f.depth[overlap[:, column].argmax()]) / depth[-1])
    return by_band(np.array(depth), np.array(ratio), np.median)
