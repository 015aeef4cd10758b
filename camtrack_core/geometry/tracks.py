"""Tracks: what a tracker gives back after a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
class TrackStates(ArraySet):
    """What a filter knows of tracks in space beside their boxes.

    Attributes:
        existence: (N,) float, probability that there is an object.
        class_probabilities: (N, C) float, of the tracker's C class names.
        velocity_covariance: (N, 2, 2) float, of the velocity on the ground, (m / s)^2.
        resting: (N,) float, probability that the object is at rest.
        facing: (N,) float, fading number of measurements that face as the box does, less those that face away.
        coasting: (N,) bool, whether the track is predicted, and not measured where it could have been.
        age: (N,) float, seconds since the first measurement, silence: (N,) float, since the last one.
    """

    existence: Floats
    class_probabilities: Floats
    velocity_covariance: Floats
    resting: Floats
    facing: Floats
    coasting: NDArray[np.bool_]
    age: Floats
    silence: Floats

    @classmethod
    def unknown(cls, scores: Floats) -> TrackStates:
        """Of tracks that carry no more than a score: NaN where nothing is known."""
        count = len(scores)
        unknown, covariance = np.full(count, np.nan), np.full((count, 2, 2), np.nan)
        return cls(
            scores, np.zeros((count, 0)), covariance, unknown, unknown, np.zeros(count, bool), unknown, np.zeros(count)
        )


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
        states: what a filter knows of them beside; unknown by default.
    """

    ids: Integers
    boxes: Boxes3D
    covariance: Floats
    scores: Floats
    class_ids: Integers
    turn_rates: Floats
    motions: Floats = None  # type: ignore[assignment]
    states: TrackStates = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        fill_motions(self, len(self.ids))
        _fill_states(self)
        super().__post_init__()

    @classmethod
    def empty(cls) -> Tracks3D:
        none = np.zeros(0, np.int64)
        return cls(none, Boxes3D.empty(), np.zeros((0, 4, 4)), np.zeros(0), none, np.zeros(0))


def _fill_states(tracks: Any) -> None:
    """Gives frozen tracks that were made without states those of which nothing is known."""
    if tracks.states is None:
        object.__setattr__(tracks, "states", TrackStates.unknown(tracks.scores))
