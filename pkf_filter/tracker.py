"""The image-plane tracker around PKF: predict, weigh, update, births and deaths (paper Sec. V)."""

from __future__ import annotations

import numpy as np

from camtrack_core.boxes import Boxes2D, Floats, iou
from camtrack_core.errors import CamtrackError
from camtrack_core.tracks import Tracks2D
from pkf_filter import models
from pkf_filter.config import FilterConfig
from pkf_filter.update import pkf_update
from pkf_filter.weights import AssociationWeights, association_weights

SECOND = 1e9  # nanoseconds
MAX_CLASSES = 64


class TimeError(CamtrackError):
    """A measurement older than the filter's state."""


class Tracker:
    """State of all tracks as struct-of-arrays; one row a track.

    Attributes:
        dropped: measurements so far that were not finite and were left out.
    """

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()
        self.dropped = 0
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forgets all tracks; their ids are not used again."""
        self._time_ns: int | None = None
        self._mean: Floats = np.zeros((0, models.STATE))
        self._covariance: Floats = np.zeros((0, models.STATE, models.STATE))
        self._ids = np.zeros(0, np.int64)
        self._hits = np.zeros(0, np.int64)
        self._silence = np.zeros(0)  # seconds since the last measurement
        self._scores = np.zeros(0)
        self._votes = np.zeros((0, MAX_CLASSES))

    def step(self, time_ns: int, measurements: Boxes2D) -> Tracks2D:
        """Tracks after the measurements of one frame; an empty frame is a frame too.

        Raises:
            TimeError: `time_ns` lies before the last step; `reset` first.
        """
        measurements = self._usable(measurements)
        self._predict(time_ns)
        weights = self._associate(measurements)
        self._update(measurements, weights)
        self._end()
        self._start(measurements, weights)
        return self._shown()

    def _usable(self, boxes: Boxes2D) -> Boxes2D:
        usable = np.isfinite(boxes.xyxy).all(1) & np.isfinite(boxes.scores)
        usable &= (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all(1)
        usable &= (boxes.class_ids >= 0) & (boxes.class_ids < MAX_CLASSES)
        self.dropped += int((~usable).sum())
        return boxes[usable]

    def _predict(self, time_ns: int) -> None:
        """Eq. 15 over the time since the last step."""
        elapsed = 0.0 if self._time_ns is None else (time_ns - self._time_ns) / SECOND
        if elapsed < 0:
            raise TimeError(f"expected a time after {self._time_ns} ns, got {time_ns} ns")
        self._time_ns = time_ns
        frames = elapsed * self.config.reference_rate
        F = models.transition(frames)
        # an area that shrinks through zero would turn the box inside out
        stuck = self._mean[:, 2] + frames * self._mean[:, 6] <= models.MIN_SIDE**2
        self._mean[stuck, 6] = 0.0
        self._mean = self._mean @ F.T
        self._covariance = F @ self._covariance @ F.T + frames * np.diag(self.config.process_noise)
        self._silence = self._silence + elapsed

    def _associate(self, measurements: Boxes2D) -> AssociationWeights:
        """Weights over all joint events, with exp(-alpha / IoU) as likelihood and a null that breaks even."""
        config = self.config
        overlap = iou(measurements.xyxy, models.to_xyxy(self._mean))
        with np.errstate(divide="ignore"):
            likelihood = np.where(overlap > config.gate_iou, -config.alpha / overlap, -np.inf)
        # 1 - P_D for a miss, P_D for a hit; clutter so that a pair breaks even at the configured IoU
        hit, miss = np.log(config.detection_probability), np.log1p(-config.detection_probability)
        clutter = -config.alpha / config.break_even_iou + hit - miss
        same = measurements.class_ids[:, None] == self._votes.argmax(1)[None]
        likelihood = likelihood + hit + np.where(same, 0.0, np.log(config.class_mismatch))
        return association_weights(likelihood, np.full(len(measurements), clutter), np.full(len(self._ids), miss))

    def _update(self, measurements: Boxes2D, association: AssociationWeights) -> None:
        """Eq. 16-17; the score and the class follow the measurement that is likeliest to be the track's."""
        z = models.to_measurement(measurements.xyxy)
        V = np.diag(self.config.measurement_noise)
        self._mean, self._covariance = pkf_update(
            self._mean, self._covariance, models.H, V, z, association.weights, self.config.spread
        )
        seen = 1 - association.missed > 0.5
        self._hits = self._hits + seen
        self._silence = np.where(seen, 0.0, self._silence)
        memory = self.config.score_memory
        for row, column in enumerate(association.assignment):
            if column >= 0 and seen[column]:
                self._scores[column] = memory * self._scores[column] + (1 - memory) * measurements.scores[row]
                self._votes[column] *= 0.95
                self._votes[column, measurements.class_ids[row]] += measurements.scores[row]

    def _end(self) -> None:
        """Deaths: too long silent, or never seen a second time."""
        fresh = (self._hits < self.config.confirmation_hits) & (self._silence > self.config.max_silence / 2)
        alive = (self._silence <= self.config.max_silence) & ~fresh & np.isfinite(self._mean).all(1)
        for name in ("_mean", "_covariance", "_ids", "_hits", "_silence", "_scores", "_votes"):
            setattr(self, name, getattr(self, name)[alive])

    def _start(self, measurements: Boxes2D, association: AssociationWeights) -> None:
        """Births: measurements that are clutter to all tracks and overlap none."""
        overlap = iou(measurements.xyxy, models.to_xyxy(self._mean)).max(1, initial=0.0)
        born = (association.clutter >= self.config.birth_weight) & (overlap <= self.config.birth_iou)
        count = int(born.sum())
        if not count:
            return
        z = models.to_measurement(measurements.xyxy[born])
        votes = np.zeros((count, MAX_CLASSES))
        votes[np.arange(count), measurements.class_ids[born]] = measurements.scores[born]
        noise = np.tile(np.diag(self.config.initial_noise), (count, 1, 1))
        self._mean = np.concatenate([self._mean, np.column_stack([z, np.zeros((count, 3))])])
        self._covariance = np.concatenate([self._covariance, noise])
        self._ids = np.concatenate([self._ids, np.arange(self._next_id, self._next_id + count)])
        self._next_id += count
        self._hits = np.concatenate([self._hits, np.ones(count, np.int64)])
        self._silence = np.concatenate([self._silence, np.zeros(count)])
        self._scores = np.concatenate([self._scores, measurements.scores[born]])
        self._votes = np.concatenate([self._votes, votes])

    def _shown(self) -> Tracks2D:
        shown = (self._hits >= self.config.confirmation_hits) & (self._silence <= self.config.hold)
        boxes: Floats = models.to_xyxy(self._mean[shown])
        return Tracks2D(self._ids[shown], boxes, np.clip(self._scores[shown], 0, 1), self._votes[shown].argmax(1))
