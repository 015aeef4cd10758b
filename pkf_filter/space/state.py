"""The state of the tracker in space: all tracks as arrays, one row each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import MOTIONS, Floats, Integers
from pkf_filter.life.scores import MAX_CLASSES
from pkf_filter.space import models as world

MOTION_RATE = 0.3  # weight of the newest measurement that tells how a track moves


class WorldState(NamedTuple):
    """All tracks, one row each. Never changed in place, so that late measurements can go back to it.

    Attributes:
        mean: (N, 10) float64, covariance: (N, 10, 10) float64, see `models`.
        ids: (N,) int64.
        classes: (N,) int64, the class of most votes, groups: (N,) int64, its group.
        existence: (N,) float64, probability.
        confirmed: (N,) bool, whether the existence has ever reached the confirmation.
        visibility: (N, S) float64, probability that each sensor can detect the object, if it exists, at its last
            frame, whose stamp is looked_ns: (N, S) int64.
        apparent: (N,) float64, the same of the last sensor in space that had the object in view.
        rival_ns: (N,) int64, stamp since which an older track shares the place, -1 where none does.
        born_ns: (N,) int64, stamp of the first measurement.
        seen_ns: (N,) int64, stamp of the last measurement, placed_ns: (N,) int64, of the last one in space.
        coasting: (N,) bool, whether the last sensor in space that had the track in view did not find it, or none had
            it in view for long.
        placed: (N,) bool, whether a sensor in space has ever measured the track; before, boxes in images count for it.
        hits: (N,) float64, number of measurements in space.
        scores: (N,) float64, log odds, their mean: over the last measurements in space, over all while there are few.
        trust: (N,) float64, log odds that these measurements are true ones, by their scores alone, the same mean.
        facing: (N,) float64, fading sum of measurements that face as the track does, less those that face away.
        votes: (N, MAX_CLASSES) float64, fading sum of the scores of the measurements of each class.
        motions: (N, 3) float64, probability of each of MOTIONS by the last measurements that tell it, or zeros.
        mode_probability: (N, K), mode_mean: (N, K, 10), mode_covariance: (N, K, 10, 10) float64, see `imm`;
            K is 2, or 0 where no class group has interacting models.
    """

    mean: Floats
    covariance: Floats
    ids: Integers
    classes: Integers
    groups: Integers
    existence: Floats
    confirmed: NDArray[np.bool_]
    visibility: Floats
    looked_ns: Integers
    apparent: Floats
    rival_ns: Integers
    born_ns: Integers
    seen_ns: Integers
    placed_ns: Integers
    coasting: NDArray[np.bool_]
    placed: NDArray[np.bool_]
    hits: Floats
    scores: Floats
    trust: Floats
    facing: Floats
    votes: Floats
    motions: Floats
    mode_probability: Floats
    mode_mean: Floats
    mode_covariance: Floats

    def rows(self, chosen: Integers) -> WorldState:
        """The tracks of these rows (K,)."""
        return WorldState(*[values.take(chosen, 0) for values in self])  # type: ignore[arg-type]

    def joined(self, other: WorldState) -> WorldState:
        """These tracks and then the others."""
        return WorldState(*[np.concatenate(pair) for pair in zip(self, other, strict=True)])


def no_tracks(modes: int = 0, sensors: int = 1) -> WorldState:
    """A state of 0 tracks of K `modes` and S `sensors`."""
    n, none, ids = world.STATE_SIZE, np.zeros(0), np.zeros(0, np.int64)
    return WorldState(
        mean=np.zeros((0, n)),
        covariance=np.zeros((0, n, n)),
        ids=ids,
        classes=ids,
        groups=ids,
        existence=none,
        confirmed=none > 0,
        visibility=np.zeros((0, sensors)),
        looked_ns=np.zeros((0, sensors), np.int64),
        apparent=none,
        rival_ns=ids,
        born_ns=ids,
        seen_ns=ids,
        placed_ns=ids,
        coasting=none > 0,
        placed=none > 0,
        hits=none,
        scores=none,
        trust=none,
        facing=none,
        votes=np.zeros((0, MAX_CLASSES)),
        motions=np.zeros((0, len(MOTIONS))),
        mode_probability=np.zeros((0, modes)),
        mode_mean=np.zeros((0, modes, n)),
        mode_covariance=np.zeros((0, modes, n, n)),
    )


def motions_after(motions: Floats, seen: Floats, weights: Floats) -> Floats:
    """(N, 3) probabilities of motions, after measurements of which some tell theirs.

    Args:
        motions: (N, 3) before them, zeros where unknown.
        seen: (M, 3), zeros where unknown.
        weights: (M, N), of the association.
    """
    if not seen.any():
        return motions
    rate = np.where(motions.any(1), MOTION_RATE, 1.0)
    told = rate * (weights.T @ seen.any(1))
    return np.asarray((1 - told)[:, None] * motions + rate[:, None] * (weights.T @ seen))


def true_detections(trust: Floats) -> Floats:
    """(N,) probability of log odds."""
    return np.asarray(1 / (1 + np.exp(-trust)))


def class_probabilities(votes: Floats) -> Floats:
    """(N, C) shares of the votes (N, C) of each track; zeros where every score was 0."""
    return np.asarray(votes / np.maximum(votes.sum(1, keepdims=True), np.finfo(float).tiny))
