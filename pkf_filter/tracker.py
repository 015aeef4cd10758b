"""The tracker around PKF in the image plane: predict, weigh, update, births and deaths (paper Sec. V)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from camtrack_core.boxes import ArraySet, Boxes2D, Floats, Integers, iou
from camtrack_core.errors import CamtrackError
from camtrack_core.tracks import Tracks2D
from pkf_filter import models
from pkf_filter.config import FilterConfig
from pkf_filter.models import MEASUREMENT_MATRIX as H
from pkf_filter.update import pkf_update
from pkf_filter.weights import AssociationWeights, association_weights

SECOND = 1_000_000_000  # nanoseconds
MAX_CLASSES = 64
MAX_STATES = 2.0**18  # of exact association: a component above some 10 ms is approximated
VOTE_MEMORY = 0.95  # share of its old votes that a track keeps at each measurement
SEEN = 0.5  # probability of a measurement from which a track counts as measured


class TimeError(CamtrackError):
    """A measurement older than the filter's state."""

    cause = "older than the state"


@dataclass(frozen=True)
class _State(ArraySet):
    """All tracks, one row each.

    Attributes:
        mean: (N, 7) float64, covariance: (N, 7, 7) float64, see `models`.
        ids: (N,) int64.
        hits: (N,) int64, frames in which the track was measured.
        seen_ns: (N,) int64, stamp of the last of them.
        scores: (N,) float64.
        votes: (N, MAX_CLASSES) float64, fading sum of the scores of the measurements of each class.
    """

    mean: Floats
    covariance: Floats
    ids: Integers
    hits: Integers
    seen_ns: Integers
    scores: Floats
    votes: Floats

    @classmethod
    def born(cls, first_id: int, time_ns: int, boxes: Boxes2D, config: FilterConfig) -> _State:
        count = len(boxes)
        mean, covariance = models.initial_state(models.to_measurements(boxes.xyxy), config.noise)
        votes = np.zeros((count, MAX_CLASSES))
        votes[np.arange(count), boxes.class_ids] = boxes.scores
        ids = np.arange(first_id, first_id + count)
        return cls(mean, covariance, ids, np.ones(count, np.int64), np.full(count, time_ns), boxes.scores, votes)

    def __add__(self, other: _State) -> _State:
        return _State(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


class Tracker:
    """Boxes of one camera to tracks.

    Attributes:
        dropped: measurements so far that no track can be made of (not finite, without area, of a class id outside
            [0, MAX_CLASSES)) and that were left out.
        approximated: steps so far whose association was too ambiguous for exact weights.
    """

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()
        self.dropped = 0
        self.approximated = 0
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; their ids are not used again."""
        self._time_ns: int | None = None
        self._state = _State.born(self._next_id, 0, Boxes2D.empty(), self.config)

    def step(self, time_ns: int, measurements: Boxes2D) -> Tracks2D:
        """Tracks after the measurements of one frame; an empty frame is a frame too.

        Args:
            time_ns: stamp of the measurements, nanoseconds.
            measurements: M boxes; unusable ones are counted in `dropped`.

        Raises:
            TimeError: `time_ns` lies before the last step's; `reset` first.
        """
        if self._time_ns is not None and time_ns < self._time_ns:
            raise TimeError(f"expected a stamp of at least {self._time_ns} ns, got {time_ns} ns; reset to start afresh")
        boxes = self._usable(measurements)
        z = models.to_measurements(boxes.xyxy)

        self._predict(time_ns)
        V = models.measurement_noise(self._state.mean, self.config.noise)
        overlaps = iou(boxes.xyxy, models.to_boxes(self._state.mean))
        association = self._associate(boxes, z, V, overlaps)
        self._update(time_ns, boxes, z, V, association)
        self._end(time_ns)
        self._start(time_ns, boxes, association, overlaps)
        return self._shown(time_ns)

    def _usable(self, boxes: Boxes2D) -> Boxes2D:
        usable = models.measurable(boxes.xyxy) & np.isfinite(boxes.scores)
        usable &= (boxes.class_ids >= 0) & (boxes.class_ids < MAX_CLASSES)
        self.dropped += int((~usable).sum())
        return boxes[usable]

    def _predict(self, time_ns: int) -> None:
        """Eq. 15 over the time since the last step."""
        dt = 0.0 if self._time_ns is None else (time_ns - self._time_ns) / SECOND
        self._time_ns = time_ns
        state = self._state[self._silence(time_ns) <= self.config.max_silence]  # a gap in time ends tracks, too
        F, W = models.transition(dt), models.process_noise(state.mean, dt, self.config.noise)
        covariance = F @ state.covariance @ F.T + W
        self._state = replace(state, mean=models.plausible(state.mean @ F.T), covariance=covariance)

    def _associate(self, boxes: Boxes2D, z: Floats, V: Floats, overlaps: Floats) -> AssociationWeights:
        """Weights over all joint events of M boxes and N tracks.

        A pair weighs P_D N(z; H mean, H P H' + V), a clutter box its density, a missed track 1 - P_D. The density
        is given relative to the box, so that it means the same for a near and for a far one.
        """
        config, state = self.config, self._state
        distance, log_density = _gaussian(z, state.mean @ H.T, H @ state.covariance @ H.T + V)
        log_likelihood = np.log(config.detection_probability) + log_density
        other_class = boxes.class_ids[:, None] != state.votes.argmax(1)
        log_likelihood[other_class] += np.log(config.class_mismatch)
        log_likelihood[(distance > config.gate_distance) | (overlaps < config.gate_iou)] = -np.inf
        # du dv ds dr = side^2 * s * r  d(u / side) d(v / side) d(log s) d(log r), and side^2 = s
        log_clutter = np.log(config.clutter_density) - 2 * np.log(z[:, models.S]) - np.log(z[:, models.R])
        log_missed = np.full(len(state), np.log1p(-config.detection_probability))
        association = association_weights(log_likelihood, log_clutter, log_missed, MAX_STATES)
        self.approximated += not association.exact
        return association

    def _update(self, time_ns: int, boxes: Boxes2D, z: Floats, V: Floats, association: AssociationWeights) -> None:
        """Eq. 16-17 for the boxes; score and class follow the box that is likeliest to be the track's."""
        state, memory = self._state, self.config.score_memory
        mean, covariance = pkf_update(state.mean, state.covariance, H, V, z, association.weights, self.config.spread)
        seen = association.missed < SEEN
        scores, votes = state.scores.copy(), state.votes.copy()
        if seen.any():
            columns = np.flatnonzero(seen)
            rows = association.weights[:, columns].argmax(0)
            scores[columns] = memory * scores[columns] + (1 - memory) * boxes.scores[rows]
            votes[columns] *= VOTE_MEMORY
            votes[columns, boxes.class_ids[rows]] += boxes.scores[rows]
        self._state = replace(
            state,
            mean=models.plausible(mean),
            covariance=covariance,
            hits=state.hits + seen,
            seen_ns=np.where(seen, time_ns, state.seen_ns),
            scores=scores,
            votes=votes,
        )

    def _end(self, time_ns: int) -> None:
        """Deaths: silent for too long, sooner before the track is confirmed."""
        patience = np.where(self._confirmed(), self.config.max_silence, self.config.tentative_silence)
        self._state = self._state[self._silence(time_ns) <= patience]

    def _start(self, time_ns: int, boxes: Boxes2D, association: AssociationWeights, overlaps: Floats) -> None:
        """Births: boxes that are probably clutter to all tracks and overlap none."""
        alone = overlaps.max(1, initial=0.0) <= self.config.birth_iou
        born = boxes[(association.clutter >= self.config.birth_probability) & alone]
        self._state = self._state + _State.born(self._next_id, time_ns, born, self.config)
        self._next_id += len(born)

    def _shown(self, time_ns: int) -> Tracks2D:
        shown = self._state[self._confirmed() & (self._silence(time_ns) <= self.config.hold)]
        classes = shown.votes.argmax(1)
        return Tracks2D(shown.ids, models.to_boxes(shown.mean), np.clip(shown.scores, 0.0, 1.0), classes)

    def _confirmed(self) -> NDArray[np.bool_]:
        return self._state.hits >= self.config.confirmation_hits

    def _silence(self, time_ns: int) -> Floats:
        """(N,) seconds since each track was measured."""
        return (time_ns - self._state.seen_ns) / SECOND


def _gaussian(z: Floats, expected: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Mahalanobis distance and log density (M, N) of measurements (M, m) given N means (N, m) and covariances."""
    root = np.linalg.cholesky(covariance)
    innovation = (z[:, None] - expected).transpose(1, 2, 0)
    squared = (np.linalg.solve(root, innovation) ** 2).sum(1).T
    log_norm = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1) + z.shape[1] / 2 * np.log(2 * np.pi)
    return np.sqrt(squared), -squared / 2 - log_norm
