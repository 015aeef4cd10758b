"""Labelled sequences as `noise` and `scores` want them: tracks of labels, and detections beside labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from camtrack_core.datasets.frames import Sequence, truth_of
from camtrack_core.datasets.kitti.rows import CLASS_NAMES, DONT_CARE, KittiObjects, from_camera, read_objects
from camtrack_core.datasets.kitti.sequences import KittiSequence, split_objects
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.errors import DataError
from camtrack_core.evaluation.nuscenes.submission import read_submission
from camtrack_core.geometry.boxes import Boxes3D, Detections3D, Floats, Integers, coverage, iou
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from pkf_filter.calibration.detector import JudgedFrame, matched
from pkf_filter.calibration.motion_noise import LabelledTrack, MatchedBoxes
from pkf_filter.space.config import WorldConfig
from pkf_filter.space.models import to_measurements

SECOND = 1_000_000_000
PERIOD = 0.1  # seconds between frames of KITTI
POINT_RCNN_TYPES = {1: "Pedestrian", 2: "Car", 3: "Cyclist"}
POINT_RCNN_FIELDS = 15  # frame,type,x1,y1,x2,y2,score,h,w,l,x,y,z,rotation_y,alpha
SAME_IMAGE = 0.5  # IoU from which a box in the image is that of the label
LABELLED = 0.99  # share of the labels within the view that counts as labelled
UNLABELLED = 0.5  # share of a box in an ignored region from which it is not judged
HERE = Pose(np.eye(3), np.zeros(3))
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ComparedFrame:
    """Detections and labels of one frame; all boxes in space in one frame of reference.

    Attributes:
        time: seconds.
        ids, labels, label_groups: of L objects. label_groups: (L,) int, index into `WorldConfig.groups`.
        detections, detection_groups: of D detections.
        label_names, detection_names: (L,), (D,) class names.
        sensor: its pose, x forward.
        label_xyxy, xyxy, ignored: (L, 4), (D, 4), (I, 4) boxes in the image and regions without labels, pixels; without
            rows where the detections have no boxes in the image.
    """

    time: float
    ids: Integers
    labels: Boxes3D
    label_groups: Integers
    detections: Detections3D
    detection_groups: Integers
    sensor: Pose
    label_xyxy: Floats
    xyxy: Floats
    ignored: Floats
    label_names: list[str]
    detection_names: list[str]


def labelled_tracks(sequence: Sequence) -> list[LabelledTrack]:
    """Tracks of the labels in space.

    Raises DataError where the sequence has none: no boxes in space, or the vehicle's own motion is unknown.
    """
    rows: dict[int, list[tuple[float, Floats]]] = {}
    names: dict[int, str] = {}
    for truth in truth_of(sequence):
        if truth.labels is None or truth.boxes3d is None:
            continue
        values = to_measurements(truth.boxes3d)
        for i, identity in enumerate(truth.labels.ids.tolist()):
            rows.setdefault(identity, []).append((truth.time_ns / SECOND, values[i]))
            names[identity] = sequence.class_names[truth.labels.class_ids[i]]
    if not rows:
        raise DataError(f"{sequence.name}: expected labelled boxes in space and known ego motion, found none")
    return [
        LabelledTrack(names[identity], np.array([time for time, _ in found]), np.stack([value for _, value in found]))
        for identity, found in rows.items()
    ]


def compared_frames(sequence: Sequence, detections: Path, config: WorldConfig) -> list[ComparedFrame]:
    """A sequence beside detections of it.

    Args:
        sequence: of KITTI tracking or nuScenes.
        detections: for KITTI a text, or a folder with a text NAME.txt for each sequence, in KITTI's own form with
            scores or in that of PointRCNN's published detections; for nuScenes a submission (JSON).
        config: names the groups.

    Raises:
        DataError: another data set, or the detections are missing or broken.
    """
    if isinstance(sequence, KittiSequence) and sequence.objects is not None:
        path = detections / f"{sequence.name}.txt" if detections.is_dir() else detections
        return list(_kitti(sequence.objects, len(sequence), read_kitti_detections(path), config))
    if isinstance(sequence, NuScenesSequence):
        return list(_nuscenes(sequence, detections, config))
    raise DataError(f"{sequence.name}: detections can be compared with labels of KITTI tracking and of nuScenes only")


def read_kitti_detections(path: Path) -> KittiObjects:
    """Detections of a sequence; scores that are no probabilities are taken as the logarithm of odds.

    Raises DataError where the file is missing or broken.
    """
    try:
        first = path.read_text().partition("\n")[0]
        objects = _point_rcnn(np.loadtxt(path, delimiter=",", ndmin=2)) if "," in first else read_objects(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"expected detections in KITTI's form or PointRCNN's in {path}, got: {error}") from None
    if not np.isfinite(objects.scores).all():
        raise DataError(f"{path}: expected detections with scores, got none")
    if ((objects.scores < 0) | (objects.scores > 1)).any():
        objects = replace(objects, scores=expit(objects.scores))
    return objects


def _point_rcnn(rows: Floats) -> KittiObjects:
    if rows.shape[1] != POINT_RCNN_FIELDS:
        raise ValueError(f"{rows.shape[1]} fields instead of {POINT_RCNN_FIELDS}")
    kinds = np.array([POINT_RCNN_TYPES[int(kind)] for kind in rows[:, 1]], np.str_)
    none = np.zeros(len(rows), np.int64)
    boxes = from_camera(rows[:, 10:13], rows[:, 7:10], rows[:, 13])
    return KittiObjects(rows[:, 0].astype(np.int64), none - 1, kinds, none, none, rows[:, 2:6], boxes, rows[:, 6])


def _kitti(objects: KittiObjects, length: int, found: KittiObjects, config: WorldConfig) -> Iterator[ComparedFrame]:
    for frame in range(length):
        labels, ignored, boxes = split_objects(objects[objects.frames == frame])
        rows = found[(found.frames == frame) & (found.kinds != DONT_CARE)]
        found_names = rows.kinds.tolist()
        groups = _groups(found_names, config)
        names = [CLASS_NAMES[i] for i in labels.class_ids]
        yield ComparedFrame(
            frame * PERIOD,
            labels.ids,
            boxes,
            _groups(names, config),
            Detections3D(rows.boxes, rows.scores, groups),
            groups,
            HERE,
            labels.xyxy,
            rows.xyxy,
            ignored,
            names,
            found_names,
        )


def _nuscenes(sequence: NuScenesSequence, path: Path, config: WorldConfig) -> Iterator[ComparedFrame]:
    submission = read_submission(path)
    for truth, key in zip(sequence.truth(), sequence.keys(), strict=True):
        if key is None or truth.labels is None or truth.boxes3d is None or key[0] not in submission:
            continue
        token, camera = key
        found = submission[token]
        found_names = found.names.tolist()
        groups = _groups(found_names, config)
        names = [sequence.class_names[i] for i in truth.labels.class_ids]
        nowhere = np.zeros((0, 4))
        yield ComparedFrame(
            truth.time_ns / SECOND,
            truth.labels.ids,
            truth.boxes3d,
            _groups(names, config),
            Detections3D(found.boxes, found.scores, groups),
            groups,
            Pose(camera.rotation @ OPTICAL_IN_VEHICLE.T, camera.translation),
            nowhere,
            nowhere,
            nowhere,
            names,
            found_names,
        )


def _groups(names: list[str], config: WorldConfig) -> Integers:
    return np.array([config.group_of(name) for name in names], np.int64)


# --- Which detection is of which label


def matches_in_space(frame: ComparedFrame, reach: float) -> Integers:
    """(L,) the detection of each label, -1 for none: of its group, with a centre at most `reach` metres off."""
    off = frame.labels.centre[:, None, :2] - frame.detections.boxes.centre[None, :, :2]
    other = frame.label_groups[:, None] != frame.detection_groups[None]
    return matched(np.linalg.norm(off, axis=-1) + np.where(other, np.inf, 0.0), reach)


def matched_classes(frames: list[ComparedFrame], reach: float, score: float) -> list[tuple[str, str]]:
    """Class of the label and of the detection, of all pairs in space whatever their classes are.

    Args:
        reach: metres between centres at most; score: of the detections that count, at least.
    """
    pairs = []
    for frame in frames:
        off = np.linalg.norm(frame.labels.centre[:, None, :2] - frame.detections.boxes.centre[None, :, :2], axis=-1)
        taken = matched(np.where(frame.detections.scores >= score, off, np.inf), reach)
        pairs += [(frame.label_names[i], frame.detection_names[k]) for i, k in enumerate(taken.tolist()) if k >= 0]
    return pairs


def matches_in_image(frame: ComparedFrame) -> Integers:
    """(L,) the detection of each label, -1 for none: of its group, overlapping it."""
    apart = 1.0 - iou(frame.label_xyxy, frame.xyxy)
    other = frame.label_groups[:, None] != frame.detection_groups[None]
    return matched(apart + np.where(other, np.inf, 0.0), 1.0 - SAME_IMAGE)


def matched_boxes(frames: list[ComparedFrame], reach: float) -> MatchedBoxes:
    """All pairs of detections and labels, in space."""
    pairs = []
    for frame in frames:
        taken = matches_in_space(frame, reach)
        hit = taken >= 0
        origin = np.tile(frame.sensor.translation, (int(hit.sum()), 1))
        detected = frame.detections.boxes[taken[hit]]
        pairs.append(MatchedBoxes(detected, frame.labels[hit], origin, frame.label_groups[hit]))
    return joined(pairs)


def joined(pairs: list[MatchedBoxes]) -> MatchedBoxes:
    """All rows in one set."""

    def boxes(sets: list[Boxes3D]) -> Boxes3D:
        columns = ("centre", "size", "yaw", "velocity")
        return Boxes3D(*(np.concatenate([getattr(one, name) for one in sets]) for name in columns))

    return MatchedBoxes(
        boxes([one.detected for one in pairs]),
        boxes([one.labelled for one in pairs]),
        np.concatenate([one.origin for one in pairs]),
        np.concatenate([one.groups for one in pairs]),
    )


@dataclass(frozen=True)
class LabelledView:
    """The part of a sensor's surroundings that is labelled: as far, and as far to the sides, as labels go.

    Attributes:
        range: metres; bearing: radians to either side.
    """

    range: float
    bearing: float

    @property
    def area(self) -> float:
        """Square metres of ground."""
        return self.bearing * self.range**2

    def holds(self, boxes: Boxes3D, sensor: Pose) -> Mask:
        distance, bearing = _polar(boxes, sensor)
        return (distance <= self.range) & (bearing <= self.bearing)


def labelled_view(frames: list[ComparedFrame]) -> LabelledView:
    """The view that holds all labels but the farthest."""
    polar = [_polar(frame.labels, frame.sensor) for frame in frames]
    distance, bearing = (np.concatenate(column) for column in zip(*polar, strict=True))
    return LabelledView(float(np.quantile(distance, LABELLED)), float(np.quantile(bearing, LABELLED)))


def _polar(boxes: Boxes3D, sensor: Pose) -> tuple[Floats, Floats]:
    """Distance on the ground, and angle from the sensor's x axis, not negative."""
    off = (boxes.centre - sensor.translation) @ sensor.rotation
    return np.linalg.norm(off[:, :2], axis=1), np.abs(np.arctan2(off[:, 1], off[:, 0]))


def judged_in_space(frames: list[ComparedFrame], view: LabelledView, reach: float) -> list[JudgedFrame]:
    """Which detections in the labelled view are true, in space."""
    found = []
    for frame in frames:
        labelled = view.holds(frame.detections.boxes, frame.sensor) & ~_ignored(frame)
        scores = frame.detections.scores
        found.append(JudgedFrame(frame.time, frame.ids, matches_in_space(frame, reach), scores, labelled))
    return found


def judged_in_image(frames: list[ComparedFrame]) -> list[JudgedFrame]:
    """Which detections are true, in the image."""
    return [
        JudgedFrame(frame.time, frame.ids, matches_in_image(frame), frame.detections.scores, ~_ignored(frame))
        for frame in frames
    ]


def _ignored(frame: ComparedFrame) -> Mask:
    """(D,) bool, whether a detection lies in a region without labels."""
    if not len(frame.xyxy):
        return np.zeros(len(frame.detections), np.bool_)
    return coverage(frame.xyxy, frame.ignored).max(1, initial=0.0) > UNLABELLED
