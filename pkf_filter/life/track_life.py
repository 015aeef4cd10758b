"""What a frame does to the life of tracks in the image plane, compiled: the frames are small and many.

Shapes: M boxes, N tracks, C classes. The formulas of existence itself are in `existence`.
"""

from __future__ import annotations

from math import exp, log

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.image.models import COORDINATES, VALUE, overlap, to_boxes
from pkf_filter.numerics.compiled import compiled

VOTE_MEMORY = 0.95  # share of its old votes that a track keeps at each measurement
SEEN = 0.5  # probability of a measurement from which a track counts as measured
EXTREME_ODDS = 16.0  # logarithm of the odds at which scores are cut


@compiled
def usable(measurable: NDArray[np.bool_], scores: Floats, class_ids: Integers, classes: int) -> Integers:
    """Rows of the boxes that a track can be made of: measurable, with a finite score and a class id below `classes`."""
    rows, number = np.empty(len(measurable), np.int64), 0
    for k in range(len(measurable)):
        if measurable[k] and np.isfinite(scores[k]) and 0 <= class_ids[k] < classes:
            rows[number] = k
            number += 1
    return rows[:number]


@compiled
def log_odds(scores: Floats) -> Floats:
    """(M,) log(p / (1 - p)) of scores in [0, 1], within EXTREME_ODDS."""
    odds = np.empty(len(scores))
    for k in range(len(scores)):
        p = scores[k]
        value = EXTREME_ODDS if p >= 1.0 else -EXTREME_ODDS if p <= 0.0 else log(p) - log(1.0 - p)
        odds[k] = min(max(value, -EXTREME_ODDS), EXTREME_ODDS)
    return odds


@compiled
def clutter_densities(odds: Floats, density: float, offset: float, slope: float) -> Floats:
    """(M,) density of clutter of each score, over the share of true detections that have this score."""
    found = np.empty(len(odds))
    for k in range(len(odds)):
        found[k] = density * exp(-offset - slope * odds[k])
    return found


@compiled
def detection_probabilities(
    scores: Floats, covered: Floats, offset: float, slope: float, most: float, occlusion: float
) -> Floats:
    """(N,) P_D of visible objects: those of low scores are nearly too faint to be detected, and others hide them."""
    found = np.empty(len(scores))
    for j in range(len(scores)):
        faint = 1.0 / (1.0 + exp(-offset - slope * scores[j]))
        found[j] = min(faint, most) * (1.0 - occlusion * covered[j])
    return found


@compiled
def credit(
    weights: Floats,
    missed: Floats,
    z: Floats,
    odds: Floats,
    box_scores: Floats,
    class_ids: Integers,
    time_ns: int,
    score_memory: float,
    score: Floats,
    votes: Floats,
    measured: Floats,
    hits: Integers,
    seen_ns: Integers,
) -> None:
    """Score and class of each measured track follow the box that is likeliest to be its own, in place.

    Args:
        weights: (M, N), missed: (N,), of the association.
        z: (M, 4), odds: (M,), box_scores: (M,), class_ids: (M,), of the boxes; time_ns: their stamp.
        score_memory: share of the old score in the new one.
        score: (N,), votes: (N, C), measured: (N, 4), hits: (N,), seen_ns: (N,), of the tracks.
    """
    for j in range(len(missed)):
        if missed[j] >= SEEN:
            continue
        best = 0
        for k in range(len(weights)):
            if weights[k, j] > weights[best, j]:
                best = k
        score[j] += (1.0 - score_memory) * (odds[best] - score[j])
        for c in range(votes.shape[1]):
            votes[j, c] *= VOTE_MEMORY
        votes[j, class_ids[best]] += box_scores[best]
        measured[j] = z[best]
        hits[j] += 1
        seen_ns[j] = time_ns


@compiled
def ended(
    boxes: Floats,
    existence: Floats,
    hits: Integers,
    assignment: Integers,
    merge_iou: float,
    merge_hits: int,
    deletion: float,
) -> NDArray[np.bool_]:
    """(N,) whether a track is over: hardly likely to exist, or a second one of an object that has one already.

    The second one is not measured in the most probable event, and overlaps a track with at least as many hits by more
    than merge_iou. A track with more than merge_hits is an object of its own, which passes the other one.

    Args:
        boxes: (N, 4), existence: (N,), hits: (N,), of the tracks.
        assignment: (M,) the track of each box, -1 for none.
    """
    overlaps = overlap(boxes, boxes)
    second = hits <= merge_hits  # those that may be one
    for j in assignment:
        if j >= 0:
            second[j] = False
    over = np.zeros(len(boxes), np.bool_)
    for j in range(len(boxes)):
        for i in range(len(boxes)):
            if i != j and second[j] and hits[i] >= hits[j] and not over[i] and overlaps[j, i] > merge_iou:
                over[j] = True
    for j in range(len(boxes)):
        over[j] |= existence[j] < deletion
    return over


@compiled
def births(
    alone: Floats, clutter_density: Floats, overlaps: Floats, birth_density: float, min_birth: float, birth_iou: float
) -> Floats:
    """(M,) existence of the tracks that boxes start, 0 where one starts none.

    Args:
        alone: (M,) probability that a box is of no track.
        clutter_density: (M,) of boxes like this one; birth_density: of new objects, in the same units.
        overlaps: (M, N) IoU with the tracks, of which more than birth_iou prevents a birth.
        min_birth: least existence of a new track.
    """
    found = np.zeros(len(alone))
    for k in range(len(alone)):
        existence = alone[k] * birth_density / (birth_density + clutter_density[k])
        free = True
        for j in range(overlaps.shape[1]):
            free &= overlaps[k, j] <= birth_iou
        if free and existence >= min_birth:
            found[k] = existence
    return found


@compiled
def without_doubles(existence: Floats, boxes: Floats, merge_iou: float) -> Floats:
    """(M,) existence of the tracks that boxes (M, 4) start, 0 where a likelier one overlaps by more than merge_iou.

    Nearly equal boxes of one frame are of one object, which a detector has found more than once.
    """
    kept = np.zeros(len(existence))
    for k in np.argsort(-existence):
        if existence[k] <= 0.0:
            break
        first = True
        for other in range(len(existence)):
            if kept[other] > 0.0 and overlap(boxes[k : k + 1], boxes[other : other + 1])[0, 0] > merge_iou:
                first = False
        if first:
            kept[k] = existence[k]
    return kept


@compiled
def shown(
    confirmed: NDArray[np.bool_],
    seen_ns: Integers,
    ids: Integers,
    mean: Floats,
    measured: Floats,
    score: Floats,
    votes: Floats,
    time_ns: int,
    hold_ns: float,
    measured_share: float,
) -> tuple[Integers, Floats, Floats, Integers]:
    """What is published of N tracks: ids (K,), boxes (K, 4), scores (K,) and class ids (K,).

    Shown is who is confirmed and was measured within hold_ns, the likeliest class with it. The box of who is measured
    now lies `measured_share` of the way from its estimate to the measurement.
    """
    rows = np.flatnonzero(confirmed & (time_ns - seen_ns <= hold_ns))
    values, scores = np.empty((len(rows), COORDINATES)), np.empty(len(rows))
    shown_ids, class_ids = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for k, j in enumerate(rows):
        share = measured_share if seen_ns[j] == time_ns else 0.0
        for c in range(COORDINATES):
            values[k, c] = mean[j, c, VALUE] + share * (measured[j, c] - mean[j, c, VALUE])
        shown_ids[k], scores[k], class_ids[k] = ids[j], 1.0 / (1.0 + exp(-score[j])), votes[j].argmax()
    return shown_ids, to_boxes(values), scores, class_ids
