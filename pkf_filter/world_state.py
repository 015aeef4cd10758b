"""The state of the tracker in space: all tracks as arrays, one row each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camtrack_core.boxes import Floats, Integers
from pkf_filter import world

MAX_CLASSES = 64


class WorldState(NamedTuple):
    """All tracks, one row each. Never changed in place, so that late measurements can go back to it.

    Attributes:
        mean: (N, 10) float64, covariance: (N, 10, 10) float64, see `world`.
        ids: (N,) int64.
        classes: (N,) int64, the class of most votes, groups: (N,) int64, its group.
        existence: (N,) float64, probability.
        confirmed: (N,) bool, whether the existence has ever reached the confirmation.
        shown: (N,) bool, whether the track is confirmed, and measured or still likely to exist.
        seen_ns: (N,) int64, stamp of the last measurement.
        hits: (N,) float64, number of measurements.
        scores: (N,) float64, log odds, their mean: over the last measurements, or over all while there are few.
        facing: (N,) float64, fading sum of measurements that face as the track does, less those that face away.
        votes: (N, MAX_CLASSES) float64, fading sum of the scores of the measurements of each class.
    """

    mean: Floats
    covariance: Floats
    ids: Integers
    classes: Integers
    groups: Integers
    existence: Floats
    confirmed: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    seen_ns: Integers
    hits: Floats
    scores: Floats
    facing: Floats
    votes: Floats

    def rows(self, mask: NDArray[np.bool_]) -> WorldState:
        """The tracks that a mask (N,) selects."""
        return WorldState(*[values[mask] for values in self])  # type: ignore[arg-type]

    def joined(self, other: WorldState) -> WorldState:
        """These tracks and then the others."""
        return WorldState(*[np.concatenate(pair) for pair in zip(self, other, strict=True)])


def no_tracks() -> WorldState:
    """A state of 0 tracks."""
    n, none, ids = world.STATE_SIZE, np.zeros(0), np.zeros(0, np.int64)
    votes = np.zeros((0, MAX_CLASSES))
    return WorldState(
        np.zeros((0, n)), np.zeros((0, n, n)), ids, ids, ids, none, none > 0, none > 0, ids, none, none, none, votes
    )
