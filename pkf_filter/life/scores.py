"""What the score of a detection says, and what remains of scores and classes in a track: one model for both trackers.

Whether a detection is true is logistic in the log odds of its score, and so is whether an object is detected in those
of its track's score. Shapes: M measurements, N tracks, C classes.
"""

from __future__ import annotations

from math import exp, log

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.numerics.compiled import compiled

MAX_CLASSES = 64
MAX_BOXES = 500  # of a frame; of more the best are taken
EXTREME_ODDS = 16.0  # logarithm of the odds at which scores are cut: 0 and 1 are not taken for certain
VOTE_MEMORY = 0.95  # share of its old votes that a track keeps at each measurement
SEEN = 0.5  # probability of a measurement from which a track counts as measured
CHANCE = 0.98  # probability at most that an object which can be detected is detected in a frame


@compiled
def log_odds(probability: float) -> float:
    """log(p / (1 - p)) of a probability in [0, 1], within EXTREME_ODDS."""
    if probability <= 0.0:
        return -EXTREME_ODDS
    if probability >= 1.0:
        return EXTREME_ODDS
    return min(max(log(probability) - log(1.0 - probability), -EXTREME_ODDS), EXTREME_ODDS)


@compiled
def evidence(scores: Floats, offset: float, slope: float) -> Floats:
    """(M,) log of how much likelier each score is of a true than of a false detection; none at the score `offset`."""
    found = np.empty(len(scores))
    for k in range(len(scores)):
        found[k] = slope * (log_odds(scores[k]) - log_odds(offset))
    return found


@compiled
def detected_shares(scores: Floats, probability: float, offset: float, slope: float) -> Floats:
    """(N,) share of the time in which objects are detected: a detector misses more of those that it scores low.

    Args:
        scores: (N,) log odds of the tracks' scores.
        probability: that share, of an object of the score `offset`.
        slope: log odds of the share per log odds of the score.
    """
    found = np.empty(len(scores))
    for j in range(len(scores)):
        odds = log_odds(probability) + slope * (scores[j] - log_odds(offset))
        found[j] = 1.0 / (1.0 + exp(-odds))
    return found


@compiled
def usable(measurable: NDArray[np.bool_], scores: Floats, class_ids: Integers, classes: int) -> Integers:
    """Rows of the boxes that a track can be made of: measurable, with a finite score and a class id below `classes`."""
    rows, number = np.empty(len(measurable), np.int64), 0
    for k in range(len(measurable)):
        if measurable[k] and np.isfinite(scores[k]) and 0 <= class_ids[k] < classes:
            rows[number] = k
            number += 1
    return rows[:number]


def best(rows: Integers, scores: Floats) -> Integers:
    """The rows (K,), in order, or those MAX_BOXES of them whose scores (M,) are the highest."""
    if len(rows) <= MAX_BOXES:
        return rows
    return np.sort(rows[np.argsort(-scores[rows], kind="stable")[:MAX_BOXES]])


@compiled
def credit(
    weights: Floats,
    missed: Floats,
    scores: Floats,
    class_ids: Integers,
    voted: Floats,
    shares: Floats,
    track_scores: Floats,
    votes: Floats,
) -> Integers:
    """Scores and votes of each measured track follow the measurement that is likeliest to be its own, in place.

    Args:
        weights: (M, N), missed: (N,), of the association.
        scores: (M,) in [0, 1], class_ids: (M,), of the measurements.
        voted: (K, C) share of a measurement's vote, by its class, for each class.
        shares: (N,) of the old score in the new one.
        track_scores: (N,) log odds, votes: (N, C), of the tracks.

    Returns:
        (N,) that measurement, -1 where a track counts as missed.
    """
    own = np.full(len(missed), -1, np.int64)
    for j in range(len(missed)):
        if missed[j] >= SEEN or not len(weights):
            continue
        best = 0
        for k in range(len(weights)):
            if weights[k, j] > weights[best, j]:
                best = k
        own[j] = best
        track_scores[j] += (1.0 - shares[j]) * (log_odds(scores[best]) - track_scores[j])
        for c in range(votes.shape[1]):
            votes[j, c] = VOTE_MEMORY * votes[j, c] + scores[best] * voted[class_ids[best], c]
    return own
