"""What the track branch does with what it is asked: probes that a branch which repeats its stored box cannot pass.

A score over consecutive frames does not tell whether a network looks for an object or leaves its box where it was.
These probes take the graph apart: they store what one frame gives, ask another frame with it, and compare the answers
with the truth, with the box left standing and with a fresh detection; or they ask a picture that the object is not in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers, iou
from camtrack_core.runtime import Stored
from gcnet_tracker.tracker import FrameOutput, GCNetModel, Query

Image = NDArray[np.uint8]

FOUND = 0.5  # IoU from which a detection is an object's
STORED = 0.3  # score from which a detection is stored, as Algorithm 1 stores candidates
CLEAR = 0.5  # share of an object that must be visible for it to count
LEAST_HEIGHT = 20.0  # pixels


class Kept(NamedTuple):
    """Detections of one frame and what a tracker keeps of them: queries (c, N), values (v + 2, N)."""

    boxes: Boxes2D
    queries: Floats
    values: Floats

    def rows(self, rows: Integers) -> Kept:
        return Kept(self.boxes[rows], self.queries[:, rows], self.values[:, rows])


@dataclass(frozen=True)
class Followed:
    """N objects that were stored in one frame and asked for in another; IoU with their truth in the other.

    Attributes:
        track: of the track box.
        left: of the box of the earlier frame's truth, left where it was.
        fresh: of the best detection of the other frame.
        zeroed: of the track box where the query is zero.
        swapped: of the track box where the query is another stored object's; NaN where there is none.
        other: of the same box with that other object; NaN where there is none.
        moved: of the centre, as a share of the width.
        confidence: of the track.
    """

    track: Floats
    left: Floats
    fresh: Floats
    zeroed: Floats
    swapped: Floats
    other: Floats
    moved: Floats
    confidence: Floats

    def __getitem__(self, rows: NDArray[np.bool_]) -> Followed:
        return Followed(**{name: value[rows] for name, value in vars(self).items()})


def store(model: GCNetModel, image: Image) -> Kept:
    """What a tracker keeps of an image's detections."""
    output = _look(model, image, *model.slots())
    rows = np.flatnonzero(output.detections.scores >= STORED)
    queries, values = np.asarray(output.queries), np.asarray(output.values)
    return Kept(output.detections[rows], queries[:, rows], values[:, rows])


def ask(model: GCNetModel, image: Image, queries: Floats, values: Floats) -> FrameOutput:
    """The graph's answer to N stored queries (c, N) and values (v + 2, N); its first N track rows are theirs."""
    slots = model.slots()
    for slot, given in zip(slots, (queries, values), strict=True):
        for row in range(given.shape[1]):
            slot[:, row] = given[:, row]
    return _look(model, image, *slots)


def confidences(model: GCNetModel, image: Image, stored: Kept) -> Floats:
    """(N,) confidences of stored objects in an image."""
    return ask(model, image, stored.queries, stored.values).track_confidences[: len(stored.boxes)].copy()


def follow(model: GCNetModel, past: Frame, now: Frame, between: Sequence[Frame] = ()) -> Followed:
    """Stores what the earlier frame shows clearly and asks the later one for it; both are labelled.

    The frames in between, if any, are asked one after the other, each with what the one before gave for the tracks, as
    Algorithm 1 refreshes them; nothing is detected anew on the way.
    """
    assert past.labels is not None and now.labels is not None
    earlier, later = clear(past.labels), clear(now.labels)
    stored = store(model, past.image)
    rows, objects = pair(stored.boxes.xyxy, earlier.xyxy)
    again = np.isin(earlier.ids[objects], later.ids)
    rows, objects = rows[again], objects[again]
    found = stored.rows(rows)
    before = earlier[objects]
    row_of = {identity: row for row, identity in enumerate(later.ids.tolist())}
    truth = later.xyxy[[row_of[identity] for identity in before.ids.tolist()]].reshape(-1, 4)

    count = len(rows)
    for frame in between:
        answer = ask(model, frame.image, found.queries, found.values)
        refreshed = (np.array(x[:, :count]) for x in (answer.track_queries, answer.track_values))
        found = Kept(found.boxes, *refreshed)
    answer = ask(model, now.image, found.queries, found.values)
    track, confidence = answer.track_boxes[:count].copy(), answer.track_confidences[:count].copy()
    fresh = iou(truth, answer.detections.xyxy[answer.detections.scores >= STORED]).max(1, initial=0.0)
    zeroed = ask(model, now.image, np.zeros_like(found.queries), found.values).track_boxes[:count].copy()
    turn = np.roll(np.arange(count), 1)
    swapped = ask(model, now.image, found.queries[:, turn], found.values).track_boxes[:count].copy()
    alone = np.full(count, np.nan)
    centres = (truth[:, :2] + truth[:, 2:] - before.xyxy[:, :2] - before.xyxy[:, 2:]) / 2
    return Followed(
        _own(track, truth),
        _own(before.xyxy, truth),
        fresh,
        _own(zeroed, truth),
        _own(swapped, truth) if count > 1 else alone,
        _own(swapped, truth[turn]) if count > 1 else alone,
        np.linalg.norm(centres, axis=1) / (before.xyxy[:, 2] - before.xyxy[:, 0]),
        confidence,
    )


def join(parts: Sequence[Followed]) -> Followed:
    """The objects of several pairs of frames."""
    return Followed(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def pairs(frames: Sequence[Frame], gap: float, every: int = 1) -> Iterator[tuple[Frame, Frame]]:
    """Every so many frames one and the one `gap` seconds later, within a twentieth of a second."""
    return ((span[0], span[-1]) for span in spans(frames, gap, every))


def spans(frames: Sequence[Frame], gap: float, every: int = 1) -> Iterator[Sequence[Frame]]:
    """Every so many frames one and all up to the one `gap` seconds later, within a twentieth of a second."""
    times = np.array([frame.time_ns for frame in frames]) * 1e-9
    for index in range(0, len(frames), every):
        later = int(np.abs(times - times[index] - gap).argmin())
        if abs(times[later] - times[index] - gap) < 0.05:
            yield frames[index : later + 1]


def clear(labels: Labels) -> Labels:
    """The objects that are large and visible enough."""
    height = labels.xyxy[:, 3] - labels.xyxy[:, 1]
    return labels[(labels.visible >= CLEAR) & (height >= LEAST_HEIGHT)]


def pair(found: Floats, truth: Floats) -> tuple[Integers, Integers]:
    """Rows of boxes that belong together: each the other's best, with an IoU of FOUND at least."""
    overlap = iou(found, truth)
    if not overlap.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    best = overlap.argmax(1)
    rows = np.flatnonzero((overlap.argmax(0)[best] == np.arange(len(found))) & (overlap.max(1) >= FOUND))
    return rows, best[rows]


def _own(boxes: Floats, truth: Floats) -> Floats:
    """IoU of each box with the truth of the same row (N,)."""
    return np.diagonal(iou(boxes, truth)).copy()


def _look(model: GCNetModel, image: Image, queries: Stored, values: Stored) -> FrameOutput:
    (frame,) = model.infer([Query(image, queries, values)])
    return frame
