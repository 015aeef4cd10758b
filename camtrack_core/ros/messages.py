"""Boxes and tracks to vision_msgs and back.

A result's class_id is the class name, `id` the track id as a string. Boxes that are not finite are never
published and never taken in; the difference in length says how many those were.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from geometry_msgs.msg import PoseWithCovariance
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

from camtrack_core.boxes import Boxes2D, Floats
from camtrack_core.tracks import Tracks2D

_NO_POSE = PoseWithCovariance()  # shared by all results: images have no poses, and making one takes time


def from_boxes(boxes: Boxes2D, class_names: Sequence[str], header: Header) -> Detection2DArray:
    """Detections with the stamp and frame of `header` and empty ids."""
    return _array(boxes, [""] * len(boxes), class_names, header)


def from_tracks(tracks: Tracks2D, class_names: Sequence[str], header: Header) -> Detection2DArray:
    """Tracks with the stamp and frame of `header`, the track id in `id`."""
    return _array(tracks, [str(track) for track in tracks.ids], class_names, header)


def to_boxes(message: Detection2DArray, class_names: Sequence[str]) -> Boxes2D:
    """Detections of a message, each by its best hypothesis.

    Left out are those that are not finite, have no hypothesis, or whose class is not in `class_names`.
    """
    return _boxes([row for detection in message.detections if (row := _row(detection, class_names))])


def to_tracks(message: Detection2DArray, class_names: Sequence[str]) -> Tracks2D:
    """Tracks of a message, as to_boxes; those whose `id` is no whole number are left out as well."""
    kept = [
        (int(detection.id), row)
        for detection in message.detections
        if detection.id.isdecimal() and (row := _row(detection, class_names))
    ]
    boxes = _boxes([row for _, row in kept])
    ids = np.array([track for track, _ in kept], np.int64)
    return Tracks2D(ids, boxes.xyxy, boxes.scores, boxes.class_ids)


def class_names(message: Detection2DArray) -> tuple[str, ...]:
    """The class names that occur in a message, in alphabetical order."""
    return tuple(sorted({result.hypothesis.class_id for d in message.detections for result in d.results}))


def _boxes(rows: Sequence[tuple[float, ...]]) -> Boxes2D:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes2D(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _row(detection: Detection2D, class_names: Sequence[str]) -> tuple[float, ...] | None:
    """x1, y1, x2, y2, score and class index of a detection; None where it has to be left out."""
    hypotheses = (result.hypothesis for result in detection.results)
    best = max(hypotheses, key=lambda hypothesis: hypothesis.score, default=None)
    if best is None or best.class_id not in class_names:
        return None
    box, centre = detection.bbox, detection.bbox.center.position
    row = (
        centre.x - box.size_x / 2,
        centre.y - box.size_y / 2,
        centre.x + box.size_x / 2,
        centre.y + box.size_y / 2,
        best.score,
    )
    return (*row, class_names.index(best.class_id)) if all(map(isfinite, row)) else None


def _array(
    rows: Boxes2D | Tracks2D, ids: Sequence[str], class_names: Sequence[str], header: Header
) -> Detection2DArray:
    finite = np.flatnonzero(_finite(rows.xyxy, rows.scores)).tolist()
    return Detection2DArray(
        header=header,
        detections=[
            Detection2D(
                header=header,
                id=ids[row],
                bbox=_bounding_box(*rows.xyxy[row].tolist()),
                results=[_result(class_names[rows.class_ids[row]], float(rows.scores[row]))],
            )
            for row in finite
        ],
    )


def _bounding_box(x1: float, y1: float, x2: float, y2: float) -> BoundingBox2D:
    centre = Pose2D(position=Point2D(x=(x1 + x2) / 2, y=(y1 + y2) / 2))
    return BoundingBox2D(center=centre, size_x=x2 - x1, size_y=y2 - y1)


def _result(name: str, score: float) -> ObjectHypothesisWithPose:
    return ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=score), pose=_NO_POSE)


def _finite(xyxy: Floats, scores: Floats) -> np.ndarray:
    return np.isfinite(xyxy).all(1) & np.isfinite(scores)
