"""What the scores of a detector say, from labelled sequences: which detections are true, which objects it misses.

Both are logistic in the logarithm of the score's odds. By Bayes' rule the odds that a detection is true are those of
its score among true and among false detections times the ratio of their numbers: the density of clutter of each score,
over the share of true detections that have it, is therefore the density of true detections over those odds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import expit, logit

from camtrack_core.geometry.boxes import Floats, Integers

SMALLEST_ODDS = 1e-6  # of a score: 0 and 1 are not taken for certain
PRIOR = 1e-3  # weight of slope and offset being 0, in samples: where all samples agree, the odds stay finite


@dataclass(frozen=True)
class JudgedFrame:
    """The detections of one frame beside its labels.

    Attributes:
        time: seconds.
        ids: (L,) int, labelled objects.
        taken: (L,) int, the detection of each object, -1 where it was missed.
        scores: (D,) float in [0, 1], of the detections.
        labelled: (D,) bool, whether a detection of no object would be false: the place is one that is labelled.
    """

    time: float
    ids: Integers
    taken: Integers
    scores: Floats
    labelled: NDArray[np.bool_]


@dataclass(frozen=True)
class ScoreModel:
    """Logarithms of odds, as functions of the logarithm of a score's odds.

    Attributes:
        truth_slope, truth_offset: that a detection is true; the offset is that at the score 0.5.
        detection_slope, detection_offset: that a visible object is detected, over the faded score of its detections.
        even_score: at which a detection is as likely true as false.
        even_detection: probability that an object of that score is detected.
        true_detections: a frame.
        samples: detections, and frames of objects, from which all this is told.
    """

    truth_slope: float
    truth_offset: float
    detection_slope: float
    detection_offset: float
    true_detections: float
    samples: tuple[int, int]

    @property
    def even_score(self) -> float:
        return float(expit(-self.truth_offset / max(self.truth_slope, SMALLEST_ODDS)))

    @property
    def even_detection(self) -> float:
        return float(expit(self.detection_offset + self.detection_slope * score_odds(np.array(self.even_score))))


def score_odds(scores: Floats) -> Floats:
    """Logarithms of the odds of scores in [0, 1], finite."""
    return logit(np.clip(scores, SMALLEST_ODDS, 1 - SMALLEST_ODDS))


def logistic(x: Floats, happens: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope, not negative, and offset of the log odds of an event over x (N,), by maximum likelihood."""
    sign = np.where(happens, 1.0, -1.0)
    scale = max(float(np.abs(x).max(initial=0.0)), 1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slope, offset = parameters
        margin = sign * (slope * x / scale + offset)
        pull = -sign * expit(-margin)
        gradient = np.array([(pull * x / scale).sum(), pull.sum()]) + PRIOR * parameters
        return float(np.logaddexp(0.0, -margin).sum() + PRIOR / 2 * (parameters**2).sum()), gradient

    found = minimize(loss, np.zeros(2), jac=True, bounds=[(0.0, None), (None, None)], method="L-BFGS-B")
    return float(found.x[0] / scale), float(found.x[1])


def score_model(
    sequences: Sequence[Sequence[JudgedFrame]], memory: Callable[[float], float], max_silence: float
) -> ScoreModel:
    """The model of the detections of labelled sequences.

    An object counts as one that might be detected while its last detection is at most `max_silence` seconds old, and
    has then the score that a track of it would have.

    Args:
        sequences: of frames, in order.
        memory: largest share of the old score in a track's new one, by the seconds between them.
        max_silence: seconds.
    """
    odds: list[Floats] = []
    true: list[NDArray[np.bool_]] = []
    track_odds: list[float] = []
    detected: list[bool] = []
    frames = [frame for sequence in sequences for frame in sequence]
    for frame in frames:
        hit = np.isin(np.arange(len(frame.scores)), frame.taken)
        counted = hit | frame.labelled
        odds.append(score_odds(frame.scores)[counted])
        true.append(hit[counted])
    for sequence in sequences:
        tracks: dict[int, tuple[float, float, int]] = {}  # score, time of the last detection, detections
        for frame in sequence:
            for identity, row in zip(frame.ids.tolist(), frame.taken.tolist(), strict=True):
                score, seen, hits = tracks.get(identity, (0.0, -np.inf, 0))
                if frame.time - seen <= max_silence:
                    track_odds.append(score)
                    detected.append(row >= 0)
                if row >= 0:
                    share = min(hits / (hits + 1), memory(frame.time - seen)) if hits else 0.0
                    new = share * score + (1 - share) * float(score_odds(frame.scores[row]))
                    tracks[identity] = (new, frame.time, hits + 1)
    all_odds, all_true = np.concatenate([*odds, np.zeros(0)]), np.concatenate([*true, np.zeros(0, np.bool_)])
    truth_slope, truth_offset = logistic(all_odds, all_true)
    detection_slope, detection_offset = logistic(np.array(track_odds), np.array(detected, np.bool_))
    return ScoreModel(
        truth_slope,
        truth_offset,
        detection_slope,
        detection_offset,
        float(all_true.sum()) / max(len(frames), 1),
        (len(all_odds), len(detected)),
    )


def matched(cost: Floats, largest: float) -> Integers:
    """(L,) the detection of each label, -1 for none: one to one, at the least total cost.

    Args:
        cost: (L, D), inf where impossible.
        largest: cost up to which a pair is one.
    """
    taken = np.full(len(cost), -1)
    rows, columns = linear_sum_assignment(np.minimum(cost, largest))
    near = cost[rows, columns] <= largest
    taken[rows[near]] = columns[near]
    return taken


def confusion(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], Floats]:
    """Class names (K,), in lower case and sorted, and the probability (K, K) of each detected class given the true one.

    By Laplace's rule: one pair more is counted in every cell, so that nothing is impossible.

    Args:
        pairs: of the true and the detected class of objects.
    """
    lower = [(true.lower(), detected.lower()) for true, detected in pairs]
    names = sorted({name for pair in lower for name in pair})
    counts = np.ones((len(names), len(names)))
    for true, detected in lower:
        counts[names.index(true), names.index(detected)] += 1
    return names, counts / counts.sum(1, keepdims=True)
