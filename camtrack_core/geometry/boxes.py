"""Boxes: struct-of-arrays sets of 2D and 3D boxes, and the overlaps between them.

2D boxes are (x1, y1, x2, y2) in pixels of the original image. 3D boxes are geometric centre, (length, width,
height) and yaw about the up axis of their frame. Every other convention is converted where it enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import DataError

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

MOTIONS = ("moving", "stopped", "parked")  # of an object, whose velocity may be 0 in all three


class ArraySet:
    """Base of frozen dataclasses whose fields are arrays of one common first dimension."""

    def __post_init__(self) -> None:
        columns = self._columns()
        if len({len(column) for column in columns}) > 1:
            lengths = dict(zip(self.__dataclass_fields__, map(len, columns), strict=True))  # type: ignore[attr-defined]
            raise DataError(f"{type(self).__name__}: expected fields of one length, got {lengths}")

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.__dataclass_fields__))))  # type: ignore[attr-defined]

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """The rows that a mask, a slice or an index array selects, as a set of the same type."""
        return type(self)(*(column[index] for column in self._columns()))

    def _columns(self):  # type: ignore[no-untyped-def]
        # Trackers make several sets a frame: dataclasses.fields would take most of that time.
        return [getattr(self, name) for name in self.__dataclass_fields__]


@dataclass(frozen=True)
class Boxes2D(ArraySet):
    """Detections in one image.

    Attributes:
        xyxy: (N, 4) float, pixels of the original image.
        scores: (N,) float in [0, 1].
        class_ids: (N,) int, index into the detector's class names.
    """

    xyxy: Floats
    scores: Floats
    class_ids: Integers

    @classmethod
    def empty(cls) -> Boxes2D:
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Boxes3D(ArraySet):
    """Boxes in space.

    Attributes:
        centre: (N, 3) float, metres, geometric centre in the set's frame.
        size: (N, 3) float, metres: length (along the heading), width, height.
        yaw: (N,) float, radians about the up axis of the set's frame.
        velocity: (N, 3) float, metres per second in the set's frame; NaN where unknown.
    """

    centre: Floats
    size: Floats
    yaw: Floats
    velocity: Floats

    @classmethod
    def empty(cls) -> Boxes3D:
        return cls(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)))

    def corners(self) -> Floats:
        """(N, 8, 3) corners in a frame whose z axis points up; the first four are the bottom ones."""
        signs = np.array([[x, y, z] for z in (-1, 1) for x, y in ((1, 1), (1, -1), (-1, -1), (-1, 1))]) / 2
        local = signs[None] * self.size[:, None]
        cos, sin = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x = cos * local[..., 0] - sin * local[..., 1]
        y = sin * local[..., 0] + cos * local[..., 1]
        return np.stack([x, y, local[..., 2]], -1) + self.centre[:, None]


@dataclass(frozen=True)
class Detections3D(ArraySet):
    """Detections in space.

    Attributes:
        boxes: N boxes.
        scores: (N,) float in [0, 1].
        class_ids: (N,) int, index into the detector's class names.
        motions: (N, 3) float, probability of each of MOTIONS; zeros, the default, where unknown.
    """

    boxes: Boxes3D
    scores: Floats
    class_ids: Integers
    motions: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        fill_motions(self, len(self.boxes))
        super().__post_init__()

    @classmethod
    def empty(cls) -> Detections3D:
        return cls(Boxes3D.empty(), np.zeros(0), np.zeros(0, np.int64))


def fill_motions(objects: Any, count: int) -> None:
    """Gives a frozen set of objects in space that was made without motions zeros for them."""
    if objects.motions is None:
        object.__setattr__(objects, "motions", np.zeros((count, len(MOTIONS))))


def area(xyxy: Floats) -> Floats:
    """(N,) areas of (N, 4) boxes in square pixels; 0 for inverted boxes."""
    return np.clip(xyxy[:, 2] - xyxy[:, 0], 0, None) * np.clip(xyxy[:, 3] - xyxy[:, 1], 0, None)


def intersection(a: Floats, b: Floats) -> Floats:
    """(N, M) intersection areas of boxes a (N, 4) and b (M, 4)."""
    # One side after the other: NumPy is slow along a last axis of two.
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    return np.clip(width, 0, None) * np.clip(height, 0, None)


def iou(a: Floats, b: Floats) -> Floats:
    """(N, M) intersection over union of boxes a (N, 4) and b (M, 4); 0 where both are empty."""
    overlap = intersection(a, b)
    union = area(a)[:, None] + area(b)[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def coverage(a: Floats, b: Floats) -> Floats:
    """(N, M) share of each box a (N, 4) that lies inside each box b (M, 4)."""
    overlap = intersection(a, b)
    whole = area(a)[:, None]
    return np.divide(overlap, whole, out=np.zeros_like(overlap), where=whole > 0)


def clip(xyxy: Floats, width: int, height: int) -> Floats:
    """Boxes cut to an image of the given size in pixels."""
    return np.clip(xyxy, 0, [width, height, width, height])
