"""The arithmetic of one step of the tracker in space, compiled: the frames are small and many.

Shapes: M measurements, N tracks, C classes, G groups. Existence is that of joint integrated probabilistic data
association (see `existence`, which has the same formulas for the image plane).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.numerics.compiled import compiled

VOTE_MEMORY = 0.95  # share of its old votes that a track keeps at each measurement
SEEN = 0.5  # probability of a measurement from which a track counts as measured
OUT_OF_VIEW = 0.05  # factor on the detection probability: the edge of the view is not sharp
SMALLEST_ODDS = 1e-6  # a score of 0 or 1 is not taken for certain


@compiled
def log_odds(probability: float) -> float:
    """log(p / (1 - p)) of a score in [0, 1]."""
    p = min(max(probability, SMALLEST_ODDS), 1.0 - SMALLEST_ODDS)
    return float(np.log(p / (1.0 - p)))


@compiled
def evidence(scores: Floats, offset: float, slope: float) -> Floats:
    """(M,) log of how much likelier each score is of a true than of a false detection; none at the score `offset`."""
    found = np.empty(len(scores))
    for k in range(len(scores)):
        found[k] = slope * (log_odds(scores[k]) - log_odds(offset))
    return found


@compiled
def detection_probabilities(
    in_view: NDArray[np.bool_], scores: Floats, probability: float, offset: float, slope: float
) -> Floats:
    """(N,) P_D of tracks that exist: a detector misses more of the objects that it scores low.

    Args:
        scores: (N,) log odds of the tracks' scores.
        probability: P_D of an object of the score `offset`.
        slope: log odds of P_D per log odds of the score.
    """
    found = np.empty(len(scores))
    for j in range(len(scores)):
        odds = log_odds(probability) + slope * (scores[j] - log_odds(offset))
        found[j] = 1.0 / (1.0 + np.exp(-odds))
        if not in_view[j]:
            found[j] *= OUT_OF_VIEW
    return found


@compiled
def event_weights(
    log_density: Floats,
    existence: Floats,
    detected: Floats,
    class_mismatch: float,
    seen: Integers,
    classes: Integers,
    groups: Integers,
) -> tuple[Floats, Floats]:
    """Log likelihoods (M, N) of pairs, -inf where impossible, and (N,) of tracks without measurement.

    A pair weighs r P_D N(z; h(x), S), a track without measurement 1 - r P_D.

    Args:
        log_density: (M, N) of N(z; h(x), S), -inf beyond the gate.
        existence: (N,) r, detected: (N,) P_D.
        class_mismatch: factor where the classes differ; classes of different `groups` (C,) never pair.
        seen: (M,) classes of the measurements, classes: (N,) of the tracks.
    """
    pairs = np.full(log_density.shape, -np.inf)
    missed = np.empty(len(classes))
    other_class = np.log(class_mismatch)
    for j in range(len(classes)):
        missed[j] = np.log1p(-existence[j] * detected[j])
        exists = np.log(existence[j] * detected[j])
        for k in range(len(seen)):
            if log_density[k, j] > -np.inf and groups[seen[k]] == groups[classes[j]]:
                pairs[k, j] = log_density[k, j] + exists
                if seen[k] != classes[j]:
                    pairs[k, j] += other_class
    return pairs, missed


@compiled
def turned_back(yaw: Floats, fading: Floats, facing: Floats, weights: Floats) -> Floats:
    """Turn, in place, the yaw (N,) of tracks that most measurements face away from; returns the new `fading` (N,).

    Args:
        fading: (N,) sum of measurements that face as the track does, less those that face away.
        facing: (M, N) 1, -1 or 0 of each pair, weights: (M, N).
    """
    after = VOTE_MEMORY * fading
    for j in range(len(after)):
        for k in range(len(weights)):
            if weights[k, j] > 0.0:
                after[j] += weights[k, j] * facing[k, j]
        if after[j] < 0.0:
            yaw[j] += np.pi
            after[j] = -after[j]
    return after


@compiled
def seen(
    missed: Floats,
    existence: Floats,
    confirmed: NDArray[np.bool_],
    shown: NDArray[np.bool_],
    seen_ns: Integers,
    time_ns: int,
    confirmation: float,
    hold: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Integers]:
    """New `confirmed`, `shown` and `seen_ns` (N,) of tracks after a measurement; see WorldState.

    Args:
        missed: (N,) of the association, existence: (N,) after it.
        confirmation: existence that confirms a track, and that one which is shown needs to stay so.
        hold: existence from which a confirmed track is shown again.
    """
    confirmed, shown, seen_ns = confirmed.copy(), shown.copy(), seen_ns.copy()
    for j in range(len(missed)):
        likely = existence[j] >= confirmation
        confirmed[j] |= likely
        shown[j] = confirmed[j] and ((shown[j] and likely) or existence[j] >= hold)
        if missed[j] < SEEN:
            seen_ns[j] = time_ns
    return confirmed, shown, seen_ns


@compiled
def placed(
    missed: Floats, existence: Floats, confirmed: NDArray[np.bool_], placed_ns: Integers, time_ns: int, hold: float
) -> tuple[NDArray[np.bool_], Integers]:
    """New `shown` and `placed_ns` (N,) of tracks after a measurement in space; arguments as of `seen`."""
    shown, placed_ns = confirmed.copy(), placed_ns.copy()
    for j in range(len(missed)):
        if missed[j] < SEEN:
            placed_ns[j] = time_ns
        shown[j] &= placed_ns[j] == time_ns or existence[j] >= hold
    return shown, placed_ns


@compiled
def alive(seen_ns: Integers, existence: Floats, time_ns: int, silence_ns: float, deletion: float) -> Integers:
    """Rows of the tracks that were measured at most silence_ns before time_ns and exist with at least `deletion`."""
    return np.flatnonzero((time_ns - seen_ns <= silence_ns) & (existence >= deletion))


@compiled
def voted(
    weights: Floats,
    missed: Floats,
    seen_scores: Floats,
    seen_classes: Integers,
    hits: Floats,
    scores: Floats,
    votes: Floats,
    classes: Integers,
    memory: float,
) -> tuple[Floats, Floats, Floats, Integers]:
    """New hits (N,), scores (N,), votes (N, C) and classes (N,) of tracks; each measured one by its likeliest.

    Args:
        weights: (M, N), missed: (N,), of the association.
        seen_scores: (M,) in [0, 1], seen_classes: (M,) of the measurements.
        hits, scores, votes, classes: of the tracks, see WorldState.
        memory: largest share of the old score in the new one.
    """
    hits, scores, votes, classes = hits.copy(), scores.copy(), votes.copy(), classes.copy()
    for j in range(len(missed)):
        if missed[j] >= SEEN or not len(seen_scores):
            continue
        best = 0
        for k in range(len(seen_scores)):
            if weights[k, j] > weights[best, j]:
                best = k
        share = min(hits[j] / (hits[j] + 1.0), memory)
        scores[j] = share * scores[j] + (1.0 - share) * log_odds(seen_scores[best])
        hits[j] += 1.0
        chosen = 0
        for c in range(votes.shape[1]):
            votes[j, c] *= VOTE_MEMORY
            if c == seen_classes[best]:
                votes[j, c] += seen_scores[best]
            if votes[j, c] > votes[j, chosen]:
                chosen = c
        classes[j] = chosen
    return hits, scores, votes, classes


@compiled
def expected_and_found(
    shown: NDArray[np.bool_], in_view: NDArray[np.bool_], unhidden: Floats, missed: Floats
) -> tuple[float, float]:
    """How many of the shown tracks a sensor should have detected, and how many of these it did.

    Args:
        shown, in_view: (N,), unhidden: (N,) share of a track's detections that those before it leave.
        missed: (N,) of the association.
    """
    expected, found = 0.0, 0.0
    for j in range(len(missed)):
        if shown[j] and in_view[j]:
            expected += unhidden[j]
            found += unhidden[j] * (1.0 - missed[j])
    return expected, found


@compiled
def offsets(innovation: Floats, H: Floats, V: Floats, covariance: Floats, weights: Floats) -> tuple[Floats, int]:
    """Mean (m,) of the innovations of measured tracks, each number in its own deviations; and how many there are.

    Zero on average if sensor and tracks agree; what remains is systematic, such as a sensor's wrong pose. Arguments
    are as in `linearised`.
    """
    M, N, m = innovation.shape
    total, count = np.zeros(m), 0
    for j in range(N):
        for k in range(M):
            if weights[k, j] <= SEEN:
                continue
            count += 1
            for a in range(m):
                variance = V[j, a, a]
                for i in range(H.shape[2]):
                    if H[j, a, i] != 0.0:
                        for b in range(H.shape[2]):
                            variance += H[j, a, i] * covariance[j, i, b] * H[j, a, b]
                total[a] += innovation[k, j, a] / np.sqrt(variance)
    if count:
        total /= count
    return total, count
