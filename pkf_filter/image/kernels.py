"""Births, deaths and output of tracks in the image plane, compiled: the frames are small and many.

Shapes: M boxes, N tracks, C classes. The formulas of existence and scores are those of `life`.
"""

from __future__ import annotations

from math import exp

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.image.models import COORDINATES, VALUE, overlap, to_boxes
from pkf_filter.numerics.compiled import compiled


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
def births(existence: Floats, overlaps: Floats, least: float, birth_iou: float) -> Floats:
    """(M,) existence of the tracks that boxes start, 0 where one starts none.

    Args:
        existence: (M,) that such tracks would have, least: that one needs.
        overlaps: (M, N) IoU with the tracks, of which more than birth_iou prevents a birth.
    """
    found = np.zeros(len(existence))
    for k in range(len(existence)):
        free = True
        for j in range(overlaps.shape[1]):
            free &= overlaps[k, j] <= birth_iou
        if free and existence[k] >= least:
            found[k] = existence[k]
    return found


@compiled
def without_doubles(existence: Floats, boxes: Floats, merge_iou: float) -> Floats:
    """(M,) existence of the tracks that boxes (M, 4) start, 0 where a likelier one overlaps by more than merge_iou.

    Nearly equal boxes of one frame are of one object, which a detector has found more than once.
    """
    kept, left = np.zeros(len(existence)), existence.copy()
    for _ in range(len(existence)):  # from the likeliest on; to compile a sort takes longer than all else here
        k = left.argmax()
        if left[k] <= 0.0:
            break
        left[k] = 0.0
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
