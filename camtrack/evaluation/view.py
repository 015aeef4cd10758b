"""`camtrack evaluate --view`: boxes in space against what the evaluated cameras can see, whatever the data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camtrack.evaluation.run import find_predictions, sequences_of
from camtrack_core.datasets.frames import Sequence, Truth, truth_of
from camtrack_core.datasets.kitti.rows import TO_VEHICLE, read_objects
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.errors import DataError
from camtrack_core.evaluation.nuscenes.submission import read_submission
from camtrack_core.evaluation.space import SpaceFrame, average_mota, score_in_space
from camtrack_core.evaluation.view import (
    GROUPS,
    REACH,
    Seen,
    ViewScores,
    level_places,
    score_view,
    standard_errors,
    true_objects,
)
from camtrack_core.geometry.boxes import ArraySet, Floats, Integers
from camtrack_core.geometry.camera import Pose

# What data sets and texts call the classes; what is not named here keeps its name in lower case.
NAMES = {"van": "car", "bicycle": "cyclist", "rider": "cyclist", "person": "pedestrian", "tram": "any", "misc": "any"}
WRITTEN = {"misc": "bus", "bicycle": "cyclist"}  # KITTI's text has no word for a bus
APART = 1_000_000  # between the ids of two sequences


@dataclass(frozen=True)
class Tracked(ArraySet):
    """Objects of one frame in the fixed frame, beside what the camera sees of them.

    Attributes:
        ids: (N,) int.
        centres: (N, 3) metres.
        seen: N rows.
    """

    ids: Integers
    centres: Floats
    seen: Seen


@dataclass(frozen=True)
class InView:
    """Scores of one group of classes.

    Attributes:
        scores: of detections; errors: their standard errors, by stretches of frames.
        hota, amota: of the tracks, matched within 2 m; NaN where the predictions have no ids.
    """

    scores: ViewScores
    errors: ViewScores
    hota: float
    amota: float


def evaluate_view(predictions: Path, truth: list[str]) -> dict[str, InView]:
    """Scores by the name of the group (`camtrack_core.evaluation.view.GROUPS`); of those that the truth has.

    Args:
        predictions: a submission of nuScenes, or KITTI's text, or a folder with one for each sequence, as
            `camtrack track --method time3d` writes them.
        truth: sources or data sets with calibrated cameras and boxes in space.

    Raises:
        DataError: predictions are missing or broken, or the truth has no camera or no boxes in space.
    """
    sequences = list(sequences_of(truth))
    asked: list[Tracked] = []
    found: list[Tracked] = []
    for number, sequence in enumerate(sequences):
        said = _found(predictions, sequence, len(sequences))
        for one, tracks in zip(_truth(sequence), said, strict=True):
            if one.boxes3d is not None:
                asked.append(_apart(_true(one, sequence.class_names), number))
                found.append(_apart(tracks, number))
    true, detected = [one.seen for one in asked], [one.seen for one in found]
    scored = {group: score_view(true, detected, group) for group in GROUPS}
    return {
        group: InView(scores, standard_errors(true, detected, group), *_tracking(asked, found, group))
        for group, scores in scored.items()
        if scores.asked.sum()
    }


def _tracking(asked: list[Tracked], found: list[Tracked], group: str) -> tuple[float, float]:
    own, _ = GROUPS[group]
    if not any(len(one) and one.ids.min() >= 0 for one in found):
        return float("nan"), float("nan")
    frames, scores = [], []
    for true, tracks in zip(asked, found, strict=True):
        of_group = np.isin(true.seen.class_names, own)
        kept = np.isin(tracks.seen.class_names, own) & (np.hypot(*tracks.seen.place.T) <= REACH)
        scored = of_group & (true.seen.score > 0)
        frames.append(SpaceFrame(true.ids, true.centres, scored, tracks.ids[kept], tracks.centres[kept]))
        scores.append(tracks.seen.score[kept])
    return score_in_space(frames)[0].hota, average_mota(frames, scores)


def _truth(sequence: Sequence) -> Iterator[Truth]:
    """Raises DataError where a labelled frame has no camera or no boxes in space."""
    for one in truth_of(sequence):
        if one.labels is not None and (one.camera is None or one.camera_pose is None or one.boxes3d is None):
            raise DataError(
                f"{sequence.name}, frame {one.number}: expected a calibrated camera with its pose, and boxes in space"
            )
        yield one


def _true(truth: Truth, class_names: tuple[str, ...]) -> Tracked:
    labels, boxes, camera, pose = truth.labels, truth.boxes3d, truth.camera, truth.camera_pose
    assert labels is not None and boxes is not None and camera is not None and pose is not None
    names = np.array([NAMES.get(name.lower(), name.lower()) for name in class_names], np.str_)[labels.class_ids]
    shown = project_boxes(boxes, camera, pose)[2]
    return Tracked(labels.ids[shown], boxes.centre[shown], true_objects(boxes, names, truth.lidar_points, camera, pose))


def _found(predictions: Path, sequence: Sequence, count: int) -> Iterator[Tracked]:
    """What was found in each frame of a sequence."""
    if isinstance(sequence, NuScenesSequence):
        return _submitted(predictions, sequence)
    return _written(find_predictions(predictions, sequence.name, count), sequence)


def _submitted(predictions: Path, sequence: NuScenesSequence) -> Iterator[Tracked]:
    """Their boxes in the image are those around the boxes in space."""
    file = predictions / f"{sequence.name}.json" if predictions.is_dir() else predictions
    found = read_submission(file)
    numbers = {name: k for k, name in enumerate(sorted({i for boxes in found.values() for i in boxes.ids.tolist()}))}
    for truth, key in zip(sequence.truth(), sequence.keys(), strict=True):
        boxes = found.get(key[0]) if key is not None else None
        if boxes is None or truth.camera is None or truth.camera_pose is None:
            yield NOTHING
            continue
        xyxy, _, shown = project_boxes(boxes.boxes, truth.camera, truth.camera_pose)
        ids = np.array([numbers[name] if name else -1 for name in boxes.ids.tolist()], np.int64)
        seen = _seen(boxes.boxes.centre, truth.camera_pose, xyxy, boxes.names.tolist(), boxes.scores)
        yield Tracked(ids, boxes.boxes.centre, seen)[shown]


def _written(file: Path, sequence: Sequence) -> Iterator[Tracked]:
    rows = read_objects(file)
    if (rows.boxes.size <= 0).any() or not np.isfinite(rows.scores).all():
        raise DataError(f"{file}: expected tracks with boxes in space and scores")
    mounting = sequence.mounting() if isinstance(sequence, KittiSequence) else None
    place = (TO_VEHICLE if mounting is None else mounting).inverse()
    for index, truth in enumerate(_truth(sequence)):
        of_frame = rows[rows.frames == index]
        if truth.camera_pose is None:
            yield NOTHING
            continue
        centres = (truth.camera_pose @ place).apply(of_frame.boxes.centre)
        names = [WRITTEN.get(kind.lower(), kind.lower()) for kind in of_frame.kinds.tolist()]
        seen = _seen(centres, truth.camera_pose, of_frame.xyxy, names, of_frame.scores)
        yield Tracked(of_frame.ids, centres, seen)


def _seen(centres: Floats, pose: Pose, xyxy: Floats, names: list[str], scores: Floats) -> Seen:
    place = level_places(centres, pose)
    own = np.array([NAMES.get(name, name) for name in names], np.str_)
    return Seen(place, place[:, 1], xyxy, own, scores)


def _apart(tracked: Tracked, number: int) -> Tracked:
    ids = np.where(tracked.ids >= 0, tracked.ids + number * APART, tracked.ids)
    return Tracked(ids, tracked.centres, tracked.seen)


EMPTY = np.zeros((0, 2))
NOTHING = Tracked(
    np.zeros(0, np.int64),
    np.zeros((0, 3)),
    Seen(EMPTY, np.zeros(0), np.zeros((0, 4)), np.zeros(0, np.str_), np.zeros(0)),
)
