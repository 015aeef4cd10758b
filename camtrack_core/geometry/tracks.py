"""Tracks: what a tracker gives back after a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from camtrack_core.geometry.boxes import ArraySet, Boxes3D, Floats, Integers, fill_motions


@dataclass(frozen=True)
class Tracks2D(ArraySet):
    """Tracked boxes in one image.

    Attributes:
        ids: (N,) int, stable over time and never used again within a run.
        xyxy: (N, 4) float, pixels of the original image.
        scores: (N,) float in [0, 1].
        class_ids: (N,) int, index into the tracker's class names.
    """

    ids: Integers
    xyxy: Floats
    scores: Floats
    class_ids: Integers

    @classmethod
    def empty(cls) -> Tracks2D:
        return cls(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Tracks3D(ArraySet):
    """Tracked boxes in space.

    Attributes:
        ids: (N,) int, stable over time and never used again within a run.
        boxes: N boxes with velocity.
        covariance: (N, 4, 4) float, of centre in metres and yaw in radians.
        scores: (N,) float in [0, 1].
        class_ids: (N,) int, index into the tracker's class names.
        turn_rates: (N,) float, radians per second about the up axis.
        motions: (N, 3) float, probability of each of MOTIONS; zeros, the default, where unknown.
    """

    ids: Integers
    boxes: Boxes3D
    covariance: Floats
    scores: Floats
    class_ids: Integers
    turn_rates: Floats
    motions: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        fill_motions(self, len(self.ids))
        super().__post_init__()

    @classmethod
    def empty(cls) -> Tracks3D:
        none = np.zeros(0, np.int64)
        return cls(none, Boxes3D.empty(), np.zeros((0, 4, 4)), np.zeros(0), none, np.zeros(0))
