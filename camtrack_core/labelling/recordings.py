"""Recordings with a teacher's labels: what training takes from footage that nobody labelled, or only in part.

`labelled` goes through those that a training configuration names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.frames import Frame, Labels, Sequence
from camtrack_core.datasets.sources import DRIVE, list_sources, open_source
from camtrack_core.geometry.boxes import Boxes2D, Floats, coverage, iou
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.labelling.agreement import Agreeing
from camtrack_core.labelling.consistency import Rules, consistent_tracks
from camtrack_core.labelling.picodet import PicoDet
from camtrack_core.labelling.teacher import CLASS_NAMES, Detector, Yolox, traffic_objects

SURE = 0.42  # score of a label in a single picture
NEGLIGIBLE = 0.1  # score below which a find in a single picture is nothing
SEEN, SAME = 0.3, 0.4  # score and IoU from which a find shows that a labelled object is not hidden
Rows = tuple[list[Tracks2D], list[Floats]]  # labels and regions (M, 5) of each frame


class Taught:
    """A recording without labels, with those that a teacher gives it.

    Attributes:
        name, class_names: as every recording has them.

    Args:
        source: the recording.
        detector: as `Agreeing` is.
        rule: `over_time` for a recording in order, `one_by_one` for unrelated pictures.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(
        self, source: Sequence, detector: Detector, rule: Callable[[list[Boxes2D], list[Floats]], Rows]
    ) -> None:
        self.name, self._source = source.name, source
        found = [traffic_objects(detector(frame.image)) for frame in source]
        self._finds = [boxes for boxes, _ in found]
        self._labels, self._ignored = rule(self._finds, [regions for _, regions in found])

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Frame]:
        rows = zip(self._source, self._labels, self._ignored, self._finds, strict=True)
        for frame, tracks, regions, finds in rows:
            labels = Labels(tracks.ids, tracks.xyxy, tracks.class_ids, np.ones(len(tracks)))
            yield replace(frame, labels=labels, ignored=regions[:, :4], finds=finds)


class Completed:
    """A labelled recording whose unlabelled objects, as far as a teacher sees them, are ignored regions.

    What a data set takes as hidden by the boxes of others, which are larger than the objects, is all visible where a
    teacher finds it.
    """

    def __init__(self, source: Sequence, detector: Detector) -> None:
        self.name, self.class_names = source.name, source.class_names
        self._source, self._detector = source, detector

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            assert frame.labels is not None
            objects, unclear = traffic_objects(self._detector(frame.image))
            found = np.concatenate([objects.xyxy[objects.scores >= NEGLIGIBLE], unclear[:, :4]])
            known = (iou(found, frame.labels.xyxy) > 0.3) | (coverage(found, frame.labels.xyxy) > 0.7)
            seen = _found(frame.labels.xyxy, objects.xyxy[objects.scores >= SEEN])
            labels = replace(frame.labels, visible=np.where(seen, 1.0, frame.labels.visible))
            ignored = np.concatenate([frame.ignored, found[~known.any(1)]])
            yield replace(frame, labels=labels, ignored=ignored, finds=objects)


class Still:
    """A recording of a camera that stands still: level, at the origin, wherever that may be."""

    def __init__(self, source: Sequence) -> None:
        self.name, self.class_names = source.name, source.class_names
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Frame]:
        return (replace(frame, camera_pose=Pose(OPTICAL_IN_VEHICLE, np.zeros(3))) for frame in self._source)


def _found(xyxy: Floats, finds: Floats) -> NDArray[np.bool_]:
    """(N,) whether boxes (N, 4) are found, no find (M, 4) standing for two of them, by the greatest sum of IoU."""
    overlap = iou(xyxy, finds)
    rows, columns = linear_sum_assignment(-overlap)
    found = np.zeros(len(xyxy), bool)
    found[rows[overlap[rows, columns] >= SAME]] = True
    return found


def over_time(objects: list[Boxes2D], unclear: list[Floats]) -> Rows:
    """Labels of a recording in order: what agrees over time."""
    return consistent_tracks(objects, unclear, len(CLASS_NAMES), Rules())


def one_by_one(objects: list[Boxes2D], unclear: list[Floats]) -> Rows:
    """Labels of unrelated pictures: sure finds, no object twice."""
    labels, ignored, first = [], [], 1
    for boxes, regions in zip(objects, unclear, strict=True):
        sure, perhaps = boxes[boxes.scores >= SURE], boxes[(boxes.scores < SURE) & (boxes.scores >= NEGLIGIBLE)]
        labels.append(Tracks2D(np.arange(first, first + len(sure)), sure.xyxy, sure.scores, sure.class_ids))
        ignored.append(np.concatenate([np.column_stack([perhaps.xyxy, perhaps.scores]), regions]))
        first += len(sure)
    return labels, ignored


class Named(Protocol):
    """`camtrack_core.training.commands.Recording`: a source, whose labels it gets and whether its camera moves."""

    @property
    def source(self) -> str: ...
    @property
    def labels(self) -> str: ...
    @property
    def camera(self) -> str: ...


LABELS: dict[str, Callable[[Sequence, Detector], Sequence]] = {
    "own": lambda sequence, _: sequence,
    "completed": Completed,
    "over_time": lambda sequence, detector: Taught(sequence, detector, over_time),
    "one_by_one": lambda sequence, detector: Taught(sequence, detector, one_by_one),
}


def labelled(recordings: tuple[Named, ...], data: Path, teachers: tuple[str, str]) -> Iterator[Sequence]:
    """Each recording in turn, labelled when its turn comes. Raises DataError and ModelError, naming the file."""
    detector = Agreeing(Yolox(data / teachers[0]), PicoDet(data / teachers[1]))
    for recording in recordings:
        spec = recording.source if recording.source.startswith(DRIVE) else str(data / recording.source)
        for source in list_sources(spec):
            sequence = LABELS[recording.labels](open_source(source), detector)
            yield Still(sequence) if recording.camera == "still" else sequence
