"""Recordings with a teacher's labels: what training takes from footage that nobody labelled, or only in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from camtrack_core.datasets.frames import Frame, Labels, Sequence
from camtrack_core.geometry.boxes import Boxes2D, Floats, coverage, iou
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.labelling.consistency import Rules, consistent_tracks
from camtrack_core.labelling.teacher import CLASS_NAMES, Detector, traffic_objects

SURE = 0.42  # score of a label in a single picture
NEGLIGIBLE = 0.1  # score below which a find in a single picture is nothing
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
        self._labels, self._ignored = rule([boxes for boxes, _ in found], [regions for _, regions in found])

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Frame]:
        for frame, tracks, regions in zip(self._source, self._labels, self._ignored, strict=True):
            labels = Labels(tracks.ids, tracks.xyxy, tracks.class_ids, np.ones(len(tracks)))
            yield replace(frame, labels=labels, ignored=regions[:, :4])


class Completed:
    """A labelled recording whose unlabelled objects, as far as a teacher sees them, are ignored regions."""

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
            yield replace(frame, ignored=np.concatenate([frame.ignored, found[~known.any(1)]]))


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
